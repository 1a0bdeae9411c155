package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/s3"
)

// faults are what happens to requests on their way.
var faults = map[string]faulttest.Fault{
	"CutBeforeItArrives": {Cut: true},
	"CutInMidBody":       {CutRequestAfter: 3},
	"AnswerLost":         {LoseAnswer: true},
	"AnswerCutInMidBody": {CutAnswerAfter: 40},
	"SlowDown":           {Status: http.StatusServiceUnavailable, Code: "SlowDown"},
	"InternalError":      {Status: http.StatusInternalServerError, Code: "InternalError"},
	"RequestTimeout":     {Status: http.StatusBadRequest, Code: "RequestTimeout"},
	"ErrorInsideA200":    {Status: http.StatusOK, Code: "InternalError"},
	"Late":               {Delay: 50 * time.Millisecond},
}

// push stores and reads an object of two parts and a small one, and deletes them. Each step is tried again when it fails, which it
// may do with ErrUnavailable only; the bytes are right whatever failed. It returns how many steps failed.
func push(t *testing.T, o *s3.Objects, recovered func()) (failures int) {
	step := func(name string, call func() error) {
		t.Helper()
		err := call()
		if err != nil {
			failures++
			require.ErrorIs(t, err, store.ErrUnavailable, "%s fails with an error that says to try again", name)
			recovered()
			require.NoError(t, call(), "%s succeeds when it is tried again", name)
		}
	}
	data := pattern(1, 5<<20+1000)
	readAll := func(key store.Key, want []byte) func() error {
		return func() error {
			got, err := read(t, o, key, 0, -1)
			if err != nil {
				require.NotErrorIs(t, err, io.EOF, "a connection that was cut is not the end")
				require.True(t, bytes.HasPrefix(want, got), "what came before a connection was cut is right")
				return err
			}
			require.True(t, bytes.Equal(want, got), "an object is read as it was written")
			return nil
		}
	}
	small := store.NewBlobKey()
	step("Put", func() error { return o.Put(t.Context(), small, bytes.NewReader(data[:1000]), 1000) })
	step("Open", readAll(small, data[:1000]))

	var m store.Multipart
	parts := make([]store.Part, 2)
	step("Begin", func() (err error) { m, err = o.Begin(t.Context(), store.NewBlobKey()); return err })
	for i, part := range []store.Part{{Number: 1, Size: 5 << 20}, {Number: 3, Offset: 5 << 20, Size: 1000}} {
		step("PutPart", func() (err error) {
			parts[i], err = o.PutPart(t.Context(), m, 1, part, bytes.NewReader(data[part.Offset:part.Offset+part.Size]))
			return err
		})
	}
	step("Complete", func() error { return o.Complete(t.Context(), m, parts) })
	step("Open", readAll(m.Key, data))
	step("List", func() error {
		listed, err := o.List(t.Context(), "", "", 10)
		if err == nil {
			require.Len(t, listed, 2)
		}
		return err
	})
	step("Delete", func() error { return o.Delete(t.Context(), []store.Key{small, m.Key}) })
	step("Open", func() error {
		_, err := o.Open(t.Context(), small, 0, -1)
		if errors.Is(err, store.ErrObjectUnknown) {
			return nil
		}
		return err
	})
	step("Begun", func() error {
		begun, err := o.Begun(t.Context(), m.Key)
		for _, lost := range begun { // their Begin was repeated
			step("Abort", func() error { return o.Abort(t.Context(), lost) })
		}
		return err
	})
	return failures
}

// operationsOfAPush tells how many requests of each kind fail, one after the other.
var operationsOfAPush = operations{
	faulttest.PutObject: 1, faulttest.GetObject: 2, faulttest.CreateMultipartUpload: 1, faulttest.UploadPart: 2,
	faulttest.CompleteMultipartUpload: 1, faulttest.ListObjectsV2: 1, faulttest.DeleteObjects: 1, faulttest.ListMultipartUploads: 1,
}

func TestPushSurvivesAFaultOfAnyRequest(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		for name, fault := range faults {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				proxy := faulttest.NewHTTP(t, server.Endpoint())
				for operation, count := range operationsOfAPush {
					for n := range count {
						o := newObjects(t, newClient(server, proxy.URL(), impatient), server.Bucket(t), nil)
						proxy.ResetCounts()
						proxy.Intercept(faulttest.Nth(operation, n+1, fault))
						push(t, o, func() {})
						require.Greater(t, proxy.Counts()[operation], n, "the faulty request must have been made")
					}
				}
			})
		}
	})
}

