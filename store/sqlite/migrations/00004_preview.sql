-- +goose Up

-- How many bytes the content or the tail had that was under a key; 0 where nobody knows.
alter table garbage add column size integer not null default 0;
