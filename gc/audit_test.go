package gc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/storetest"
)

// audit audits, and returns what it found by kind and key.
func (w *world) audit(t *testing.T, opts gc.AuditOptions) ([]gc.AuditFinding, gc.AuditReport) {
	t.Helper()
	var found []gc.AuditFinding
	opts.Found = func(f gc.AuditFinding) error {
		found = append(found, f)
		return nil
	}
	report, err := gc.Audit(t.Context(), w.meta, w.objects, &opts)
	require.NoError(t, err)
	require.True(t, report.Done)
	total := 0
	for _, n := range report.Findings {
		total += n
	}
	require.Len(t, found, total, "the report counts what was found")
	return found, report
}

func (w *world) write(t *testing.T, key store.Key, data string) {
	t.Helper()
	require.NoError(t, w.objects.Put(t.Context(), key, bytes.NewReader([]byte(data)), int64(len(data))))
}

// planted is a world with one fault of each kind.
type planted struct {
	*world
	orphan, staged, foreign     store.Key
	missing, shorter, flipped   store.Content
	longer                      store.Content
	orphanUpload, contentUpload store.Multipart
	broken                      digest.Digest // the image that refers to missing content
}

func plant(t *testing.T) *planted {
	t.Helper()
	p := &planted{world: newWorld()}
	ctx := t.Context()
	var err error
	for i := range 20 {
		w := p.push(t, repository, fmt.Sprint("sound ", i))
		p.put(t, manifest{text: fmt.Sprint("sound image ", i), layers: []digest.Digest{w.Digest}})
	}
	p.orphan, p.staged, p.foreign = store.NewBlobKey(), store.NewUploadKey(store.NewID()), "backups/2026"
	p.write(t, p.orphan, "orphan")
	p.write(t, p.staged, "staged")
	p.write(t, p.foreign, "foreign")
	p.orphanUpload, err = p.objects.Begin(ctx, p.orphan)
	require.NoError(t, err)
	p.missing, p.shorter, p.longer = p.push(t, repository, "missing"), p.push(t, repository, "shorter"), p.push(t, repository, "longer")
	p.flipped = p.push(t, repository, "flipped")
	p.broken = p.put(t, manifest{text: "broken image", layers: []digest.Digest{p.missing.Digest}})
	require.NoError(t, p.objects.Delete(ctx, []store.Key{p.missing.Key}))
	p.write(t, p.shorter.Key, "short")
	p.write(t, p.longer.Key, "longer than before")
	p.write(t, p.flipped.Key, "flippeD")
	sound := p.push(t, repository, "begun twice")
	p.contentUpload, err = p.objects.Begin(ctx, sound.Key)
	require.NoError(t, err)
	return p
}

func kindsOf(found []gc.AuditFinding) map[gc.AuditKind][]store.Key {
	kinds := map[gc.AuditKind][]store.Key{}
	for _, f := range found {
		kinds[f.Kind] = append(kinds[f.Kind], f.Key)
	}
	return kinds
}

func TestAuditFindsEachPlantedFault(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 2, 3, 7, 1000} {
		synctest.Test(t, func(t *testing.T) {
			p := plant(t)
			found, report := p.audit(t, gc.AuditOptions{Batch: batch})
			kinds := kindsOf(found)
			assert.ElementsMatch(t, []store.Key{p.shorter.Key, p.longer.Key}, kinds[gc.AuditWrongSize])
			delete(kinds, gc.AuditWrongSize)
			want := map[gc.AuditKind][]store.Key{
				gc.AuditOrphan: {p.orphan}, gc.AuditStaged: {p.staged}, gc.AuditForeign: {p.foreign},
				gc.AuditMissing: {p.missing.Key}, gc.AuditBroken: {p.missing.Key}, gc.AuditMultipart: {p.orphan},
			}
			assert.Equal(t, want, kinds, "an audit that is not deep, with batches of %d", batch)
			assert.Equal(t, int64(27), report.Objects)
			assert.Equal(t, int64(25), report.Contents)
			assert.Zero(t, report.Read)
			assert.Zero(t, report.Repaired)

			found, report = p.audit(t, gc.AuditOptions{Batch: batch, Deep: true})
			kinds = kindsOf(found)
			delete(kinds, gc.AuditWrongSize)
			want[gc.AuditWrongData] = []store.Key{p.flipped.Key}
			assert.ElementsMatch(t, []store.Key{p.orphan, p.contentUpload.Key}, kinds[gc.AuditMultipart])
			want[gc.AuditMultipart] = kinds[gc.AuditMultipart]
			assert.Equal(t, want, kinds, "a deep audit, with batches of %d", batch)
			assert.Positive(t, report.Read)
			for _, f := range found {
				if f.Kind == gc.AuditBroken {
					assert.Equal(t, p.broken, f.Manifest)
					assert.Equal(t, repository, f.Repository)
				}
				assert.False(t, f.Repaired, "an audit changes nothing that it was not told to")
			}
		})
	}
}

