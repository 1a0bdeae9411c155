-- +goose Up

-- How many bytes the content or the tail had that was under a key; 0 where nobody knows.
alter table garbage add column size integer not null default 0;

-- When a manifest of that digest was deleted, if one was, and has not been put again. For what was deleted before nobody knows better
-- than when it was last touched. The column deleted is not used any more.
alter table candidates add column deletion integer;
update candidates set deletion = touched where deleted;
