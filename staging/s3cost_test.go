package staging_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/storetest"
)

// TestUploadToS3Costs keeps what each shape of an upload costs on S3, with everything at its default: requests to the bucket
// and statements to the index.
func TestUploadToS3Costs(t *testing.T) {
	t.Parallel()
	const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30
	kept := calls{"Session": 1, "SaveSession": 1}
	appended := calls{"Session": 1, "ClaimSession": 1, "SaveSession": 1}
	published := calls{"Session": 1, "FinishSession": 1}
	claimed := calls{"Session": 1, "ClaimSession": 1, "FinishSession": 1}
	completed := calls{"Session": 1, "ClaimSession": 1, "SaveSession": 1, "FinishSession": 1}
	// A large upload saves at most each 64 MiB on its way; that is not asserted to the one.
	less := func(got calls, saves int64) calls {
		if n := got["SaveSession"]; n > 1 && int64(n) <= saves+1 {
			got["SaveSession"] = 1
		}
		return got
	}
	for _, test := range []struct {
		name       string
		size       int64
		patch      bool // one PATCH and an empty PUT; else all in the PUT
		bucket     calls
		put        calls // to the bucket, of the closing PUT
		index      calls
		closeIndex calls
	}{
		{"config, PATCH", 2 * kib, true, calls{}, calls{}, kept, published},
		{"config, PUT", 2 * kib, false, calls{}, calls{}, calls{}, published},
		{"64 KiB, PATCH", 64 * kib, true, calls{}, calls{}, kept, published},
		{"64 KiB + 1, PATCH", 64*kib + 1, true, calls{"Put": 1}, calls{}, appended, published},
		{"64 KiB + 1, PUT", 64*kib + 1, false, calls{}, calls{"Put": 1}, calls{}, claimed},
		{"3 MiB, PATCH", 3 * mib, true, calls{"Put": 1}, calls{}, appended, published},
		{"3 MiB, PUT", 3 * mib, false, calls{}, calls{"Put": 1}, calls{}, claimed},
		{"16 MiB, PATCH", 16 * mib, true, calls{"Put": 1}, calls{}, appended, published},
		{"16 MiB, PUT", 16 * mib, false, calls{}, calls{"Put": 1}, calls{}, claimed},
		{"16 MiB + 1, PATCH", 16*mib + 1, true, calls{"Begin": 1, "PutPart": 1}, calls{"PutPart": 1, "Complete": 1}, appended, completed},
		{"16 MiB + 1, PUT", 16*mib + 1, false, calls{}, calls{"Begin": 1, "PutPart": 2, "Complete": 1}, calls{}, completed},
		{"36 MiB, PATCH", 36 * mib, true, calls{"Begin": 1, "PutPart": 2, "Put": 1}, calls{"Open": 1, "PutPart": 1, "Complete": 1}, appended, completed},
		{"37 MiB, PATCH", 37 * mib, true, calls{"Begin": 1, "PutPart": 3}, calls{"Complete": 1}, appended, completed},
		{"250 MB, PATCH", 250_000_000, true, calls{"Begin": 1, "PutPart": 15}, calls{"Complete": 1}, appended, completed},
		{"1 GiB + 5 MiB, PATCH", gib + 5*mib, true, calls{"Begin": 1, "PutPart": 65}, calls{"Complete": 1}, appended, completed},
		{"1 GiB + 5 MiB, PUT", gib + 5*mib, false, calls{}, calls{"Begin": 1, "PutPart": 65, "Complete": 1}, calls{}, completed},
	} {
		for _, told := range []bool{true, false} {
			if !told && test.size > gib {
				continue // it takes a while
			}
			t.Run(fmt.Sprintf("%s/told=%t", test.name, told), func(t *testing.T) {
				t.Parallel()
				var requests, statements counter
				saves := test.size / (64 * mib)
				objects, meta := newBucket(asS3, 0), memory.NewMetadata(nil)
				s := staging.New(storetest.HookMetadata(meta, statements.hook()), storetest.HookObjects(objects, requests.hook()), nil)
				d, err := digest.FromReader(io.LimitReader(zeros{}, test.size))
				require.NoError(t, err)
				upload, err := s.Start(t.Context(), repository, "")
				require.NoError(t, err)
				statements.take()
				content := staging.Chunk{Body: io.LimitReader(zeros{}, test.size), Size: -1}
				if told {
					content.Size = test.size
				}
				if test.patch {
					_, err = s.Append(t.Context(), repository, upload.ID, content)
					require.NoError(t, err)
					content = staging.Chunk{At: test.size}
				}
				assert.Equal(t, test.bucket, requests.take(), "requests of the PATCH to the bucket")
				assert.Equal(t, test.index, less(statements.take(), saves), "statements of the PATCH")
				_, err = s.Finish(t.Context(), repository, upload.ID, content, d)
				require.NoError(t, err)
				assert.Equal(t, test.put, requests.take(), "requests of the PUT to the bucket")
				assert.Equal(t, test.closeIndex, less(statements.take(), saves), "statements of the PUT")
			})
		}
	}
}

