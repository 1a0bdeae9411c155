package tooltest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// reserve takes a port of the loopback interface until this process ends: no other reservation can have it, here or in another process,
// and neither can whoever listens on any free port. A server that is given the address can listen on it, and again after it has ended:
// it sets SO_REUSEADDR, as servers do, and this socket, which never listens, has it too from when the port is known to be free.
func reserve(port int) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	if err := unix.Bind(socket, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		_ = unix.Close(socket) // nothing was done with it
		return fmt.Errorf("reserve port %d: %w", port, err)
	}
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		_ = unix.Close(socket)
		return fmt.Errorf("share port %d with its server: %w", port, err)
	}
	return nil
}
