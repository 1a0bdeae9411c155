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
// who come late begin at the beginning. Its files have no names: the system forgets them with the process.
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

// create returns a file of the spool with room for size bytes, or errSpoolFull. It never waits.
func (s *Spool) create(size int64) (*spoolFile, error) {
	s.mu.Lock()
	if s.used+size > s.budget {
		s.mu.Unlock()
		return nil, errSpoolFull
	}
	s.used += size
	s.mu.Unlock()
	file, err := os.CreateTemp(s.dir, "ocikit-*.part")
	if err == nil {
		if full := reserve(file, size); full != nil { // better now than in the middle
			_ = file.Close()
			_ = os.Remove(file.Name())
			s.giveBack(size)
			return nil, fmt.Errorf("spool: %w", full)
		}
		// Where a file cannot lose its name while it is open, it does so when it is closed.
		if os.Remove(file.Name()) == nil {
			return &spoolFile{File: file, spool: s, size: size}, nil
		}
		return &spoolFile{File: file, spool: s, size: size, named: true}, nil
	}
	s.giveBack(size)
	return nil, fmt.Errorf("spool: %w", err)
}

func (s *Spool) giveBack(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= size
}

// spoolFile is room for one content.
type spoolFile struct {
	*os.File
	spool *Spool
	size  int64
	named bool
}

// Close gives the room back.
func (f *spoolFile) Close() error {
	err := f.File.Close()
	if f.named {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	f.spool.giveBack(f.size)
	return err
}
