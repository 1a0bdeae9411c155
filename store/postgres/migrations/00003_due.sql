-- +goose Up

-- What is due has an index of its own for each time after which it is: so a look for work passes over nothing that waits for longer.
drop index {schema}.garbage_by_condemned;
create index garbage_by_due on {schema}.garbage (unfinished, condemned, key);

drop index {schema}.sessions_by_started;
drop index {schema}.sessions_under_way;
create index sessions_under_way on {schema}.sessions (started, id) where state <> 2;
create index sessions_finished on {schema}.sessions (started, id) where state = 2;
