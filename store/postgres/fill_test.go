package postgres_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// size is how much there is in an index.
type size struct {
	tags         int // in the repository "full", each with a manifest of its own that refers to layers of its own
	repositories int // beside it, with a manifest and a layer each, of which every tenth is mirrored, too
	layers       int // of each manifest in "full"
}

// fill puts so much into a fresh index, by SQL in bulk: foreign keys are not checked, nothing is logged, and all is analysed at the end.
func fill(t testing.TB, pool *pgxpool.Pool, schema string, size size) {
	t.Helper()
	ctx := t.Context()
	conn, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	statements := `
	begin;
	set local session_replication_role = replica;
	set local synchronous_commit = off;
	set local work_mem = '256MB';
	set local search_path = "` + schema + `", pg_catalog;
	create function pg_temp.d(kind text, i int) returns text language sql immutable
		as $$ select 'sha256:' || encode(sha256((kind || i)::bytea), 'hex') $$;
	create temporary table full_tags on commit drop as select i, pg_temp.d('manifest ', i) as digest from generate_series(1, @tags) i;
	create temporary table full_layers on commit drop as
		select i, n, pg_temp.d('layer ' || n || ' of ', i) as digest from generate_series(1, @tags) i, generate_series(1, @layers) n;
	create temporary table others on commit drop as
		select i, pg_temp.d('other manifest ', i) as manifest, pg_temp.d('other layer ', i) as layer from generate_series(1, @repositories) i;
	insert into repositories (name, created) values ('full', now());
	insert into repositories (name, created) select 'repo/' || lpad(i::text, 7, '0'), now() from others;
	insert into contents (digest, size, key, inline)
		select digest, 1024, null, decode(repeat('61', 1024), 'hex') from full_tags
		union all select manifest, 1024, null, decode(repeat('61', 1024), 'hex') from others
		union all select digest, 1000000, 'blobs/' || gen_random_uuid(), null from full_layers
		union all select layer, 1000000, 'blobs/' || gen_random_uuid(), null from others;
	create temporary table ids on commit drop as select id, name from repositories;
	insert into links (repository, digest)
		select (select id from ids where name = 'full'), digest from full_tags
		union all select (select id from ids where name = 'full'), digest from full_layers
		union all select id, manifest from others join ids on name = 'repo/' || lpad(i::text, 7, '0')
		union all select id, layer from others join ids on name = 'repo/' || lpad(i::text, 7, '0');
	insert into manifests (repository, digest, media_type, artifact_type, subject, annotations, size, pushed)
		select (select id from ids where name = 'full'), digest, 'application/vnd.oci.image.manifest.v1+json', '',
			case when i % 10 = 0 then pg_temp.d('manifest ', i - 1) else '' end, null, 1024, now() from full_tags
		union all select id, manifest, 'application/vnd.oci.image.manifest.v1+json', '', '', null, 1024, now()
		from others join ids on name = 'repo/' || lpad(i::text, 7, '0');
	insert into edges (repository, parent, child, present)
		select (select id from ids where name = 'full'), m.digest, l.digest, l.digest from full_tags m join full_layers l on l.i = m.i
		union all select id, manifest, layer, layer from others join ids on name = 'repo/' || lpad(i::text, 7, '0');
	insert into tags (repository, name, digest)
		select (select id from ids where name = 'full'), 'v' || lpad(i::text, 7, '0'), digest from full_tags
		union all select id, 'latest', manifest from others join ids on name = 'repo/' || lpad(i::text, 7, '0');
	insert into candidates (repository, digest, touched)
		select 'repo/' || lpad(i::text, 7, '0'), manifest, now() - i * interval '1 second' from others;
	insert into garbage (key, condemned) select 'blobs/' || gen_random_uuid(), now() - i * interval '1 second' from others;
	insert into sessions (id, repository, state, version, algorithm, digest, started, touched,
			reserved_blob, reserved_tail, durable, parts_end, multipart_key, multipart_id, part_size, last_part)
		select gen_random_uuid(), 'full', 0, 0, '', '', now(), now(), '', '', 0, 0, '', '', 0, 0 from others where i % 10 = 0
		union all select gen_random_uuid(), 'full', 2, 0, '', pg_temp.d('other layer ', i), now() - interval '2 hours', now() - interval '2 hours',
			'', '', 0, 0, '', '', 0, 0 from others;
	insert into parts (session, number, start, size, tag)
		select id, n, n * 16777216::bigint, 16777216, 'etag' from sessions, generate_series(1, 20) n where state <> 2;
	insert into tails (session, ordinal, key, size) select id, n, 'uploads/' || gen_random_uuid(), 65536 from sessions, generate_series(1, 3) n where state <> 2;
	insert into repositories (id, name, created) select -i, '~hub/' || lpad(i::text, 7, '0'), now() from others where i % 10 = 0;
	insert into links (repository, digest)
		select r.id, d from others cross join lateral unnest(array[manifest, layer]) d
		join repositories r on r.name = '~hub/' || lpad(i::text, 7, '0');
	insert into manifests (repository, digest, media_type, artifact_type, subject, annotations, size, pushed)
		select r.id, manifest, 'application/vnd.oci.image.manifest.v1+json', '', '', null, 1024, now()
		from others join repositories r on r.name = '~hub/' || lpad(i::text, 7, '0');
	insert into edges (repository, parent, child, present)
		select r.id, manifest, layer, layer from others join repositories r on r.name = '~hub/' || lpad(i::text, 7, '0');
	insert into fetches (digest, holder, until) select layer, 'replica', now() + (i - 100) * interval '1 second' from others;
	commit;`
	_, err = conn.Exec(ctx, strings.NewReplacer(
		"@tags", strconv.Itoa(size.tags), "@layers", strconv.Itoa(size.layers), "@repositories", strconv.Itoa(size.repositories),
	).Replace(statements), pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	for _, table := range []string{"repositories", "contents", "links", "manifests", "edges", "tags", "candidates", "garbage", "sessions", "parts", "tails", "fetches"} {
		_, err := conn.Exec(ctx, `vacuum (analyze) "`+schema+`".`+table)
		require.NoError(t, err)
	}
}
