package filesystem

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/ocikit/ocikit/store"
)

// The pauses between two tries to get a lock. Locks are held for as long as it takes to copy a part from memory, and waited for
// only when two writers overlap, so that asking again is good enough; unlike waiting in the kernel, it ends with the context.
const (
	firstPause = 200 * time.Microsecond
	longPause  = 20 * time.Millisecond
)

// lock opens an upload's table and locks it. Closing it unlocks. It fails with ErrMultipartUnknown when there is no table; when
// there is one, the upload may have ended all the same while the lock was waited for.
func (o *Objects) lock(ctx context.Context, parts string) (file, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := o.files.open(parts, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, store.ErrMultipartUnknown
	} else if err != nil {
		return nil, err
	}
	if err := o.waitForLock(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (o *Objects) waitForLock(ctx context.Context, f file) error {
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		if locked, err := o.files.tryLock(f); locked || err != nil {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
