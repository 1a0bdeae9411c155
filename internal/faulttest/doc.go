// Package faulttest puts proxies between a program and the servers that it
// needs, for tests of what goes wrong on the way.
//
// The idea: a network does not only fail, it fails at the worst moment: a
// request takes effect and its answer is lost, or it is so late that somebody
// else has done its work meanwhile. Such moments cannot be waited for, they have
// to be made. A proxy makes them, on the real protocols and with the real
// servers behind it, and tells the test when they have come, so that no test
// sleeps.
//
// TCP passes bytes, for PostgreSQL and anything else: it cuts, refuses, delays
// and stalls connections, and loses the answer to a chosen message. HTTP passes
// requests, for S3: it decides for each request, by its Operation, what shall
// happen to it, counts them, and with a Hold keeps a request until the test lets
// it go, whether or not its sender still waits: that is a zombie. Signatures
// stay valid, since what was signed is passed as it came. RoundRobin stands
// before replicas of a server and sends the requests of each upload to all of
// them in turn, each over a connection of its own.
//
// All proxies listen on the loopback interface, end with the test, and are safe
// for concurrent use.
package faulttest
