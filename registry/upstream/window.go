package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A fetch for which the spool has room in the beginning, and no more in the middle, goes on in the room that it has: what comes is
// written over what everybody who follows has read. So it goes at the pace of the slowest of them, but of none that hardly reads; and who
// comes late waits until it is kept, as for one that is not spooled at all.

// write puts bytes into the file, where they come next.
func (f *fetch) write(p []byte) error {
	for len(p) > 0 {
		at, n, err := f.place(int64(len(p)))
		if err != nil {
			return err
		}
		if _, err := f.file.WriteAt(p[:n], at); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		f.change(func() { f.written += n })
		p = p[n:]
	}
	return nil
}

// place returns where in the file the next bytes go, and for how many of n that is good.
func (f *fetch) place(n int64) (at, length int64, err error) {
	for f.window == 0 && f.written+n > f.file.room {
		if !f.file.extend(f.size) {
			f.change(func() { f.window = f.file.room })
		}
	}
	if f.window == 0 {
		return f.written, n, nil
	}
	// At the file's end, what it holds begins at the file's begin: there it can grow, and all stays in its place.
	if (f.written-f.base)%f.window == 0 && f.file.extend(f.size) {
		f.change(func() { f.base, f.window = f.written-f.window, f.file.room })
	}
	at = (f.written - f.base) % f.window
	length, err = f.free(min(n, f.window-at))
	return at, length, err
}

// free waits until some of the next n bytes of the window have been read by all who follow, and returns how many. Who holds up others for
// long, and takes little, is not waited for: they go on without him.
func (f *fetch) free(n int64) (int64, error) {
	patience := time.NewTimer(keeperPatience)
	defer patience.Stop()
	began := time.Now()
	defer func() { f.held += time.Since(began) }()
	for {
		f.mu.Lock()
		slowest := f.slowest()
		left := f.dropSlow(slowest, f.held+time.Since(began))
		if left == 0 {
			slowest = f.slowest()
		}
		free := min(n, slowest+f.window-f.written)
		if free > 0 {
			f.lost = max(f.lost, f.written+free-f.window)
			f.mu.Unlock()
			return free, nil
		}
		moved := make(chan struct{})
		f.moved = moved
		f.mu.Unlock()
		patience.Reset(max(left, time.Millisecond))
		select {
		case <-moved:
		case <-f.ctx.Done():
			return 0, context.Cause(f.ctx)
		case <-patience.C:
		}
	}
}

// slowest returns how far whoever reads least has read. The mutex is held.
func (f *fetch) slowest() int64 {
	slowest := f.written
	for follower := range f.followers {
		slowest = min(slowest, follower.offset)
	}
	return slowest
}

// leastPace is how much a follower must read in keeperPatience, if all wait for it.
const leastPace = 1 << 20

// dropSlow goes on without those who are the slowest, if the window is full, others wait for them, and they have taken little for too
// long. It returns how long to wait for them; 0 if it has dropped somebody. held is how long the transfer has been held up, by anybody.
// The mutex is held.
func (f *fetch) dropSlow(slowest int64, held time.Duration) time.Duration {
	left := keeperPatience
	if f.written < slowest+f.window {
		return left
	}
	others := false
	for follower := range f.followers {
		others = others || follower.offset > slowest
	}
	for follower := range f.followers {
		switch {
		case follower.offset > slowest:
		case !follower.isHolding || follower.offset >= follower.mark+leastPace || !others:
			follower.isHolding, follower.mark, follower.markHeld = true, follower.offset, held
		case held-follower.markHeld >= keeperPatience:
			follower.dropped = true
			delete(f.followers, follower)
			left = 0
		default:
			left = min(left, keeperPatience-(held-follower.markHeld))
		}
	}
	if left == 0 {
		f.wake()
	}
	return left
}

// follow counts a follower among those whose place in the file is left alone. It fails if what it wants to read has been written over.
func (f *fetch) follow(r *follower) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.offset < f.lost {
		return false
	}
	if f.followers == nil {
		f.followers = map[*follower]bool{}
	}
	f.followers[r] = true
	return true
}

// unfollow is the end of that.
func (f *fetch) unfollow(r *follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.followers, r)
	f.move()
}

// errHeldUp ends a follower that keeps all others waiting.
var errHeldUp = errors.New("little was taken for long, and others waited")

// advance notes that a follower has read, unless it was dropped: then what it has read may have been written over meanwhile.
func (f *fetch) advance(r *follower, n int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.dropped {
		return false
	}
	r.offset += n
	f.move()
	return true
}

// move wakes the transfer, if it waits for those who read. The mutex is held.
func (f *fetch) move() {
	if f.moved != nil {
		close(f.moved)
		f.moved = nil
	}
}

// isWhole reports whether all that has come can be read from the beginning.
func (f *fetch) isWhole() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pipe == nil && f.window == 0
}
