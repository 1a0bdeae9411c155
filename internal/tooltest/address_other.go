//go:build !linux

package tooltest

import (
	"fmt"
	"net"
	"strconv"
)

// reserve looks whether a port of the loopback interface is free. Nothing keeps it so.
func reserve(port int) error {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("look whether port %d is free: %w", port, err)
	}
	return listener.Close()
}