func TestAuditReportsIndexesOverBrokenManifestsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx := t.Context()
		layer := w.push(t, repository, "layer")
		for _, name := range []string{"team/other", "team/whole"} {
			_, err := w.meta.Mount(ctx, layer.Digest, repository, name)
			require.NoError(t, err)
		}
		amd := w.put(t, manifest{text: "amd64", layers: []digest.Digest{layer.Digest}})
		arm := w.put(t, manifest{text: "arm64", layers: []digest.Digest{layer.Digest}})
		index := w.put(t, manifest{text: "index", children: []digest.Digest{amd, arm}})
		nested := w.put(t, manifest{text: "nested", children: []digest.Digest{index, amd}})
		both := w.put(t, manifest{text: "both", children: []digest.Digest{nested}, layers: []digest.Digest{layer.Digest}})
		w.put(t, manifest{text: "signature", subject: index})
		w.put(t, manifest{text: "sound"})
		other := w.put(t, manifest{repository: "team/other", text: "arm64", layers: []digest.Digest{layer.Digest}})
		otherIndex := w.put(t, manifest{repository: "team/other", text: "of others", children: []digest.Digest{other}})
		w.put(t, manifest{repository: "team/whole", text: "amd64"}) // the same digest, without what is lost
		w.put(t, manifest{repository: "team/whole", text: "index", children: []digest.Digest{amd}})
		require.NoError(t, w.objects.Delete(ctx, []store.Key{layer.Key}))

		found, report := w.audit(t, gc.AuditOptions{})
		var broken []store.ManifestAt
		for _, f := range found {
			if f.Kind == gc.AuditBroken {
				broken = append(broken, store.ManifestAt{Repository: f.Repository, Digest: f.Manifest})
				assert.Equal(t, layer.Digest, f.Digest)
				assert.Equal(t, layer.Key, f.Key)
			}
		}
		require.ElementsMatch(t, []store.ManifestAt{
			{Repository: repository, Digest: amd}, {Repository: repository, Digest: arm}, {Repository: repository, Digest: index},
			{Repository: repository, Digest: nested}, {Repository: repository, Digest: both},
			{Repository: "team/other", Digest: other}, {Repository: "team/other", Digest: otherIndex},
		}, broken)
		require.Equal(t, map[gc.AuditKind]int{gc.AuditMissing: 1, gc.AuditBroken: 7}, report.Findings)
	})
}

func TestAuditTellsHowFarItHasReadALargeObject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.push(t, repository, strings.Repeat("x", 5<<20))
		var read []int64
		w.audit(t, gc.AuditOptions{Deep: true, Progress: func(r gc.AuditReport) { read = append(read, r.Read>>20) }})
		require.Equal(t, []int64{1, 2, 3, 4, 5, 5, 5}, read, "every MiB, at the object's end, and at the batch's")
	})
}

func TestAuditDoesNotRepairWhatAnotherIndexMayKnow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, other := newWorld(), newWorld()
		content := w.push(t, repository, "a")
		time.Sleep(48 * time.Hour)
		mistaken := &world{meta: other.meta, objects: w.objects, calls: map[string]int{}}
		_, err := gc.Audit(t.Context(), mistaken.meta, mistaken.objects, &gc.AuditOptions{Repair: true})
		require.ErrorIs(t, err, gc.ErrUnrelated)
		require.Empty(t, mistaken.garbage(t), "nothing is condemned")
		_, report := mistaken.audit(t, gc.AuditOptions{})
		require.Equal(t, 1, report.Findings[gc.AuditOrphan], "what changes nothing is not refused")
		_, report = mistaken.audit(t, gc.AuditOptions{Repair: true, Force: true})
		require.Equal(t, 1, report.Repaired)

		require.NoError(t, w.meta.DeleteContent(t.Context(), repository, content.Digest))
		time.Sleep(24 * time.Hour)
		w.once(t, nil)
		w.write(t, store.NewBlobKey(), "orphan")
		time.Sleep(24 * time.Hour)
		_, report = w.audit(t, gc.AuditOptions{Repair: true})
		require.Equal(t, 1, report.Repaired, "an index that names nothing but garbage is the right one")
		_, report = other.audit(t, gc.AuditOptions{Repair: true})
		require.Zero(t, report.Objects, "a registry that is empty has nothing to be refused for")
	})
}

