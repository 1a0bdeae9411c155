-- +goose Up

-- A repository that is deleted whole has no name: what hangs on it is drained.
create index repositories_unnamed on {schema}.repositories (id) where name is null;

-- For audits, which go by keys.
create index contents_by_key on {schema}.contents (key) where key is not null;
create index tails_by_key on {schema}.tails (key);
create index sessions_under_way on {schema}.sessions (id) where state <> 2;

-- When a manifest and a tag were last pushed, to the minute, and last pulled, to the hour, as far as that is known. What is not
-- known counts as pushed now, so that no policy takes it at once.
alter table {schema}.manifests add column pulled timestamptz;
alter table {schema}.tags add column pushed timestamptz not null default now();
alter table {schema}.tags add column pulled timestamptz;

-- Whether a manifest of that digest was deleted, and has not been put again.
alter table {schema}.candidates add column deleted boolean not null default false;

-- Whether writes may still be on their way to an object, and a multipart upload of its key may be unfinished.
alter table {schema}.garbage add column unfinished boolean not null default true;

-- Sessions die of age. When one began never changes, so that saves need not write this index.
create index sessions_by_started on {schema}.sessions (started, id);