func TestPushGoesOnAfterAnOutage(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		for name, fault := range faults {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				proxy := faulttest.NewHTTP(t, server.Endpoint())
				for operation := range operationsOfAPush {
					o := newObjects(t, newClient(server, proxy.URL(), impatient), server.Bucket(t), nil)
					proxy.Intercept(faulttest.Every(fault, operation))
					failures := push(t, o, func() { proxy.Intercept(nil) })
					if fault.Cut || fault.Status >= http.StatusBadRequest {
						require.Equal(t, 1, failures, "%s fails while it cannot get through", operation)
					}
				}
			})
		}
	})
}

func TestNothingIsBelievedStoredThatIsNot(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		bucket := server.Bucket(t)
		proxy := faulttest.NewHTTP(t, server.Endpoint())
		o, direct := newObjects(t, newClient(server, proxy.URL(), impatient), bucket, nil), newObjects(t, newClient(server, ""), bucket, nil)
		data := pattern(1, 3<<20)
		for name, fault := range faults {
			proxy.Intercept(faulttest.Every(fault, faulttest.PutObject))
			key := store.NewBlobKey()
			err := o.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)))
			got, failed := read(t, direct, key, 0, -1)
			switch {
			case failed == nil:
				require.True(t, bytes.Equal(data, got), "an object is there whole, or not at all (%s)", name)
			default:
				require.ErrorIs(t, failed, store.ErrObjectUnknown)
				require.ErrorIs(t, err, store.ErrUnavailable, "a Put that stored nothing fails (%s)", name)
			}
		}
	})
}

func TestRequestsAreRepeatedWithTheWholeBody(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		proxy := faulttest.NewHTTP(t, server.Endpoint())
		var seen atomic.Int32
		proxy.Intercept(func(*http.Request) (fault faulttest.Fault) {
			if seen.Add(1) < 3 {
				fault.CutRequestAfter = 1 << 20
			}
			return fault
		})
		o, key, data := newObjects(t, newClient(server, proxy.URL(), impatient), server.Bucket(t), nil), store.NewBlobKey(), pattern(1, 6<<20)
		require.NoError(t, o.Put(t.Context(), key, bytes.NewReader(data), int64(len(data))))
		require.Equal(t, map[faulttest.Operation]int{faulttest.PutObject: 3}, proxy.Counts())
		requireObject(t, o, key, data)
	})
}

func TestReadThatBreaksOffGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		proxy := faulttest.NewHTTP(t, server.Endpoint())
		o, key, data := newObjects(t, newClient(server, proxy.URL(), impatient), server.Bucket(t), nil), store.NewBlobKey(), pattern(1, 6<<20)
		require.NoError(t, o.Put(t.Context(), key, bytes.NewReader(data), int64(len(data))))
		for name, test := range map[string]struct {
			after int64 // bytes, whereupon each answer is cut
			whole bool
		}{
			"each answer brings much":   {2 << 20, true},
			"each answer brings little": {1000, false},
		} {
			proxy.Intercept(func(*http.Request) faulttest.Fault { return faulttest.Fault{CutAnswerAfter: test.after} })
			proxy.ResetCounts()
			got, err := read(t, o, key, 1000, -1)
			require.True(t, bytes.HasPrefix(data[1000:], got), name)
			if test.whole {
				require.NoError(t, err, name)
				require.Len(t, got, len(data)-1000, name)
			} else {
				require.ErrorIs(t, err, store.ErrUnavailable, name)
				require.Equal(t, map[faulttest.Operation]int{faulttest.GetObject: 3}, proxy.Counts(), name)
			}
		}
	})
}

func TestBeginIsNeverRepeated(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		for name, fault := range faults {
			proxy := faulttest.NewHTTP(t, server.Endpoint())
			var seen atomic.Int32
			proxy.Intercept(func(*http.Request) (f faulttest.Fault) {
				if seen.Add(1) == 1 {
					f = fault
				}
				return f
			})
			o, key := newObjects(t, newClient(server, proxy.URL(), impatient), server.Bucket(t), nil), store.NewBlobKey()
			if _, err := o.Begin(t.Context(), key); err != nil {
				require.ErrorIs(t, err, store.ErrUnavailable)
			}
			require.Equal(t, map[faulttest.Operation]int{faulttest.CreateMultipartUpload: 1}, proxy.Counts(),
				"nobody would find a second upload of the key: %s", name)
			begun, err := o.Begun(t.Context(), key)
			require.NoError(t, err)
			require.LessOrEqual(t, len(begun), 1, "what was begun is found by its key: %s", name)
		}
	})
}

