package sqlite_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
)

// collectEverything makes each method of the collector run each of its statements, on what callEveryMethod has left and more.
func collectEverything(t *testing.T, m *sqlite.Metadata) {
	t.Helper()
	ctx := t.Context()
	image := manifest("c", "image", "latest")
	layer := store.Content{Digest: digest.FromString("layer"), Size: 5, Key: store.NewBlobKey()}
	id := store.NewID()
	require.NoError(t, m.CreateSession(ctx, id, "c", ""))
	require.NoError(t, m.FinishSession(ctx, store.Finish{ID: id, Content: layer}))
	image.References = []store.Reference{{Digest: layer.Digest}}
	require.NoError(t, m.PutManifest(ctx, image))

	require.NoError(t, m.RecordPulls(ctx, []store.Pull{{Repository: "c", Digest: image.Manifest.Digest, Tag: "latest"}}))
	manifests, err := m.ManifestRecords(ctx, "c", "", 10)
	require.NoError(t, err)
	require.Len(t, manifests, 1)
	tags, err := m.TagRecords(ctx, "c", "", 10)
	require.NoError(t, err)
	require.Len(t, tags, 1)
	stored, err := m.StoredContents(ctx, "", 10)
	require.NoError(t, err)
	require.Len(t, stored, 1)
	dependents, err := m.Dependents(ctx, layer.Digest, store.ManifestAt{}, 10)
	require.NoError(t, err)
	require.Len(t, dependents, 1)
	unknown, err := m.UnknownKeys(ctx, []store.Key{layer.Key, store.NewBlobKey()})
	require.NoError(t, err)
	require.Len(t, unknown, 1)
	_, err = m.CondemnKeys(ctx, unknown)
	require.NoError(t, err)
	_, err = m.MarkContent(ctx, layer.Digest, layer.Key, true)
	require.NoError(t, err)

	require.NoError(t, m.ExpireTag(ctx, store.TagExpiry{Repository: "c", Tag: "latest", Digest: image.Manifest.Digest}))
	require.NoError(t, m.ExpireManifest(ctx, store.ManifestExpiry{Repository: "c", Digest: image.Manifest.Digest}))
	require.NoError(t, m.CreateSession(ctx, store.NewID(), "c", ""))
	_, err = m.PreviewSessions(ctx, store.Life{Idle: -1, Tombstone: -1}, store.Outlived{}, 10)
	require.NoError(t, err)
	_, err = m.EndSessions(ctx, store.Life{Idle: -1, Tombstone: -1}, 10)
	require.NoError(t, err)
	_, err = m.PreviewCandidates(ctx, 0, store.Candidate{}, 10)
	require.NoError(t, err)
	held, err := m.ReviewCandidates(ctx, store.Review{Limit: 1000, Hold: func(string) bool { return true }})
	require.NoError(t, err)
	for _, candidate := range held.Held {
		require.NoError(t, m.SettleCandidate(ctx, candidate))
	}
	image.AllowMissing = true // the layer was collected
	require.NoError(t, m.PutManifest(ctx, image))
	require.NoError(t, m.DeleteRepository(ctx, "c"))
	for {
		drained, err := m.DrainRepositories(ctx, 2)
		require.NoError(t, err)
		if drained == 0 {
			break
		}
	}
	_, err = m.ReviewCandidates(ctx, store.Review{Limit: 1000})
	require.NoError(t, err)
	_, err = m.PreviewGarbage(ctx, store.Take{Limit: 10}, store.Garbage{})
	require.NoError(t, err)
	taken, err := m.TakeGarbage(ctx, store.Take{Limit: 10})
	require.NoError(t, err)
	for _, garbage := range taken {
		require.NoError(t, m.ForgetGarbage(ctx, []store.Key{garbage.Key}))
	}
	_, err = m.Due(ctx, store.Deadlines{})
	require.NoError(t, err)
}

// TestCollectorRunsBesidePushesOfAnotherProcess: two handles on one file, as ocikit gc beside ocikit serve.
func TestCollectorRunsBesidePushesOfAnotherProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	server, collector := open(t, path, nil), open(t, path, nil)
	done := make(chan error, 1)
	go func() {
		for i := range 300 {
			layer := inline(fmt.Sprint("layer ", i%7))
			put := manifest("team/app", fmt.Sprint("image ", i), fmt.Sprint("tag-", i%5))
			put.References = []store.Reference{{Digest: layer.Digest}}
			var missing *store.MissingError
			err := server.PutManifest(t.Context(), put)
			for errors.As(err, &missing) { // as a client does, whose layer was collected before its manifest came
				err = server.PutContent(t.Context(), "team/app", layer)
				if err == nil {
					err = server.PutManifest(t.Context(), put)
				}
			}
			if err == nil && i%2 == 0 {
				err = server.DeleteManifest(t.Context(), "team/app", put.Manifest.Digest, nil)
			}
			if err != nil {
				done <- fmt.Errorf("image %d: %w", i, err)
				return
			}
		}
		done <- nil
	}()
	reviews, reviewed := 0, store.Reviewed{}
	for over := false; !over; {
		select {
		case err := <-done:
			require.NoError(t, err)
			over = true
		default:
		}
		// A grace that covers the way from a layer to its manifest.
		got, err := collector.ReviewCandidates(t.Context(), store.Review{Grace: 5 * time.Millisecond, Limit: 10})
		if !assert.NoError(t, err) {
			break
		}
		reviews++
		reviewed.Candidates += got.Candidates
		reviewed.Contents += got.Contents
	}
	t.Logf("%d reviews, %+v", reviews, reviewed)
	records, err := server.ManifestRecords(t.Context(), "team/app", "", 1000)
	require.NoError(t, err)
	assert.Len(t, records, 150)
	for _, record := range records {
		_, err := server.Manifest(t.Context(), "team/app", store.ManifestRef{Digest: record.Digest})
		require.NoError(t, err)
	}
	for i := range 7 {
		_, err := server.Content(t.Context(), "team/app", digest.FromString(fmt.Sprint("layer ", i)))
		require.NoError(t, err, "what a manifest that is there refers to")
	}
}

// BenchmarkReview reviews a thousand candidates whose content goes, which is as long as others have to wait with their writes.
func BenchmarkReview(b *testing.B) {
	m := openNew(b, nil)
	for b.Loop() {
		b.StopTimer()
		for i := range 1000 {
			id := store.NewID()
			require.NoError(b, m.CreateSession(b.Context(), id, "team/app", ""))
			content := store.Content{Digest: digest.FromString(fmt.Sprint(i)), Size: 5, Key: store.NewBlobKey()}
			require.NoError(b, m.FinishSession(b.Context(), store.Finish{ID: id, Content: content}))
		}
		b.StartTimer()
		done, err := m.ReviewCandidates(b.Context(), store.Review{Limit: 1000})
		require.NoError(b, err)
		require.Equal(b, 1000, done.Contents)
	}
}
