-- +goose Up

-- Who is fetching content from an upstream, so that others need not, and until when that holds.
create table {schema}.fetches (
    digest text collate "C" primary key,
    holder text not null,
    until  timestamptz not null
);

create index fetches_by_until on {schema}.fetches (until);
