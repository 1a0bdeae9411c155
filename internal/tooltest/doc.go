// Package tooltest runs real programs (clients, engines, test suites) for
// tests, so that each of them is isolated and none is left behind.
//
// The idea: a test says which program it needs with Require, and gets its path.
// A machine that lacks the program skips the test and says what is left out,
// because a contributor should not have to install ten registry clients to
// change a line. Where OCIKIT_TEST_REQUIRE=1 is set, as in continuous
// integration, the same test fails instead: there, a test that does not run is
// a test that does not pass.
//
// A Sandbox is a home folder of its own: programs that run in it find no
// credentials or configuration of the user's, and leave none. A Process is a
// program that runs beside the test (a server, an engine): its output is kept,
// shown when the test fails, and it is ended with the test, by its own process
// id, however the test ends.
package tooltest
