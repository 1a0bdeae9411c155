// Package backendtest runs the real servers that the stores need, for tests:
// PostgreSQL, and two S3 servers, MinIO and versitygw.
//
// The idea: what a store promises is only as good as the server that it was
// tried on, so no test of a store uses an imitation. Starting a server takes a
// second or so, so that one of each kind is shared by all tests of a test
// binary: Postgres, MinIO and VersityGW start it at their first use, and each
// test takes a database or a bucket of its own from it. A shared server is fast
// rather than durable, and nobody may stop it.
//
// Tests of accidents have servers of their own, from NewPostgres, NewMinIO and
// NewVersityGW. Those are set up as for production, and Kill, Stop, Start and
// Restart do to them what operators and accidents do; the address stays the
// same, so that clients find them again.
//
// A machine without the program skips the test, or fails it where
// OCIKIT_TEST_REQUIRE=1 is set (see tooltest). All servers listen on the
// loopback interface only, on ports that no outgoing connection takes, and none
// outlives the test binary. Packages that use shared servers call Run from their
// TestMain, which stops them and removes their data.
package backendtest
