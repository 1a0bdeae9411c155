package tooltest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports below those that the kernel gives to outgoing connections: a client's
// own connection must not take the address of a server that is being restarted.
const (
	firstPort = 20000
	lastPort  = 32000
)

// FreeAddress returns an address of the loopback interface, host and port, for a
// server that the caller starts: nobody listens on it, no outgoing connection takes
// it, and nobody else is given it while this process lives, also while its server
// has not been started yet or is being restarted. It fails the test if there is none.
func FreeAddress(t testing.TB) string {
	t.Helper()
	address, err := FindAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// FindAddress is FreeAddress for a server that several tests use.
func FindAddress() (string, error) {
	var errs []error
	for range 50 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if err := reserve(port); err != nil {
			errs = append(errs, err)
			continue
		}
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
	}
	return "", fmt.Errorf("no free port on the loopback interface: %w", errors.Join(errs...))
}