// of is the index of one world over the objects of another.
func (w *world) of(objects *world) *world {
	return &world{meta: w.meta, objects: objects.objects, calls: map[string]int{}}
}

func (w *world) requireUnrelated(t *testing.T, opts gc.AuditOptions) {
	t.Helper()
	opts.Repair = true
	_, err := gc.Audit(t.Context(), w.meta, w.objects, &opts)
	require.ErrorIs(t, err, gc.ErrUnrelated)
	require.Empty(t, w.garbage(t), "nothing is condemned")
	rows, err := w.meta.StoredContents(t.Context(), "", 1<<20)
	require.NoError(t, err)
	require.False(t, slices.ContainsFunc(rows, func(row store.StoredContent) bool { return row.Missing }), "nothing is marked")
}

func TestAuditDoesNotRepairTwoRegistries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs, empty := newWorld(), newWorld(), newWorld()
		for i := range 150 {
			ours.push(t, repository, text(i))
			theirs.push(t, repository, text(i))
		}
		foreign := newWorld()
		foreign.write(t, "backups/2026", "foreign")
		staged := newWorld()
		staged.write(t, store.NewUploadKey(store.NewID()), "of somebody else's upload")
		time.Sleep(48 * time.Hour)
		last := ours.stored(t)[149].Key
		for what, objects := range map[string]*world{"AnotherBucket": theirs, "NoObject": empty, "NoneOfAStore": foreign} {
			for _, opts := range []gc.AuditOptions{{}, {Batch: 1}, {After: last}} {
				t.Log(what, opts.Batch, opts.After)
				ours.of(objects).requireUnrelated(t, opts)
			}
		}
		empty.of(staged).requireUnrelated(t, gc.AuditOptions{})
		_, report := ours.audit(t, gc.AuditOptions{Repair: true, After: last})
		require.Empty(t, report.Findings)

		require.NoError(t, ours.objects.Delete(t.Context(), keysOf(ours.stored(t)[:149])))
		found, _ := ours.audit(t, gc.AuditOptions{})
		require.Len(t, found, 149)
		ours.requireUnrelated(t, gc.AuditOptions{})
		_, report = ours.audit(t, gc.AuditOptions{Repair: true, Force: true})
		require.Equal(t, 149, report.Repaired)
		_, report = ours.audit(t, gc.AuditOptions{Repair: true})
		require.Equal(t, 149, report.Findings[gc.AuditMissing], "what is marked as missing is not expected to be there")
		require.NoError(t, ours.objects.Delete(t.Context(), []store.Key{last}))
		ours.audit(t, gc.AuditOptions{Repair: true, Force: true})
		_, report = ours.audit(t, gc.AuditOptions{Repair: true})
		require.Zero(t, report.Repaired, "where all is marked there is nothing left to be refused for")
	})
}

func TestAuditRepairsASmallRegistry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		kept, lost := w.push(t, repository, "kept"), w.push(t, repository, "lost")
		require.NoError(t, w.objects.Delete(t.Context(), []store.Key{lost.Key}))
		w.write(t, "blobs/00000000-0000-0000-0000-000000000000", "orphan")
		time.Sleep(48 * time.Hour)
		_, report := w.audit(t, gc.AuditOptions{Batch: 1, Repair: true})
		require.Equal(t, 2, report.Repaired, "one object that is named, and one content that has its object, are enough")

		require.NoError(t, w.objects.Delete(t.Context(), []store.Key{kept.Key}))
		_, err := gc.Audit(t.Context(), w.meta, w.objects, &gc.AuditOptions{Repair: true})
		require.ErrorIs(t, err, gc.ErrUnrelated, "one that has lost all its objects may as well be another")
		_, report = w.audit(t, gc.AuditOptions{Repair: true, Force: true})
		require.Equal(t, 1, report.Repaired)
	})
}

