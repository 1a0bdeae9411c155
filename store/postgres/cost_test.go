package postgres_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

// readsPerCandidate is more index entries than a review reads for one candidate of content that goes, with all that its foreign
// keys look at.
const readsPerCandidate = 30

// TestCollectorReadsWhatIsDueAndNothingElse lets the database count what the calls read of an index in which a thousand contents of
// many are garbage.
func TestCollectorReadsWhatIsDueAndNothingElse(t *testing.T) {
	t.Parallel()
	schema := newSchema(t)
	fill(t, newPool(t, 1), schema, size{tags: 50_000, repositories: 10_000, layers: 1})
	measureCollector(t, schema, 1000)
}

// BenchmarkCollectorOnAMillion does the same on an index with a million contents and ten thousand uploads. Its time is the server's
// whole time, of which the test's log tells each call's.
func BenchmarkCollectorOnAMillion(b *testing.B) {
	schema := newSchema(b)
	fill(b, newPool(b, 1), schema, size{tags: 450_000, repositories: 50_000, layers: 1})
	for b.Loop() {
		measureCollector(b, schema, 1000)
	}
}

// measureCollector reviews, takes and forgets so many contents, and holds what is read to what is due.
func measureCollector(t testing.TB, schema string, garbage int) {
	t.Helper()
	ctx := t.Context()
	pool := newPool(t, 1)
	m := open(t, pool, &postgres.Options{Schema: schema})
	count := func(most int, what string, call func() error) {
		t.Helper()
		before, scanned := reads(t, pool, schema)
		began := time.Now()
		require.NoError(t, call(), what)
		took := time.Since(began)
		after, scannedAfter := reads(t, pool, schema)
		t.Logf("%s read %d index entries in %v", what, after-before, took)
		assert.LessOrEqual(t, after-before, most, "%s: index entries that were read", what)
		assert.Equal(t, scanned, scannedAfter, "%s: rows that were read by a scan of a whole table", what)
	}
	// All that the filled index has is younger than a day.
	const day = 24 * time.Hour
	deadlines := store.Deadlines{Grace: day, Delay: day, Unfinished: day, Life: store.Life{Idle: day, Total: day, Tombstone: day}}
	count(0, "Due, with nothing due", func() error {
		work, err := m.Due(ctx, deadlines)
		assert.False(t, work.Any(), "nothing is due")
		return err
	})
	count(0, "Due, with nothing due of what waits for longer than others", func() error {
		short := deadlines
		short.Delay, short.Life.Idle, short.Life.Total = time.Nanosecond, time.Hour, time.Hour
		work, err := m.Due(ctx, short)
		assert.False(t, work.Any(), "nothing is due")
		return err
	})
	count(0, "PreviewGarbage, with nothing due", func() error {
		found, err := m.PreviewGarbage(ctx, store.Take{Delay: day, Unfinished: day, Limit: garbage}, store.Garbage{})
		assert.Empty(t, found)
		return err
	})
	count(0, "PreviewSessions, with nothing due", func() error {
		found, err := m.PreviewSessions(ctx, deadlines.Life, store.Outlived{}, garbage)
		assert.Empty(t, found)
		return err
	})
	count(0, "EndSessions, with nothing due", func() error {
		ended, err := m.EndSessions(ctx, deadlines.Life, garbage)
		assert.Zero(t, ended)
		return err
	})
	var outlived []store.Outlived
	for _, page := range []string{"first", "second"} { // each range of an index may be read one entry further, to be merged
		count(10+2, "PreviewSessions, the "+page+" page of many", func() (err error) {
			var after store.Outlived
			if len(outlived) > 0 {
				after = outlived[len(outlived)-1]
			}
			outlived, err = m.PreviewSessions(ctx, store.Life{Idle: day, Total: day, Tombstone: time.Hour}, after, 10)
			assert.Len(t, outlived, 10)
			return err
		})
	}
	_, err := pool.Exec(ctx, `
		begin;
		set local search_path = "`+schema+`", pg_catalog;
		insert into contents (digest, size, key)
			select 'sha256:' || encode(sha256(('garbage ' || i)::bytea), 'hex'), 10, 'blobs/garbage-' || i from generate_series(1, `+strconv.Itoa(garbage)+`) i;
		insert into links (repository, digest) select (select id from repositories where name = 'full'), digest from contents where key like 'blobs/garbage-%';
		insert into candidates (repository, digest, touched) select 'full', digest, now() - interval '2 days' from contents where key like 'blobs/garbage-%';
		commit`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	count(2, "Due, with candidates due", func() error {
		work, err := m.Due(ctx, deadlines)
		assert.Equal(t, store.Work{Candidates: true}, work)
		return err
	})
	count(garbage*readsPerCandidate, "ReviewCandidates", func() error {
		done, err := m.ReviewCandidates(ctx, store.Review{Grace: day, Limit: garbage})
		assert.Equal(t, store.Reviewed{Candidates: garbage, Links: garbage, Contents: garbage, Bytes: int64(10 * garbage)}, done)
		return err
	})
	_, err = pool.Exec(ctx, `update "`+schema+`".garbage set condemned = condemned - interval '2 days' where not unfinished`)
	require.NoError(t, err)
	var previewed []store.Garbage
	count(garbage+2, "PreviewGarbage", func() (err error) {
		previewed, err = m.PreviewGarbage(ctx, store.Take{Delay: day, Unfinished: day, Limit: garbage}, store.Garbage{})
		assert.Len(t, previewed, garbage)
		return err
	})
	count(10+2, "PreviewGarbage, a page of many", func() error {
		page, err := m.PreviewGarbage(ctx, store.Take{Delay: day, Unfinished: day, Limit: 10}, previewed[garbage/2-1])
		assert.Equal(t, previewed[garbage/2:garbage/2+10], page)
		return err
	})
	var taken []store.Garbage
	count(4*garbage, "TakeGarbage", func() (err error) {
		taken, err = m.TakeGarbage(ctx, store.Take{Delay: day, Unfinished: day, Again: time.Hour, Limit: garbage})
		assert.Len(t, taken, garbage)
		return err
	})
	var keys []store.Key
	for _, g := range taken {
		keys = append(keys, g.Key)
	}
	count(4*garbage, "ForgetGarbage", func() error { return m.ForgetGarbage(ctx, keys) })
}

// TestCollectorReadsWhatIsDueOfARepositoryThatHasGrown has statistics from a time when a repository was small: between two runs of
// ANALYZE, a push of many layers makes them so. PostgreSQL then supposes that all of the repository is soon read.
func TestCollectorReadsWhatIsDueOfARepositoryThatHasGrown(t *testing.T) {
	t.Parallel()
	const few, many, limit = 20_000, 40_000, 10
	ctx, schema, pool := t.Context(), newSchema(t), newPool(t, 1)
	m := open(t, pool, &postgres.Options{Schema: schema})
	grow := func(from, to, repositories int) {
		_, err := pool.Exec(ctx, fmt.Sprintf(`
			begin;
			set local session_replication_role = replica;
			set local search_path = "%s", pg_catalog;
			create temporary table grown on commit drop as
				select 'grown/' || i %% %d as name, i, 'sha256:' || encode(sha256(i::text::bytea), 'hex') as digest from generate_series(%d, %d) i;
			insert into repositories (name, created) select distinct name, now() from grown on conflict do nothing;
			create temporary table ids on commit drop as select r.id, digest, i from grown join repositories r using (name);
			insert into contents (digest, size, key) select digest, 10, 'blobs/' || i from grown;
			insert into links (repository, digest) select id, digest from ids;
			insert into manifests (repository, digest, media_type, artifact_type, subject, size, pushed)
				select id, digest, '', '', '', 10, now() from ids where i %% 4 < 3;
			insert into edges (repository, parent, child, present) select id, digest, digest, digest from ids where i %% 4 < 2;
			insert into tags (repository, name, digest) select id, 'v' || i, digest from ids where i %% 4 = 0;
			insert into candidates (repository, digest, touched) select name, digest, now() - interval '2 days' from grown where i %% 4 = 3 and i > %d;
			commit`, schema, repositories, from, to, few), pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	}
	grow(1, few, 200)
	for _, table := range []string{"repositories", "contents", "links", "manifests", "edges", "tags", "candidates"} {
		_, err := pool.Exec(ctx, fmt.Sprintf(`alter table %[1]q.%[2]s set (autovacuum_enabled = off)`, schema, table))
		require.NoError(t, err)
		_, err = pool.Exec(ctx, fmt.Sprintf(`analyze %[1]q.%[2]s`, schema, table))
		require.NoError(t, err)
	}
	grow(few+1, many, 4)
	count := func(what string, call func() error) {
		t.Helper()
		before, _ := reads(t, pool, schema)
		require.NoError(t, call(), what)
		after, _ := reads(t, pool, schema)
		assert.LessOrEqual(t, after-before, limit*readsPerCandidate, "%s: index entries that were read", what)
	}
	count("ReviewCandidates", func() error {
		done, err := m.ReviewCandidates(ctx, store.Review{Grace: time.Hour, Limit: limit})
		assert.Equal(t, limit, done.Links)
		return err
	})
	for kind, first := range []string{"tags", "edges", "manifests", "links"} {
		require.NoError(t, m.DeleteRepository(ctx, fmt.Sprint("grown/", kind)))
		count("DrainRepositories, first "+first, func() error {
			drained, err := m.DrainRepositories(ctx, limit)
			assert.Equal(t, limit, drained)
			return err
		})
		_, err := m.DrainRepositories(ctx, many) // all of it, so that the next one is met
		require.NoError(t, err)
	}
}

// reads returns how many index entries were read of the schema's tables so far, and how many rows by scans of whole tables, as text
// that tells which. The pool's only connection has told of all that it has read.
func reads(t testing.TB, pool *pgxpool.Pool, schema string) (entries int, scanned string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	_, err := pool.Exec(ctx, `select pg_stat_force_next_flush()`)
	require.NoError(t, err)
	_, err = pool.Exec(ctx, `select pg_stat_clear_snapshot()`)
	require.NoError(t, err)
	err = pool.QueryRow(ctx, `
		select (select sum(idx_tup_read)::bigint from pg_stat_user_indexes where schemaname = $1),
			(select string_agg(relname || ' ' || seq_tup_read, ', ' order by relname) from pg_stat_user_tables where schemaname = $1)`,
		schema).Scan(&entries, &scanned)
	require.NoError(t, err)
	return entries, scanned
}
