package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

// event is something that a review may meet.
type event struct {
	name string
	// prepare makes the scene, in which the layer is a candidate of repository "a", and returns the call.
	prepare func(t *testing.T, s *stage, layer store.Content) func(ctx context.Context, m *postgres.Metadata) error
	// promises names the repository in which the layer is to be found once the call has succeeded; "" is none.
	promises string
	stays    bool // and however often the collector comes
}

var metByReviews = []event{
	{name: "PutManifest", promises: "a", stays: true, prepare: func(_ *testing.T, _ *stage, layer store.Content) func(context.Context, *postgres.Metadata) error {
		put := manifest("a", "image", "latest")
		put.References = []store.Reference{{Digest: layer.Digest}}
		return func(ctx context.Context, m *postgres.Metadata) error { return m.PutManifest(ctx, put) }
	}},
	{name: "FinishSession", promises: "a", prepare: func(t *testing.T, s *stage, _ store.Content) func(context.Context, *postgres.Metadata) error {
		t.Helper()
		_, finish := s.upload(t, "a", "layer")
		return func(ctx context.Context, m *postgres.Metadata) error { return m.FinishSession(ctx, finish) }
	}},
	{name: "FinishSession elsewhere", promises: "b", prepare: func(t *testing.T, s *stage, _ store.Content) func(context.Context, *postgres.Metadata) error {
		t.Helper()
		_, finish := s.upload(t, "b", "layer")
		return func(ctx context.Context, m *postgres.Metadata) error { return m.FinishSession(ctx, finish) }
	}},
	{name: "PutContent", promises: "a", prepare: func(*testing.T, *stage, store.Content) func(context.Context, *postgres.Metadata) error {
		return func(ctx context.Context, m *postgres.Metadata) error { return m.PutContent(ctx, "a", inline("layer")) }
	}},
	{name: "Mount", promises: "b", prepare: func(_ *testing.T, _ *stage, layer store.Content) func(context.Context, *postgres.Metadata) error {
		return func(ctx context.Context, m *postgres.Metadata) error {
			_, err := m.Mount(ctx, layer.Digest, "a", "b")
			return err
		}
	}},
	{name: "RenewContent", promises: "a", prepare: func(_ *testing.T, _ *stage, layer store.Content) func(context.Context, *postgres.Metadata) error {
		return func(ctx context.Context, m *postgres.Metadata) error {
			_, err := m.RenewContent(ctx, "a", layer.Digest, 2*time.Hour)
			return err
		}
	}},
	{name: "DeleteContent", prepare: func(_ *testing.T, _ *stage, layer store.Content) func(context.Context, *postgres.Metadata) error {
		return func(ctx context.Context, m *postgres.Metadata) error { return m.DeleteContent(ctx, "a", layer.Digest) }
	}},
	{name: "FinishSession of something else", prepare: func(t *testing.T, s *stage, _ store.Content) func(context.Context, *postgres.Metadata) error {
		t.Helper()
		_, finish := s.upload(t, "a", "another layer")
		return func(ctx context.Context, m *postgres.Metadata) error { return m.FinishSession(ctx, finish) }
	}},
	{name: "DeleteContent of something else", prepare: func(t *testing.T, s *stage, _ store.Content) func(context.Context, *postgres.Metadata) error {
		t.Helper()
		other := inline("another layer")
		require.NoError(t, s.PutContent(t.Context(), "a", other))
		s.sql(t, `delete from {schema}.candidates where digest = $1`, other.Digest.String())
		return func(ctx context.Context, m *postgres.Metadata) error { return m.DeleteContent(ctx, "a", other.Digest) }
	}},
	{name: "DeleteManifest", prepare: func(t *testing.T, s *stage, layer store.Content) func(context.Context, *postgres.Metadata) error {
		t.Helper()
		put := manifest("a", "image", "latest")
		put.References = []store.Reference{{Digest: layer.Digest}}
		require.NoError(t, s.PutManifest(t.Context(), put))
		s.object(t, "a", "layer") // makes it a candidate
		return func(ctx context.Context, m *postgres.Metadata) error {
			return m.DeleteManifest(ctx, "a", put.Manifest.Digest, nil)
		}
	}},
	{name: "DeleteRepository", prepare: func(*testing.T, *stage, store.Content) func(context.Context, *postgres.Metadata) error {
		return func(ctx context.Context, m *postgres.Metadata) error { return m.DeleteRepository(ctx, "a") }
	}},
	{name: "DrainRepositories", prepare: func(t *testing.T, s *stage, layer store.Content) func(context.Context, *postgres.Metadata) error {
		t.Helper()
		put := manifest("a", "image", "latest")
		put.References = []store.Reference{{Digest: layer.Digest}}
		require.NoError(t, s.PutManifest(t.Context(), put))
		require.NoError(t, s.DeleteRepository(t.Context(), "a"))
		_, err := s.DrainRepositories(t.Context(), 2)
		require.NoError(t, err)
		return func(ctx context.Context, m *postgres.Metadata) error {
			_, err := m.DrainRepositories(ctx, 100)
			return err
		}
	}},
	{name: "ReviewCandidates", prepare: func(*testing.T, *stage, store.Content) func(context.Context, *postgres.Metadata) error {
		return review
	}},
}