func TestAuditOfAnUploadOrOfWhatIsCollectedMeanwhileIsNotRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		id, key := store.NewID(), store.NewBlobKey()
		require.NoError(t, w.meta.CreateSession(t.Context(), id, repository, ""))
		_, err := w.meta.ClaimSession(t.Context(), store.Claim{
			SessionRef: store.SessionRef{ID: id, Repository: repository}, Reserve: store.Reservation{Blob: key},
		})
		require.NoError(t, err)
		w.write(t, key, "under way")
		_, report := w.audit(t, gc.AuditOptions{Repair: true, SafeAge: time.Nanosecond})
		require.Empty(t, report.Findings, "the only object is an upload's")

		w = newWorld()
		content := w.push(t, repository, "the only content")
		require.NoError(t, w.meta.DeleteContent(t.Context(), repository, content.Digest))
		time.Sleep(24 * time.Hour)
		listed := 0
		hook := storetest.Hook{After: func(_ context.Context, method string, err error) error {
			if method == "List" {
				if listed++; listed == 1 {
					w.once(t, nil)
					time.Sleep(time.Hour)
					w.once(t, nil)
				}
			}
			return err
		}}
		ended, err := gc.Audit(t.Context(), w.meta, storetest.HookObjects(w.objects, hook), &gc.AuditOptions{Repair: true})
		require.NoError(t, err)
		require.Empty(t, ended.Findings)
		require.Empty(t, w.stored(t), "it was collected after it was listed")
	})
}

func TestAuditLeavesAStartingReplicaAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.write(t, store.ProbePrefix+"1", "of a probe")
		for _, opts := range []gc.AuditOptions{{}, {Deep: true}, {Repair: true, SafeAge: time.Nanosecond}} {
			_, report := w.audit(t, opts)
			require.Empty(t, report.Findings, "a replica that has begun to start, even if it is the first one")
		}
		w.push(t, repository, "content")
		time.Sleep(time.Hour)
		found, _ := w.audit(t, gc.AuditOptions{Repair: true})
		require.Equal(t, map[gc.AuditKind][]store.Key{gc.AuditStaged: {store.ProbePrefix + "1"}}, kindsOf(found), "one that was killed")
		require.False(t, found[0].Repaired)
		time.Sleep(24 * time.Hour)
		_, report := w.audit(t, gc.AuditOptions{Repair: true})
		require.Equal(t, 1, report.Repaired)
	})
}

func keysOf(objects []store.Object) []store.Key {
	keys := make([]store.Key, len(objects))
	for i, o := range objects {
		keys[i] = o.Key
	}
	return keys
}

func TestAuditRepairsWhatCanBe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := plant(t)
		time.Sleep(24*time.Hour - time.Second)
		repair := gc.AuditOptions{Deep: true, Repair: true}
		found, _ := p.audit(t, repair)
		for _, f := range found {
			young := f.Kind == gc.AuditOrphan || f.Kind == gc.AuditStaged || f.Multipart == p.orphanUpload.ID
			assert.Equal(t, !young && f.Kind != gc.AuditForeign && f.Kind != gc.AuditBroken, f.Repaired, "%+v", f)
		}
		for _, content := range []store.Content{p.missing, p.shorter, p.longer, p.flipped} {
			assert.False(t, p.has(t, repository, content.Digest), "content whose object is not right reads as absent")
		}
		assert.True(t, p.hasObject(t, p.orphan), "young orphans are left alone")

		time.Sleep(time.Second)
		found, report := p.audit(t, repair)
		assert.Equal(t, 3, report.Repaired, "both orphans, and a multipart upload with one: %+v", found)
		for _, f := range found {
			if f.Digest != "" && f.Kind != gc.AuditBroken {
				assert.True(t, f.Marked, "what was marked is told again, as that: %+v", f)
			}
		}
		assert.True(t, p.hasObject(t, p.orphan), "an audit condemns, and deletes nothing")

		again := p.push(t, repository, "missing")
		assert.True(t, p.has(t, repository, again.Digest), "a push heals content")
		p.write(t, p.flipped.Key, "flipped") // somebody has restored it
		found, _ = p.audit(t, gc.AuditOptions{Repair: true})
		assert.Equal(t, []store.Key{p.flipped.Key}, kindsOf(found)[gc.AuditFound])
		assert.True(t, p.has(t, repository, p.flipped.Digest), "content whose object is there again is unmarked")

		time.Sleep(time.Hour)
		p.once(t, &gc.Options{Grace: 1000 * time.Hour})
		assert.False(t, p.hasObject(t, p.orphan), "the collector deletes what was condemned")
		assert.False(t, p.hasObject(t, p.staged), "the collector deletes what was condemned")
		assert.True(t, p.hasObject(t, p.foreign), "what is not the store's is never touched")
		begun, err := p.objects.Begun(t.Context(), p.orphan)
		require.NoError(t, err)
		assert.Empty(t, begun)
	})
}

