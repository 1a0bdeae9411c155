-- +goose Up

-- The id of a mirrored repository, whose name begins with ~, is negative: so the index of links by digest tells which ones to a
-- content are of mirrored repositories, however many others there are.

-- Who is fetching content from an upstream, so that others need not, and until when that holds.
create table fetches (
    digest text primary key,
    holder text not null,
    until  integer not null
) strict, without rowid;

create index fetches_by_until on fetches (until);
