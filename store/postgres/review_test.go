package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestClientsMeetCollectorsBetweenAnyTwoRoundTrips(t *testing.T) {
	t.Parallel()
	storetest.RoundTrips(t, func(t *testing.T, now func() time.Time) storetest.Gated {
		options := &postgres.Options{Schema: newSchema(t), Now: now}
		watch := newPool(t, 1)
		return storetest.Gated{
			Open: func(t *testing.T, before func()) store.Metadata {
				return open(t, newPool(t, 1, func(config *pgxpool.Config) {
					config.ConnConfig.Tracer = tracer(before)
					config.ConnConfig.RuntimeParams["application_name"] = options.Schema
				}), options)
			},
			Waits: func(t *testing.T) (waits bool) {
				require.NoError(t, watch.QueryRow(t.Context(),
					`select exists (select from pg_stat_activity where application_name = $1 and wait_event_type = 'Lock')`, options.Schema).Scan(&waits))
				return waits
			},
		}
	})
}

// tracer is called before each round trip.
type tracer func()

func (t tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	t()
	return ctx
}
func (tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (t tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	t()
	return ctx
}
func (tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (tracer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

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
