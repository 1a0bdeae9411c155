package store

// Metadata is the index, and the truth about what a registry holds. It is safe for concurrent use, by any number of processes
// over the same database.
//
// Each method is one transaction: another method sees all of it or nothing, and what it acknowledged is durable. The
// store's own clock decides; callers hand in durations, never times. Names come back in byte order, and pages are told
// by (after, limit): the first limit names greater than after. A page that is shorter than its limit is the last one.
//
// Rows that a transaction locks are locked in one order (candidates, contents, links, the rest; within a table by
// digest), so that no two events can wait for each other in a circle.
type Metadata interface {
	Sessions
	Contents
	Catalog
	Ledger
	Collector
	Auditor
	Retention
	Mirror
}
