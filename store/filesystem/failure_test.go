package filesystem

import (
	"bytes"
	"context"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// failing are files of which the operation with the given number fails, once: with a full disk.
type failing struct {
	osFiles
	count, at int
	removed   bool // the operation that failed was a remove: what was to go is still there
}

func (f *failing) next() error {
	f.count++
	if f.count == f.at {
		return syscall.ENOSPC
	}
	return nil
}

func (f *failing) open(name string, flag int) (file, error) {
	if err := f.next(); err != nil {
		return nil, err
	}
	opened, err := f.osFiles.open(name, flag)
	if err != nil {
		return nil, err
	}
	return &failingFile{opened.(*os.File), f}, nil
}

func (f *failing) mkdir(name string) error {
	return cmpOr(f.next, func() error { return f.osFiles.mkdir(name) })
}
func (f *failing) rename(from, to string) error {
	return cmpOr(f.next, func() error { return f.osFiles.rename(from, to) })
}

func (f *failing) remove(name string) error {
	err := f.next()
	f.removed = f.removed || err != nil
	return cmpOr(func() error { return err }, func() error { return f.osFiles.remove(name) })
}

func (f *failing) sync(file file) error {
	return cmpOr(f.next, func() error { return f.osFiles.sync(file.(*failingFile).File) })
}

func (f *failing) syncData(file file) error {
	return cmpOr(f.next, func() error { return f.osFiles.syncData(file.(*failingFile).File) })
}

func (f *failing) syncDir(name string) error {
	return cmpOr(f.next, func() error { return f.osFiles.syncDir(name) })
}

func (f *failing) tryLock(file file) (bool, error) {
	if err := f.next(); err != nil {
		return false, err
	}
	return f.osFiles.tryLock(file.(*failingFile).File)
}

func (f *failing) unlock(file file) error { return f.osFiles.unlock(file.(*failingFile).File) }

func cmpOr(first, second func() error) error {
	if err := first(); err != nil {
		return err
	}
	return second()
}

type failingFile struct {
	*os.File
	files *failing
}

func (f *failingFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.files.next(); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(p, off)
}

func (f *failingFile) Truncate(size int64) error {
	return cmpOr(f.files.next, func() error { return f.File.Truncate(size) })
}

// TestFullDiskLeavesNothingBehind lets every operation of the calls that write fail once, and makes the call again.
func TestFullDiskLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const key store.Key = "blobs/full"
	one, two := pattern(1, 1000), pattern(2, 1000)
	for at := 1; ; at++ {
		o, err := New(t.TempDir(), nil)
		require.NoError(t, err)
		disk, most := &failing{}, 0
		again := func(name string, call func(ctx context.Context) error) {
			disk.count, disk.at, o.files = 0, at, disk
			err := call(ctx)
			o.files = osFiles{}
			most = max(most, disk.count)
			if disk.count < at {
				require.NoError(t, err)
				return
			}
			if err == nil {
				require.True(t, disk.removed, "%s hides no failure but one to tidy up", name)
				return
			}
			require.ErrorIs(t, err, store.ErrUnavailable, "%s says that a full disk is no fault of the call", name)
			require.NoError(t, call(ctx), "%s can be called again", name)
		}
		again("Put", func(ctx context.Context) error {
			return o.Put(ctx, "blobs/put", bytes.NewReader(one), 1000)
		})
		var m store.Multipart
		again("Begin", func(ctx context.Context) error { m, err = o.Begin(ctx, key); return err })
		parts := make([]store.Part, 2)
		for i, data := range [][]byte{one, one} {
			again("PutPart", func(ctx context.Context) error {
				parts[i], err = o.PutPart(ctx, m, 1, store.Part{Number: int32(i + 1), Offset: int64(i) * 1000, Size: 1000}, bytes.NewReader(data))
				return err
			})
		}
		again("PutPart", func(ctx context.Context) error { // which replaces
			parts[1], err = o.PutPart(ctx, m, 2, store.Part{Number: 3, Offset: 1000, Size: 500}, bytes.NewReader(two))
			return err
		})
		again("Complete", func(ctx context.Context) error { return o.Complete(ctx, m, parts) })
		var aborted store.Multipart
		again("Begin", func(ctx context.Context) error { aborted, err = o.Begin(ctx, key); return err })
		again("Abort", func(ctx context.Context) error { return o.Abort(ctx, aborted) })

		got, err := readAll(ctx, o, key)
		require.NoError(t, err)
		require.Equal(t, append(one[:1000:1000], two[:500]...), got)
		if !disk.removed {
			for _, folder := range []string{o.temp(), o.staged()} {
				require.NoError(t, o.files.names(folder, func(name string) {
					left, err := o.files.stat(o.join(folder[len(o.root)+1:], name))
					require.NoError(t, err)
					require.Failf(t, "a file is left", "%s (%d bytes) in %s, after operation %d failed", name, left.size, folder, at)
				}))
			}
		}
		if most < at {
			require.Greater(t, at, 10, "the calls have many operations")
			return
		}
	}
}
