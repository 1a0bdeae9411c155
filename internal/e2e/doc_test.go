// Package e2e_test tests the built program from the outside, with nothing of
// the toolkit imported: by the conformance suite, by the clients that people
// use, and by accidents (kill -9, clients that stall or vanish, signals).
//
// The idea: what the packages' own tests prove of parts, these prove of the whole, with
// judges that are not ours. Clients and suite come from PATH; .ci/run installs
// them at pinned versions. Without them the tests skip, and fail if
// OCIKIT_TEST_REQUIRE=1.
//
// Every test starts servers of its own (see servertest) and every client has a
// home of its own (see tooltest), so that tests run side by side, and leave
// nothing.
package e2e_test
