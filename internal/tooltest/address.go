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

// FreeAddress returns an address of the loopback interface, host and port, that
// nobody listens on, and that no outgoing connection takes. It fails the test if
// there is none.
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
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort)))
		listener, err := net.Listen("tcp", address)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := listener.Close(); err != nil {
			errs = append(errs, err)
			continue
		}
		return address, nil
	}
	return "", fmt.Errorf("no free port on the loopback interface: %w", errors.Join(errs...))
}
