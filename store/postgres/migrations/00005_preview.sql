-- +goose Up

-- How many bytes the content or the tail had that was under a key; 0 where nobody knows.
alter table {schema}.garbage add column size bigint not null default 0;

-- When a manifest of that digest was deleted, where deleted says that one was. Servers of the version before know nothing of it: where
-- it is null, nobody knows better than when the candidate was last touched.
alter table {schema}.candidates add column deletion timestamptz;
