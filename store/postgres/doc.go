// Package postgres keeps the index in a PostgreSQL database: [Metadata] implements [store.Metadata] for any number of processes
// on any number of machines. The pool (pgx) is the caller's.
//
// # One event, one transaction
//
// Each method is one transaction at READ COMMITTED, of one or two round trips: begin and the first statements travel together,
// and so do the last ones and commit. What serves a read is one statement and one round trip. Each method tells its numbers,
// of which begin and commit are left out, and a test counts the round trips. What only the collector does takes up to six.
//
// # Locks
//
// Rows are locked first and looked at second, by two statements: a statement that waits for a lock answers from before the
// wait, the next one from after it. The order is the same for all events: candidates, contents, links, repositories, manifests,
// edges, tags, sessions, garbage; within a table by digest or by name. So they do not wait for each other in a circle.
//
// A push, a mount and a deletion begin with the candidates that they make, a put of a manifest with those that it takes away:
// so each meets a collector, which begins there too, at the same row. A put of a manifest locks the links of what it refers
// to; the edges that it makes hold them by a foreign key. So either the manifest is refused, or what it refers to stays.
//
// What others do at the same time may still end a transaction: a deadlock with somebody's own SQL, a foreign key whose row has
// gone, a row that came between two looks. Then it is run again, a few times, after a short random pause. It is never run
// again when the answer to its commit was lost: the caller learns that the outcome is unknown, and every event may be sent
// again.
//
// A collector waits for nobody: what is locked, it skips. A review locks candidates, contents, links and repositories, looks at
// edges, manifests and other links after that, and only then deletes; a test stops it, and all that it may meet, between any two
// round trips. What is due is the beginning of an index by time, so that an idle collector reads nothing, and a busy one what goes.
//
// # Poolers
//
// No session has a state that matters: no settings, no search path (the schema stands in the statements), no locks of
// sessions. So a pooler may give each transaction another session. Prepared statements are state as well; whether there are
// any is for the pool's configuration to say, with pgx's default_query_exec_mode. Behind a pooler in transaction mode it
// must be cache_describe, exec or simple_protocol, unless the pooler keeps prepared statements itself (PgBouncer does from
// 1.21 on, with max_prepared_statements). cache_statement, which is pgx's default, is for direct connections, where it is
// worth having: every call costs the database about two to three times as much in the other modes, which plan each statement anew.
//
// # Schema
//
// All tables are in one schema. [Migrate] makes it and brings it up to date, [Migrations] are the same steps as plain SQL, and
// [New] refuses any version but its own.
package postgres
