// Package storetest proves that an implementation of the contracts in package store keeps them. It is what the
// implementations of ocikit itself pass, and it is exported for people who write their own.
//
// Adopting it is one test a contract:
//
//	func TestObjects(t *testing.T) {
//		storetest.Objects(t, func(t *testing.T) []store.Objects { … })
//	}
//
// The function that is handed in opens a fresh, empty store for each subtest, and returns as many handles to it as the
// implementation can have at once: two connections to one database, two clients of one bucket, two values over one
// folder. The kit acts through the first and the last of them, so that what one process did is seen through another one;
// a store that lives in one process returns one handle. It closes nothing: use t.Cleanup.
//
// Every subtest is named after the behaviour that it proves, runs in parallel with the others, and says in its failure
// what the contract asks for. The race tests only show their worth under the race detector.
//
// The index's time is a [Clock] of the test, which moves when it is told to. Nothing sleeps.
//
// A writer that was given up, and whose calls reach the store late, is a zombie. The kit holds its calls up before they
// begin; [Zombies] is for a driver that holds them up on the wire, or in the middle of a body.
//
// What clients and collectors do to each other is proved by [Interleavings], in every order of their calls and at once. It is
// part of [Metadata], with a few seeds; who has changed a statement that locks runs it by itself, with many. [RoundTrips] goes
// further where a call is several statements or requests: a store that calls back ahead of each of them has either side stopped
// between any two.
//
// [HookObjects] and [HookMetadata] wrap a store with a [Hook], which fails calls before they happen or loses their
// answers after they did. The kit proves with them that every event can be sent again; they serve as well to test
// what stands on a store.
package storetest
