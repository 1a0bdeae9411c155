-- +goose Up

-- How many bytes the content or the tail had that was under a key; 0 where nobody knows.
alter table garbage add column size integer not null default 0;

-- When a manifest of that digest was deleted, where deleted says that one was. A process of the version before knows nothing of it:
-- where it is null, nobody knows better than when the candidate was last touched.
alter table candidates add column deletion integer;