// TestTenThousandPATCHes: small chunks, of the inline limit and of a byte more, cost requests linear in their number, and no
// more part numbers than the parts that they make, and those that crashed claims had reserved. S3's sizes are made small.
func TestTenThousandPATCHes(t *testing.T) {
	t.Parallel()
	const (
		patches, scale = 10_010, 16 // so that some are left for the end
		limit          = 64 << 10 / scale
		perCrash       = 9 // part numbers of a claim
	)
	limits := store.Limits{MinPart: 5 << 20 / scale, PartSize: 16 << 20 / scale, MaxPart: 5 << 30, MaxParts: 10_000}
	options := staging.Options{InlineLimit: limit, SaveBytes: 64 << 20 / scale}
	for _, size := range []int{limit, limit + 1} {
		for _, crashes := range []int{0, 100} {
			t.Run(fmt.Sprintf("%d bytes, %d crashes", size, crashes), func(t *testing.T) {
				t.Parallel()
				w := newWorld(limits)
				w.light = true
				var requests counter
				s := w.replica(options, requests.hook(), storetest.Hook{})
				data := noise(patches*size, 10)
				id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
				total := 0
				for i := range patches {
					piece := func() staging.Chunk { return chunk(data[i*size:(i+1)*size], int64(i*size), true) }
					if crashes > 0 && i%(patches/crashes) == 1 {
						fault := &nth{n: 3, crash: true} // after the claim
						_, err := w.replica(options, fault.hook(), fault.hook()).Append(t.Context(), repository, id, piece())
						if err == nil {
							continue
						}
					}
					_, err := s.Append(t.Context(), repository, id, piece())
					require.NoError(t, err)
				}
				for _, n := range requests.take() {
					total += n
				}
				session, err := w.session(id)
				require.NoError(t, err)
				parts := patches * size / int(limits.MinPart)
				assert.LessOrEqual(t, int(session.LastPart), parts+(crashes+1)*perCrash, "part numbers for %d parts", parts)
				assert.LessOrEqual(t, total, 2*patches+2*parts, "object requests: a tail a chunk, that is read once, and parts")
				assert.LessOrEqual(t, w.readBack.Load(), int64(len(data)), "bytes that were read back")

				_, err = s.Finish(t.Context(), repository, id, staging.Chunk{At: -1}, d)
				require.NoError(t, err)
				last := requests.take()
				assert.LessOrEqual(t, last["Open"], int(limits.MinPart)/size, "tails that are left for the end")
				delete(last, "Open")
				assert.Equal(t, calls{"PutPart": 1, "Complete": 1}, last)
				w.requireContent(t, d, data)
				t.Logf("%d object requests, %d part numbers, %d bytes read back", total, session.LastPart, w.readBack.Load())
			})
		}
	}
}
