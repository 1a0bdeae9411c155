package s3_test

import (
	"bytes"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/store"
)

// operations are the requests that a call makes.
type operations map[faulttest.Operation]int

// Each call makes these requests and no others: on a client's path no copy, no list, no head, and no more than one each.
func TestCallsMakeFewRequests(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		proxy := faulttest.NewHTTP(t, server.Endpoint())
		o := newObjects(t, newClient(server, proxy.URL()), server.Bucket(t), nil)
		requests := func(name string, want operations, call func() error) {
			t.Helper()
			proxy.ResetCounts()
			require.NoError(t, call(), name)
			require.Equal(t, map[faulttest.Operation]int(want), proxy.Counts(), "the requests of %s", name)
		}
		readRange := func(key store.Key, offset, length int64) func() error {
			return func() error { _, err := read(t, o, key, offset, length); return err }
		}
		small, large, size := store.NewBlobKey(), store.NewBlobKey(), int64(5<<20)
		data := pattern(1, int(size)+100)

		requests("Put", operations{faulttest.PutObject: 1}, func() error {
			return o.Put(t.Context(), small, bytes.NewReader(data[:100]), 100)
		})
		requests("Put of a part's size", operations{faulttest.PutObject: 1}, func() error {
			return o.Put(t.Context(), large, bytes.NewReader(data), int64(len(data)))
		})
		requests("Open", operations{faulttest.GetObject: 1}, readRange(small, 0, -1))
		requests("Open of a range", operations{faulttest.GetObject: 1}, readRange(large, 1000, 10_000))
		requests("Open of what is absent", operations{faulttest.GetObject: 1}, func() error {
			_, err := o.Open(t.Context(), store.NewBlobKey(), 0, -1)
			require.ErrorIs(t, err, store.ErrObjectUnknown)
			return nil
		})

		var m store.Multipart
		parts := make([]store.Part, 2)
		requests("Begin", operations{faulttest.CreateMultipartUpload: 1}, func() (err error) {
			m, err = o.Begin(t.Context(), store.NewBlobKey())
			return err
		})
		requests("PutPart", operations{faulttest.UploadPart: 1}, func() (err error) {
			parts[0], err = o.PutPart(t.Context(), m, 1, store.Part{Number: 1, Size: size}, bytes.NewReader(data[:size]))
			return err
		})
		requests("PutPart of the last part", operations{faulttest.UploadPart: 1}, func() (err error) {
			parts[1], err = o.PutPart(t.Context(), m, 1, store.Part{Number: 5, Offset: size, Size: 100}, bytes.NewReader(data[size:]))
			return err
		})
		complete := func() error { return o.Complete(t.Context(), m, parts) }
		requests("Begun", operations{faulttest.ListMultipartUploads: 1}, func() error {
			begun, err := o.Begun(t.Context(), m.Key)
			require.Equal(t, []store.Multipart{m}, begun)
			return err
		})
		requests("Complete", operations{faulttest.CompleteMultipartUpload: 1}, complete)
		again := operations{faulttest.CompleteMultipartUpload: 1, faulttest.GetObject: 1}
		proxy.ResetCounts()
		require.NoError(t, complete())
		if !maps.Equal(proxy.Counts(), map[faulttest.Operation]int{faulttest.CompleteMultipartUpload: 1}) { // where a repetition succeeds
			require.Equal(t, map[faulttest.Operation]int(again), proxy.Counts(), "the requests of a repeated Complete")
		}
		requireObject(t, o, m.Key, data)

		requests("Abort", operations{faulttest.AbortMultipartUpload: 1}, func() error { return o.Abort(t.Context(), m) })
		requests("List", operations{faulttest.ListObjectsV2: 1}, func() error {
			listed, err := o.List(t.Context(), "", "", 1000)
			require.Len(t, listed, 3)
			return err
		})
		requests("Delete of 2,001 keys", operations{faulttest.DeleteObjects: 3}, func() error {
			keys := []store.Key{small, large, m.Key}
			for len(keys) < 2001 {
				keys = append(keys, store.NewBlobKey())
			}
			return o.Delete(t.Context(), keys)
		})
		requests("Delete of nothing", operations{}, func() error { return o.Delete(t.Context(), nil) })
		requests("PresignGet", operations{}, func() error { _, err := o.PresignGet(t.Context(), small); return err })
		requests("Ping", operations{faulttest.GetObject: 1}, func() error { return o.Ping(t.Context()) })
	})
}

func TestPrefixStandsBeforeEveryKey(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		bucket := server.Bucket(t)
		plain := newObjects(t, newClient(server, ""), bucket, nil)
		one, two := newObjects(t, newClient(server, ""), bucket, prefixed("one")), newObjects(t, newClient(server, ""), bucket, prefixed("two/"))
		key := store.NewBlobKey()
		put(t, one, key, pattern(1, 100))
		put(t, two, key, pattern(2, 100))
		requireObject(t, one, key, pattern(1, 100))
		requireObject(t, two, key, pattern(2, 100))
		requireObject(t, plain, "one/"+key, pattern(1, 100))
		put(t, plain, "one-more", pattern(3, 1))

		listed, err := one.List(t.Context(), store.BlobPrefix, "", 10)
		require.NoError(t, err)
		require.Len(t, listed, 1, "a store lists nothing of another prefix")
		require.Equal(t, key, listed[0].Key, "keys are returned without the prefix")
		mine, err := one.Begin(t.Context(), key)
		require.NoError(t, err)
		_, err = two.Begin(t.Context(), key)
		require.NoError(t, err)
		begun, err := one.Begun(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, []store.Multipart{mine}, begun, "a store finds no upload of another prefix")
		require.NoError(t, one.Delete(t.Context(), []store.Key{key}))
		requireObject(t, two, key, pattern(2, 100))
	})
}

func TestListLeavesOutWhatIsNotTheStores(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		bucket, client := server.Bucket(t), newClient(server, "")
		o := newObjects(t, client, bucket, nil)
		for _, name := range []string{"README.md", "blobs/Upper", "blobs/a b", "blobs/x.txt"} {
			putNamed(t, client, bucket, name)
		}
		want := []store.Key{"blobs/a", "blobs/b", "blobs/y"}
		for _, key := range want {
			put(t, o, key, []byte("x"))
		}
		for _, limit := range []int{1, 2, 3, 100} {
			var got []store.Key
			for after := store.Key(""); ; {
				page, err := o.List(t.Context(), "", after, limit)
				require.NoError(t, err)
				for _, object := range page {
					got = append(got, object.Key)
				}
				if len(page) < limit {
					break
				}
				after = got[len(got)-1]
			}
			require.Equal(t, want, got, "a page of %d is full as long as there is more, whatever else is in the bucket", limit)
		}
	})
}
