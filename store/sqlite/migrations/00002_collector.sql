-- +goose Up

-- A repository that was deleted keeps its row under a name that no repository can have, since it begins with a slash, until
-- nothing hangs on it any more.

-- Since when an object is known to be missing: content reads as absent until it is pushed again.
alter table contents add column missing integer;

create index contents_by_key on contents (key) where key is not null;

-- When a manifest and a tag were last pushed, and last pulled, as far as that is known.
alter table manifests add column pushed integer not null default 0;
alter table manifests add column pulled integer;
update manifests set pushed = unixepoch() * 1000000000;
alter table tags add column pushed integer not null default 0;
alter table tags add column pulled integer;
update tags set pushed = unixepoch() * 1000000000;

-- Whether a manifest of that digest was deleted, and has not been put again.
alter table candidates add column deleted integer not null default 0;

-- How often an object was taken to be deleted, and whether writes may still be on their way to it.
alter table garbage add column tries integer not null default 0;
alter table garbage add column unfinished integer not null default 1;

drop index garbage_by_condemned;
create index garbage_by_due on garbage (unfinished, condemned, key);

-- Uploads under way and tombstones each have a life of their own. When one began never changes, so that saves do not write to
-- these indexes.
create index sessions_under_way on sessions (started, id) where state <> 2;
create index sessions_finished on sessions (started, id) where state = 2;

-- For audits, which go by keys.
create index tails_by_key on tails (key);