func TestAuditDoesNotUnmarkWhatStillHasWrongBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := plant(t)
		p.audit(t, gc.AuditOptions{Deep: true, Repair: true})
		found, _ := p.audit(t, gc.AuditOptions{Repair: true}) // not deep
		assert.Empty(t, kindsOf(found)[gc.AuditFound])
		assert.False(t, p.has(t, repository, p.flipped.Digest))
	})
}

func TestAuditGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := plant(t)
		want, whole := p.audit(t, gc.AuditOptions{Batch: 3})
		var found []gc.AuditFinding
		var objects int64
		after, audits := store.Key(""), 0
		for {
			ctx, cancel := context.WithCancel(t.Context())
			batches := 0
			report, err := gc.Audit(ctx, p.meta, p.objects, &gc.AuditOptions{
				After: after, Batch: 3,
				Found: func(f gc.AuditFinding) error { found = append(found, f); return nil },
				Progress: func(gc.AuditReport) {
					if batches++; batches == 2 {
						cancel()
					}
				},
			})
			cancel()
			audits++
			objects += report.Objects
			after = report.Next
			if err == nil {
				break
			}
			require.ErrorIs(t, err, context.Canceled)
		}
		require.Greater(t, audits, 2)
		require.ElementsMatch(t, want, found, "within a batch, kinds come in an order of their own")
		require.Equal(t, whole.Objects, objects)
	})
}

func TestAuditReportsNothingThatIsUnderWay(t *testing.T) {
	t.Parallel()
	// Between any two calls of the audit, an upload is in each of its states, and the collector does all it can.
	for _, deep := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			for i := range 10 {
				w.push(t, repository, text(i))
			}
			time.Sleep(24 * time.Hour)
			n, busy := 0, false
			step := func(context.Context, string) error {
				if busy || n >= 100 { // else there is ever more to audit
					return nil
				}
				busy = true
				defer func() { busy = false }()
				n++
				pushed := w.push(t, repository, fmt.Sprint("pushed ", n))
				require.NoError(t, w.meta.DeleteContent(t.Context(), repository, pushed.Digest))
				id, key := store.NewID(), store.NewBlobKey()
				require.NoError(t, w.meta.CreateSession(t.Context(), id, repository, ""))
				_, err := w.meta.ClaimSession(t.Context(), store.Claim{
					SessionRef: store.SessionRef{ID: id, Repository: repository}, Reserve: store.Reservation{Blob: key, Tail: store.NewUploadKey(id)},
				})
				require.NoError(t, err)
				w.write(t, key, "under way")
				w.push(t, repository, text(n%10)) // again, under another key
				w.once(t, &gc.Options{Grace: time.Nanosecond, Delay: time.Nanosecond, WriteTimeout: time.Nanosecond})
				return nil
			}
			hook := storetest.Hook{Before: step, After: func(ctx context.Context, method string, err error) error {
				return errors.Join(err, step(ctx, method))
			}}
			var found []gc.AuditFinding
			report, err := gc.Audit(t.Context(), hooked(w.meta, hook), storetest.HookObjects(w.objects, hook), &gc.AuditOptions{
				Batch: 2, Deep: deep, Multiparts: true, Repair: true, SafeAge: time.Nanosecond,
				Found: func(f gc.AuditFinding) error { found = append(found, f); return nil },
			})
			require.NoError(t, err)
			require.Empty(t, found)
			require.Greater(t, n, 20)
			require.True(t, report.Done)
		})
	}
}

