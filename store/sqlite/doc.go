// Package sqlite keeps the index in one SQLite file: [Metadata] implements [store.Metadata] for one machine, with nothing to
// set up. The driver is pure Go.
//
// # Writing
//
// SQLite has one writer at a time, and what a durable commit costs is its flush to the disk. So all events of a process
// go to one goroutine, which takes what waits, runs each event in a savepoint of one transaction, commits once, and only
// then answers everybody: sixteen clients share a flush instead of queueing for sixteen. An event that fails is rolled back
// to its savepoint and harms nobody else in the commit. One whose context ends before its turn is not run; after that its
// outcome is waited for, which takes a commit, so that it stays unknown only when the commit itself fails. The
// numbers of statements that the methods tell leave out what every event has: two for the savepoint, and its share of
// two for the transaction.
//
// Every transaction takes the write lock when it begins. So it never has to start over for what another process wrote
// meanwhile, and the lock's holder sees the newest state, which makes each event's look and change one step.
//
// # Reading
//
// Reads go over a few connections of their own, which never wait for the writer nor make it wait: they see the state of
// the last commit. What was acknowledged is therefore seen by every later read. Reading a manifest or locating content is
// one prepared query; each method tells how many statements it takes.
//
// # Files and processes
//
// Beside the file itself there are two more, named after it with -wal and -shm; a copy needs all of them. Any number of
// processes on one machine may open one file at the same time, which must not be on a network file system. The schema is
// brought up to date by [Open], which refuses a file that a newer version of the program has made.
//
// What is acknowledged has been flushed to the disk, unless [Options.NoSync] says otherwise.
package sqlite