func review(ctx context.Context, m *postgres.Metadata) error {
	_, err := m.ReviewCandidates(ctx, store.Review{Grace: time.Hour, Limit: 100})
	return err
}

// TestReviewsMeetEverythingElse stops either side before each of its round trips, while the other one goes as far as it gets.
func TestReviewsMeetEverythingElse(t *testing.T) {
	t.Parallel()
	for _, event := range metByReviews {
		for _, keeper := range []bool{true, false} { // whether the repository goes with the layer
			for stop := 1; stop <= 3; stop++ {
				name := fmt.Sprintf("%s/keeper=%t/round trip %d", event.name, keeper, stop)
				t.Run(name+"/review stops", func(t *testing.T) {
					t.Parallel()
					meetReview(t, event, keeper, func(s *stage, call func(context.Context, *postgres.Metadata) error) error {
						var err error
						s.interleave(t, stop, review, func(ctx context.Context, m *postgres.Metadata) error { err = call(ctx, m); return nil }, false)
						return err
					})
				})
				t.Run(name+"/review passes", func(t *testing.T) {
					t.Parallel()
					meetReview(t, event, keeper, func(s *stage, call func(context.Context, *postgres.Metadata) error) error {
						var err error
						s.interleave(t, stop, func(ctx context.Context, m *postgres.Metadata) error { err = call(ctx, m); return nil }, review, true)
						return err
					})
				})
			}
		}
	}
}

// meetReview makes the scene, lets the event meet a review, and holds the index to its promises.
func meetReview(t *testing.T, event event, keeper bool, meet func(*stage, func(context.Context, *postgres.Metadata) error) error) {
	t.Helper()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	if keeper {
		put := manifest("a", "keeper", "keeper")
		require.NoError(t, s.PutManifest(t.Context(), put))
	}
	call := event.prepare(t, s, layer)
	s.sql(t, `update {schema}.candidates set touched = touched - interval '2 hours'`)
	err := meet(s, call)
	var missing *store.MissingError
	if err != nil && !errors.As(err, &missing) && !errors.Is(err, store.ErrRepositoryUnknown) && !errors.Is(err, store.ErrManifestUnknown) {
		require.ErrorIs(t, err, store.ErrContentUnknown, "a call succeeds, or says that the layer was collected")
	}
	kept := err == nil && event.promises != ""
	if kept {
		_, err := s.Content(t.Context(), event.promises, layer.Digest)
		require.NoError(t, err, "what was acknowledged is there")
	}
	const empty = `select from {schema}.repositories r where name is not null and not exists (select from {schema}.links where repository = r.id)`
	require.Zero(t, s.sql(t, empty), "a repository goes with its last link")
	s.requireEachKeyOnce(t)
	for {
		drained, err := s.DrainRepositories(t.Context(), 3)
		require.NoError(t, err)
		reviewed, err := s.ReviewCandidates(t.Context(), store.Review{Limit: 100})
		require.NoError(t, err)
		if drained+reviewed.Candidates == 0 {
			break
		}
	}
	s.requireEachKeyOnce(t)
	if kept && event.stays {
		_, err := s.Content(t.Context(), event.promises, layer.Digest)
		require.NoError(t, err, "what an accepted manifest refers to stays")
		return
	}
	require.Zero(t, s.sql(t, `select from {schema}.contents where digest = $1`, layer.Digest.String()), "what nobody needs goes in the end")
	require.Zero(t, s.sql(t, `select from {schema}.links where digest = $1`, layer.Digest.String()))
}

// requireEachKeyOnce requires that each key which the index has ever had is a content's or garbage, and not both.
func (s *stage) requireEachKeyOnce(t *testing.T) {
	t.Helper()
	require.Zero(t, s.sql(t, `select from {schema}.contents join {schema}.garbage using (key)`), "no content's object is garbage")
	stored := s.sql(t, `select from {schema}.contents where key is not null`)
	garbage := s.sql(t, `select from {schema}.garbage`)
	under := s.sql(t, `select from {schema}.sessions where reserved_blob <> ''`)
	finished := s.sql(t, `select from {schema}.sessions`)
	require.Equal(t, finished, stored+garbage+under, "each upload's key is stored, garbage, or still the upload's")
}