func TestDeepAuditReadsNoFasterThanItsRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.push(t, repository, strings.Repeat("x", 1<<20))
		began := time.Now()
		_, report := w.audit(t, gc.AuditOptions{Deep: true, Rate: 1 << 17})
		require.Equal(t, int64(1<<20), report.Read)
		require.InDelta(t, 8, time.Since(began).Seconds(), 0.5)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := gc.Audit(ctx, w.meta, w.objects, &gc.AuditOptions{Deep: true, Rate: 1 << 17})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestAuditHoldsOneBatch(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for i := range 95 {
		w.push(t, repository, text(i))
	}
	var mu sync.Mutex
	calls := map[string]int{}
	hook := storetest.Hook{Before: func(_ context.Context, method string) error {
		mu.Lock()
		defer mu.Unlock()
		calls[method]++
		return nil
	}}
	_, err := gc.Audit(t.Context(), hooked(w.meta, hook), storetest.HookObjects(w.objects, hook), &gc.AuditOptions{Batch: 10})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"List": 10, "StoredContents": 10}, calls, "what fits costs a page of each listing")
}

func TestAuditRemembersSomeOfTheManifestsThatItTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const images, apart = 300, 150
		w := newWorld()
		layer := w.push(t, repository, "layer")
		var below []digest.Digest
		for i := range images {
			below = append(below, w.put(t, manifest{text: fmt.Sprint("image ", i), layers: []digest.Digest{layer.Digest}}))
		}
		slices.Sort(below)
		want := slices.Clone(below)
		for i := range apart {
			want = append(want, w.put(t, manifest{text: fmt.Sprint("index ", i), children: []digest.Digest{below[i], below[i+apart]}}))
		}
		all := w.put(t, manifest{text: "index of all", children: below})
		want = append(want, all)
		for i := range 3 * 50 {
			want = append(want, w.put(t, manifest{text: fmt.Sprint("above all ", i), children: []digest.Digest{all}}))
		}
		require.NoError(t, w.objects.Delete(t.Context(), []store.Key{layer.Key}))
		for batch, repeated := range map[int]int{3: apart, 1000: 0} { // three hundred manifests are remembered, or all
			told, asked := map[digest.Digest]int{}, 0
			hook := storetest.Hook{Before: func(_ context.Context, method string) error {
				if method == "Dependents" {
					asked++
				}
				return nil
			}}
			report, err := gc.Audit(t.Context(), hooked(w.meta, hook), w.objects, &gc.AuditOptions{Batch: batch, Found: func(f gc.AuditFinding) error {
				if f.Kind == gc.AuditBroken {
					told[f.Manifest]++
				}
				return nil
			}})
			require.NoError(t, err)
			require.Len(t, told, len(want), "every one is told")
			for _, d := range want {
				require.Contains(t, told, d)
			}
			require.Equal(t, 1, told[all], "what is met again and again is remembered")
			require.Equal(t, len(want)+repeated, report.Findings[gc.AuditBroken])
			require.Equal(t, 1+len(want)+repeated+3, asked, "one question for each, and one for each full page")
		}
	})
}

func TestAuditRefusesWrongOptionsAndReportsAsJSON(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for field, opts := range map[string]*gc.AuditOptions{"Batch": {Batch: -1}, "Rate": {Rate: -1}, "SafeAge": {SafeAge: -1}} {
		_, err := gc.Audit(t.Context(), w.meta, w.objects, opts)
		require.ErrorContains(t, err, field+":")
	}
	report, err := gc.Audit(t.Context(), w.meta, w.objects, nil)
	require.NoError(t, err)
	data, err := json.Marshal(report)
	require.NoError(t, err)
	require.JSONEq(t, `{"objects":0,"bytes":0,"read":0,"contents":0,"findings":{},"repaired":0,"done":true}`, string(data))
	data, err = json.Marshal(gc.AuditFinding{Kind: gc.AuditMissing, Key: "blobs/1", Digest: "sha256:1", Want: 3})
	require.NoError(t, err)
	require.JSONEq(t, `{"kind":"missing","key":"blobs/1","digest":"sha256:1","want":3}`, string(data))
}
