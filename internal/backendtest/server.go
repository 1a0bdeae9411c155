package backendtest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/tooltest"
)

const (
	probeTimeout = 2 * time.Second
	setupTimeout = time.Minute // of what a test asks of a server: a database, a bucket
	startTimeout = time.Minute // of starts that fail because of what passes
)

// Server is a program with an address and a folder. Its methods are for one
// goroutine, but any number may talk to its address. Only the one test that owns
// a server may end it.
type Server struct {
	name    string
	address string
	folder  string
	command func() *exec.Cmd
	probe   func(context.Context) error
	// passing reports whether a start that failed, and wrote this, may succeed when it is tried again.
	passing func(log string) bool
	process *tooltest.Process
}

// Address returns the host and port that the server listens on, the same for as
// long as the test runs.
func (s *Server) Address() string { return s.address }

// Kill ends the server as kill -9 does, and waits until it is gone.
func (s *Server) Kill() { s.process.Kill() }

// Stop ends the server as operators do, without waiting for its clients. The
// test fails if that takes longer than a minute.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.process.Close(); err != nil {
		t.Fatal(err)
	}
}

// Start starts the server again, after Kill or Stop, with the same address and
// data, and waits until it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Restart is Stop and Start.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.Start(t)
}

// Pause has the server do nothing, and answer nobody, from its return until
// Resume; its connections stay. A server that is paused may be ended.
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	if err := s.process.Pause(); err != nil {
		t.Fatal(err)
	}
}

// Resume ends a Pause.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	if err := s.process.Resume(); err != nil {
		t.Fatal(err)
	}
}

// Log returns what the server wrote since it was last started.
func (s *Server) Log() string { return s.process.Log() }

func (s *Server) start() error {
	return tooltest.Again(startTimeout, func() (passing bool, err error) {
		process, err := tooltest.Launch(s.command())
		if err != nil {
			return false, err
		}
		if err := process.Await(s.ping); err != nil {
			return s.passing != nil && s.passing(process.Log()), errors.Join(err, process.Close())
		}
		s.process = process
		return false, nil
	})
}

func (s *Server) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	return s.probe(ctx)
}

// close ends the server and removes its data.
func (s *Server) close() error {
	var err error
	if s.process != nil {
		err = s.process.Close()
	}
	if removed := tooltest.RemoveFolder(s.folder); removed != nil {
		err = errors.Join(err, fmt.Errorf("remove the data of %s: %w", s.name, removed))
	}
	return err
}

// own makes the server the test's: it goes with it.
func (s *Server) own(t testing.TB) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of what %s wrote:\n%s", s.name, end(s.process.Log()))
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
}

// end returns a log's last lines.
func end(log string) string {
	const most = 16 << 10
	if len(log) > most {
		log = "…" + strings.ToValidUTF8(log[len(log)-most:], "")
	}
	return log
}
