package filesystem

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ocikit/ocikit/store"
)

// Options configures [New]. The zero value works.
type Options struct {
	// NoSync leaves it to the operating system when bytes reach the disk. Writes are faster, survive the end of the
	// process, and are lost, in whole or in part, in a power cut.
	NoSync bool

	// PartSize is the preferred size of a part, in bytes. The default is 4 MiB, the most is 1 GiB.
	PartSize int64

	// ReadOnly has New leave the folder as it is, which has to be there: nothing is made, tried, or swept. It is for those who
	// look at what others write.
	ReadOnly bool
}

// The limits of parts: any size does, since parts are written in place. A part number costs nothing until it is used.
const (
	defaultPartSize = 4 << 20
	maxPartSize     = 1 << 30
	maxParts        = 1 << 24
)

// format is the version of the layout, as it stands in the file of that name.
const format = "ocikit objects 1\n"

// ErrFormat says that a folder holds objects in a layout that this version does not know.
var ErrFormat = errors.New("folder of another version")

// Objects is a [store.Objects] in a folder. Make one with [New]. It keeps no file open between calls and needs no closing.
type Objects struct {
	layout
	files    files
	partSize int64
	durable  sync.Map // folders of objects (string) whose own names are known to be durable
	buffers  sync.Pool
}

// New returns the store in the folder dir, which it makes if it is missing. Any number of processes may share the folder.
// opts may be nil. It fails when the folder cannot be written, unless nothing will be, or, with [ErrFormat], is of another version.
func New(dir string, opts *Options) (*Objects, error) {
	if opts == nil {
		opts = &Options{}
	}
	o, err := open(osFiles{}, dir, opts, time.Now())
	if err != nil {
		return nil, fmt.Errorf("open objects in folder %s: %w", dir, err)
	}
	return o, nil
}

// open is New over any files.
func open(files files, dir string, opts *Options, now time.Time) (*Objects, error) {
	if opts.PartSize < 0 || opts.PartSize > maxPartSize {
		return nil, fmt.Errorf("a part size of %d bytes is not between 1 and %d", opts.PartSize, maxPartSize)
	}
	dir, err := filepath.Abs(dir) // the process may change its folder
	if err != nil {
		return nil, err
	}
	if opts.NoSync {
		files = unsynced{files}
	}
	o := &Objects{layout: layout{root: dir}, files: files, partSize: opts.PartSize}
	if o.partSize == 0 {
		o.partSize = defaultPartSize
	}
	o.buffers.New = func() any { b := make([]byte, 64<<10); return &b }
	if opts.ReadOnly {
		if err := o.checkFormat(); err != nil {
			return nil, classify(err)
		}
		return o, nil
	}
	if err := o.makeFolders(); err != nil {
		return nil, classify(err)
	}
	if err := o.writeFormat(); err != nil {
		return nil, classify(err)
	}
	if err := o.sweep(now); err != nil {
		return nil, classify(err)
	}
	return o, nil
}

// Limits implements [store.Objects].
func (o *Objects) Limits() store.Limits {
	return store.Limits{MinPart: 1, MaxPart: maxPartSize, PartSize: o.partSize, MaxParts: maxParts}
}

// makeFolders makes what is missing of the layout, and makes its names durable, also those that another process has just
// made and not synced yet.
func (o *Objects) makeFolders() error {
	if err := makeFolder(o.files, o.root); err != nil {
		return err
	}
	if err := syncPath(o.files, o.root); err != nil {
		return err
	}
	for _, folder := range []string{o.objects(), o.staged(), o.temp()} {
		if err := o.files.mkdir(folder); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return o.files.syncDir(o.root)
}

// makeFolder makes dir and the folders above it that are missing.
func makeFolder(files files, dir string) error {
	err := files.mkdir(dir)
	if parent := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeFolder(files, parent); err != nil {
			return err
		}
		err = files.mkdir(dir)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// syncPath makes the names of dir and of the folders above it durable. Also of those that were there before: a process that had
// just made them may have come no further. Folders that cannot be opened are not of our making.
func syncPath(files files, dir string) error {
	for parent := filepath.Dir(dir); parent != dir; dir, parent = parent, filepath.Dir(parent) {
		if err := files.syncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// writeFormat proves that the folder can be written, by writing what its format is, and that it is of this version.
func (o *Objects) writeFormat() error {
	temp := o.newTemp()
	if err := o.writeFile(temp, format); err != nil {
		return err
	}
	name := o.format()
	if _, err := o.files.stat(name); errors.Is(err, fs.ErrNotExist) {
		// Two processes may both do this: they write the same.
		if err := o.files.rename(temp, name); err != nil {
			return errors.Join(err, o.files.remove(temp))
		}
		return o.files.syncDir(o.root)
	} else if err != nil {
		return errors.Join(err, o.files.remove(temp))
	}
	if err := o.files.remove(temp); err != nil {
		return err
	}
	return o.checkFormat()
}

// checkFormat proves that the folder is of this version.
func (o *Objects) checkFormat() error {
	name := o.format()
	f, err := o.files.open(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no %s", ErrFormat, name)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	found, err := io.ReadAll(io.LimitReader(f, 100))
	if err != nil {
		return err
	}
	if string(found) != format {
		return fmt.Errorf("%w: %s says %q, not %q", ErrFormat, name, found, format)
	}
	return nil
}

// writeFile writes a small file, durably but for its name.
func (o *Objects) writeFile(name, content string) error {
	f, err := o.files.open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(content), 0)
	if err == nil {
		err = o.files.sync(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, o.files.remove(name))
	}
	return nil
}

// makeDurableFolder makes the folder of an object, if it is missing, and its name durable. It need not be asked again for a
// folder that this process has seen to once.
func (o *Objects) makeDurableFolder(folder string) error {
	if _, ok := o.durable.Load(folder); ok {
		return nil
	}
	if err := o.files.mkdir(folder); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := o.files.syncDir(o.objects()); err != nil {
		return err
	}
	o.durable.Store(folder, nil)
	return nil
}