// interleave lets first stop before its round trip of that number, second go on until it is done or waits, and then both to the
// end. If passes is set, second must not wait.
func (s *stage) interleave(t *testing.T, stop int, first, second func(context.Context, *postgres.Metadata) error, passes bool) {
	t.Helper()
	stopper := &stopper{at: int64(stop), reached: make(chan struct{}), resume: make(chan struct{})}
	name := "second " + store.NewID()
	slow := open(t, newPool(t, 1, func(config *pgxpool.Config) { config.ConnConfig.Tracer = stopper }), &postgres.Options{Schema: s.schema})
	other := open(t, newPool(t, 1, func(config *pgxpool.Config) { config.ConnConfig.RuntimeParams["application_name"] = name }),
		&postgres.Options{Schema: s.schema})
	ended := make(chan error, 1)
	go func() { ended <- first(t.Context(), slow) }()
	select {
	case <-stopper.reached:
	case err := <-ended: // it has fewer round trips
		require.NoError(t, err)
		require.NoError(t, second(t.Context(), other))
		return
	}
	done := make(chan error, 1)
	go func() { done <- second(t.Context(), other) }()
	for waits := false; !waits; {
		select {
		case err := <-done:
			close(stopper.resume)
			require.NoError(t, <-ended)
			require.NoError(t, err)
			return
		default:
		}
		require.NoError(t, s.watch.QueryRow(t.Context(),
			`select exists (select from pg_stat_activity where application_name = $1 and wait_event_type = 'Lock')`, name).Scan(&waits))
	}
	assert.False(t, passes, "a review waits for nobody")
	close(stopper.resume)
	require.NoError(t, <-ended)
	require.NoError(t, <-done)
}

// stopper is a tracer that stops a call before the round trip of that number, until it may go on.
type stopper struct {
	at              int64
	begun           atomic.Int64
	reached, resume chan struct{}
}

func (s *stopper) stop() {
	if s.begun.Add(1) == s.at {
		close(s.reached)
		<-s.resume
	}
}

func (s *stopper) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (s *stopper) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (s *stopper) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	s.stop()
	return ctx
}
func (s *stopper) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (s *stopper) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func TestTwoManifestsThatShareALayerAndAreDeletedAtOnceLeaveNothing(t *testing.T) {
	t.Parallel()
	for stop := 1; stop <= 2; stop++ {
		s := newStage(t)
		layer := s.object(t, "a", "layer")
		for _, text := range []string{"one", "two"} {
			put := manifest("a", text, text)
			put.References = []store.Reference{{Digest: layer.Digest}}
			require.NoError(t, s.PutManifest(t.Context(), put))
		}
		remove := func(text string) func(context.Context, *postgres.Metadata) error {
			return func(ctx context.Context, m *postgres.Metadata) error {
				return m.DeleteManifest(ctx, "a", digest.FromString(text), nil)
			}
		}
		s.interleave(t, stop, remove("one"), remove("two"), false)
		done, err := s.ReviewCandidates(t.Context(), store.Review{Limit: 10})
		require.NoError(t, err)
		assert.Equal(t, 3, done.Candidates)
		assert.Equal(t, 3, done.Contents, "both manifests and the layer")
		requireGarbage(t, s, layer.Key)
	}
}

func TestManifestThatIsHeldBackIsReviewedOnceItIsSettled(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	put := manifest("a", "image")
	require.NoError(t, s.PutManifest(t.Context(), put))
	require.NoError(t, s.DeleteManifest(t.Context(), "a", put.Manifest.Digest, nil))
	hold := store.Review{Limit: 10, Hold: func(string) bool { return true }}
	done, err := s.ReviewCandidates(t.Context(), hold)
	require.NoError(t, err)
	require.Len(t, done.Held, 1)
	former := done.Held[0]
	former.Touched = former.Touched.Add(-time.Microsecond)
	require.NoError(t, s.SettleCandidate(t.Context(), former))
	done, err = s.ReviewCandidates(t.Context(), hold)
	require.NoError(t, err)
	require.Len(t, done.Held, 1, "it has been touched since")
	require.NoError(t, s.SettleCandidate(t.Context(), done.Held[0]))
	done, err = s.ReviewCandidates(t.Context(), hold)
	require.NoError(t, err)
	require.Empty(t, done.Held)
	require.Equal(t, 1, done.Contents)
}
