-- +goose Up

-- How many bytes the content or the tail had that was under a key; 0 where nobody knows.
alter table {schema}.garbage add column size bigint not null default 0;

-- When a manifest of that digest was deleted, if one was, and has not been put again. For what was deleted before nobody knows better
-- than when it was last touched. The column deleted is not used any more; servers of the version before, which may still run, write
-- it.
alter table {schema}.candidates add column deletion timestamptz;
update {schema}.candidates set deletion = touched where deleted;
