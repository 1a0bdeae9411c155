package upstream

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// defaultSpool is how much content may be on its way.
const defaultSpool = 4 << 30

// Spool is room on a disk for content that is on its way, so that clients who are slower than the upstream do not hold it up, and those
// who come late begin at the beginning. Room is taken as content comes; what finds none goes at the pace of its clients. Its files have
// no names: the system forgets them with the process.
type Spool struct {
	dir    string
	budget int64

	mu   sync.Mutex
	used int64
}

// NewSpool returns a spool of so many bytes in a folder; "" is the folder for temporary files, and 0 is 4 GiB.
func NewSpool(dir string, budget int64) (*Spool, error) {
	if budget < 0 {
		return nil, fmt.Errorf("new spool: %d bytes are none", budget)
	}
	if budget == 0 {
		budget = defaultSpool
	}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("new spool: %w", err)
		}
	}
	return &Spool{dir: dir, budget: budget}, nil
}

// Used returns how many bytes are taken, for content on its way.
func (s *Spool) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

var errSpoolFull = errors.New("no room in the spool")

// spoolStep is how much room a file takes at once. An upstream says how much comes before it sends anything, and need not be right: so
// room is only taken for what comes.
const spoolStep = 16 << 20

// create returns a file of the spool with room for the first step of what has so many bytes, or errSpoolFull. It never waits.
func (s *Spool) create(size int64) (*spoolFile, error) {
	first := min(size, spoolStep)
	if !s.take(first) {
		return nil, errSpoolFull
	}
	file, err := os.CreateTemp(s.dir, "ocikit-*.part")
	if err != nil {
		s.giveBack(first)
		return nil, fmt.Errorf("spool: %w", err)
	}
	f := &spoolFile{File: file, spool: s, room: first}
	// Where a file cannot lose its name while it is open, it does so when it is closed.
	f.named = os.Remove(file.Name()) != nil
	if err := reserve(file, 0, first); err != nil { // better now than in the middle
		_ = f.Close()
		return nil, fmt.Errorf("spool: %w", err)
	}
	return f, nil
}

// take takes room, if there is so much.
func (s *Spool) take(size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size > s.budget-s.used {
		return false
	}
	s.used += size
	return true
}

func (s *Spool) giveBack(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= size
}

// spoolFile is room for one content, or for a part of it at a time.
type spoolFile struct {
	*os.File
	spool *Spool
	room  int64
	named bool
}

// extend takes room for the next step of what has so many bytes, and reports whether there was some.
func (f *spoolFile) extend(size int64) bool {
	step := min(size-f.room, spoolStep)
	if !f.spool.take(step) {
		return false
	}
	if reserve(f.File, f.room, step) != nil {
		f.spool.giveBack(step)
		return false
	}
	f.room += step
	return true
}

// Close gives the room back.
func (f *spoolFile) Close() error {
	err := f.File.Close()
	if f.named {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	f.spool.giveBack(f.room)
	return err
}
