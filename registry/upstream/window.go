package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A fetch for which the spool has room in the beginning, and no more in the middle, goes on in the room that it has: what comes is
// written over what everybody who follows has read. So it goes at the pace of the slowest of them, and who comes late waits until it is
// kept, as for one that is not spooled at all.

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
	at = f.written % f.window
	length, err = f.free(min(n, f.window-at))
	return at, length, err
}

// free waits until some of the next n bytes of the window have been read by all who follow, and returns how many. Stores that take
// nothing are not waited for for long: then the others go on alone.
func (f *fetch) free(n int64) (int64, error) {
	patience := time.NewTimer(keeperPatience)
	defer patience.Stop()
	for {
		f.mu.Lock()
		slowest := f.written
		for follower := range f.followers {
			slowest = min(slowest, follower.offset)
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
		select {
		case <-moved:
		case <-f.ctx.Done():
			return 0, context.Cause(f.ctx)
		case <-patience.C:
			f.dropKeeper(slowest)
		}
	}
}

// dropKeeper goes on without whoever keeps it, if that holds up the others.
func (f *fetch) dropKeeper(slowest int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for follower := range f.followers {
		if follower.keeper && follower.offset == slowest {
			follower.dropped = true
			delete(f.followers, follower)
		}
	}
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
var errHeldUp = errors.New("the stores took nothing for long, and others waited")

// advance notes that a follower has read.
func (f *fetch) advance(r *follower, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.offset += n
	f.move()
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