func TestServerThatIsDownIsUnavailable(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t testing.TB) *backendtest.S3Server{"MinIO": backendtest.NewMinIO, "versitygw": backendtest.NewVersityGW} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			o := newObjects(t, newClient(server, "", impatient), server.Bucket(t), nil)
			before := store.NewBlobKey()
			put(t, o, before, pattern(1, 1000))
			m, err := o.Begin(t.Context(), store.NewBlobKey())
			require.NoError(t, err)
			part := putPart(t, o, m, store.Part{Number: 1}, pattern(2, 1000))

			server.Kill()
			for method, err := range everyCall(t, o, m, part) {
				require.ErrorIs(t, err, store.ErrUnavailable, "%s on a server that is down", method)
			}
			server.Start(t)
			requireObject(t, o, before, pattern(1, 1000))
			require.NoError(t, o.Complete(t.Context(), m, []store.Part{part}), "an upload is continued when the server is back")
			requireObject(t, o, m.Key, pattern(2, 1000))
		})
	}
}

// everyCall makes every call, and returns their errors.
func everyCall(t *testing.T, o *s3.Objects, m store.Multipart, part store.Part) map[string]error {
	t.Helper()
	_, open := o.Open(t.Context(), store.NewBlobKey(), 0, -1)
	_, begin := o.Begin(t.Context(), store.NewBlobKey())
	_, putPart := o.PutPart(t.Context(), m, 1, store.Part{Number: 9, Size: 1}, bytes.NewReader([]byte("x")))
	_, begun := o.Begun(t.Context(), m.Key)
	_, list := o.List(t.Context(), "", "", 10)
	return map[string]error{
		"Put":      o.Put(t.Context(), store.NewBlobKey(), bytes.NewReader([]byte("x")), 1),
		"Open":     open,
		"Delete":   o.Delete(t.Context(), []store.Key{store.NewBlobKey()}),
		"Begin":    begin,
		"PutPart":  putPart,
		"Complete": o.Complete(t.Context(), m, []store.Part{part}),
		"Abort":    o.Abort(t.Context(), m),
		"Begun":    begun,
		"List":     list,
		"Ping":     o.Ping(t.Context()),
		"Probe":    o.Probe(t.Context()),
	}
}

func TestErrorsOfTheReaderAreNotTheStores(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		o := newObjects(t, newClient(server, ""), server.Bucket(t), nil)
		m, err := o.Begin(t.Context(), store.NewBlobKey())
		require.NoError(t, err)
		broken := errors.New("broken disk")
		for name, r := range map[string]io.ReadSeeker{
			"fails":        &failing{Reader: bytes.NewReader(pattern(1, 100)), after: 60, err: broken},
			"ends early":   bytes.NewReader(pattern(1, 60)),
			"cannot seek":  unseekable{bytes.NewReader(pattern(1, 100))},
			"fails at all": &failing{Reader: bytes.NewReader(pattern(1, 100)), err: broken},
		} {
			key := store.NewBlobKey()
			_, errPart := o.PutPart(t.Context(), m, 1, store.Part{Number: 1, Size: 100}, r)
			for method, err := range map[string]error{"Put": o.Put(t.Context(), key, r, 100), "PutPart": errPart} {
				require.Error(t, err, "%s of a reader that %s", method, name)
				require.NotErrorIs(t, err, store.ErrUnavailable, "%s of a reader that %s is not to be tried again", method, name)
			}
			_, err := o.Open(t.Context(), key, 0, -1)
			require.ErrorIs(t, err, store.ErrObjectUnknown)
		}
	})
}

// failing fails after some bytes.
type failing struct {
	*bytes.Reader
	after int64
	err   error
}

func (f *failing) Read(p []byte) (int, error) {
	at := f.Size() - int64(f.Len())
	if at >= f.after {
		return 0, f.err
	}
	return f.Reader.Read(p[:min(int64(len(p)), f.after-at)])
}

type unseekable struct{ io.Reader }

func (unseekable) Seek(int64, int) (int64, error) { return 0, errors.New("cannot seek") }

func TestEndedContextIsToldAsSuch(t *testing.T) {
	t.Parallel()
	server := backendtest.MinIO(t)
	proxy := faulttest.NewHTTP(t, server.Endpoint())
	proxy.Intercept(faulttest.Every(faulttest.Fault{Hold: faulttest.NewHold()}))
	o := newObjects(t, newClient(server, proxy.URL()), "bucket", nil)
	for _, want := range []error{context.Canceled, context.DeadlineExceeded} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if errors.Is(want, context.Canceled) {
			ctx, cancel = context.WithCancel(t.Context())
			cancel()
		}
		err := o.Put(ctx, store.NewBlobKey(), bytes.NewReader([]byte("x")), 1)
		require.ErrorIs(t, err, want)
		require.NotErrorIs(t, err, store.ErrUnavailable, "it is the caller who gave up")
		cancel()
	}
}
