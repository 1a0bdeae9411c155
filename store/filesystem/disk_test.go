package filesystem

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// disk is a simulated disk with a cache in front of it. Until they are synced, bytes and names are in the cache only. A power
// cut keeps any subset of them: of a write any range of its bytes, or just the length that it gave the file; of the names in a
// folder any that were made or removed. It is as unkind as file systems may be, but for one thing that all of them grant:
// a rename never loses the file. (Both names may survive.)
type disk struct {
	root *node
}

// node is a file or a folder.
type node struct {
	bytes, durableBytes []byte // of a file
	writes              []write
	names, durableNames map[string]*node // of a folder, else nil
	renames             []*rename
	locker              *simFile
}

// write is a write that was not synced, or, without bytes, a truncation.
type write struct {
	at    int64
	bytes []byte
}

// rename is a name that was not synced: made, or, without a node, removed.
type rename struct {
	in    *node
	name  string
	node  *node
	after *rename // is on the disk whenever this one is
	done  bool
}

func newFolder() *node { return &node{names: map[string]*node{}, durableNames: map[string]*node{}} }

func newDisk() *disk { return &disk{root: newFolder()} }

func (w write) apply(to []byte) []byte {
	if w.bytes == nil {
		return grow(to, w.at)[:w.at]
	}
	to = grow(to, w.at+int64(len(w.bytes)))
	copy(to[w.at:], w.bytes)
	return to
}

func grow(b []byte, size int64) []byte {
	return append(b, make([]byte, max(0, size-int64(len(b))))...)
}

func (r *rename) apply() {
	if r.done {
		return
	}
	r.done = true
	if r.after != nil {
		r.after.apply()
	}
	if r.node == nil {
		delete(r.in.durableNames, r.name)
		return
	}
	r.in.durableNames[r.name] = r.node
}

func (n *node) rename(name string, to *node, after *rename) *rename {
	if to == nil {
		delete(n.names, name)
	} else {
		n.names[name] = to
	}
	r := &rename{in: n, name: name, node: to, after: after}
	n.renames = append(n.renames, r)
	return r
}

// powerCut forgets what was not synced, but for what luck kept. What is left is a new disk.
func (d *disk) powerCut(luck luck) *disk {
	d.root.keepNames(luck)
	return &disk{root: d.root.durable(luck, map[*node]*node{})}
}

func (n *node) keepNames(luck luck) {
	for _, r := range n.renames {
		if !r.done && luck.keeps() {
			r.apply()
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		n.names[name].keepNames(luck)
	}
}

// durable returns a copy of what is on the disk. A file with two names stays one file.
func (n *node) durable(luck luck, copies map[*node]*node) *node {
	if left, ok := copies[n]; ok {
		return left
	}
	if n.names == nil {
		bytes := slices.Clone(n.durableBytes)
		for _, w := range n.writes {
			bytes = luck.tear(w, bytes)
		}
		copies[n] = &node{bytes: bytes, durableBytes: slices.Clone(bytes)}
		return copies[n]
	}
	left := newFolder()
	copies[n] = left
	for _, name := range slices.Sorted(maps.Keys(n.durableNames)) {
		left.durableNames[name] = n.durableNames[name].durable(luck, copies)
	}
	left.names = maps.Clone(left.durableNames)
	return left
}

// luck decides what an untimely end keeps.
type luck struct {
	none, all bool
	*rand.Rand
}

func (l luck) keeps() bool { return l.all || !l.none && l.IntN(2) == 0 }

func (l luck) tear(w write, left []byte) []byte {
	switch {
	case !l.keeps():
		return left
	case l.all || w.bytes == nil || l.IntN(3) > 0:
		return w.apply(left)
	}
	left = grow(left, w.at+int64(len(w.bytes))) // with zeros where bytes were lost
	from := l.IntN(len(w.bytes))
	to := from + l.IntN(len(w.bytes)-from)
	copy(left[w.at+int64(from):], w.bytes[from:to])
	return left
}

// errEnd is what every operation of a process returns that has ended, or of a machine without power.
var errEnd = errors.New("the process has ended")

// process is a process that uses the disk, for a number of operations that change something.
type process struct {
	disk *disk
	left int // operations; negative is without end
	read int // bytes
	now  time.Time
	lies func(op, path string) bool // of syncs that are not done, though they are acknowledged; nil is none
}

func (p *process) begin(changes bool) error {
	if p.left == 0 {
		return errEnd
	}
	if changes {
		p.left--
	}
	return nil
}

// find returns the node of a name and its folder; the node may be nil.
func (p *process) find(op, path string) (folder *node, name string, n *node, err error) {
	folder, n = p.disk.root, p.disk.root
	for _, name = range split(path) {
		if n == nil || n.names == nil {
			return nil, "", nil, &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
		}
		folder, n = n, n.names[name]
	}
	return folder, name, n, nil
}

func split(path string) []string {
	names := []string{}
	for dir := path; filepath.Dir(dir) != dir; dir = filepath.Dir(dir) {
		names = append(names, filepath.Base(dir))
	}
	slices.Reverse(names)
	return names
}

// existing is find for what must exist.
func (p *process) existing(op, path string) (folder *node, name string, n *node, err error) {
	folder, name, n, err = p.find(op, path)
	if err == nil && n == nil {
		err = &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
	}
	return folder, name, n, err
}

func (p *process) open(path string, flag int) (file, error) {
	if err := p.begin(flag&os.O_CREATE != 0); err != nil {
		return nil, err
	}
	folder, name, n, err := p.find("open", path)
	switch {
	case err != nil:
		return nil, err
	case n == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	case n != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrExist}
	case n == nil:
		n = &node{}
		folder.rename(name, n, nil)
	}
	return &simFile{process: p, node: n, path: path}, nil
}

func (p *process) mkdir(path string) error {
	if err := p.begin(true); err != nil {
		return err
	}
	folder, name, n, err := p.find("mkdir", path)
	switch {
	case err != nil:
		return err
	case n != nil:
		return &fs.PathError{Op: "mkdir", Path: path, Err: fs.ErrExist}
	}
	folder.rename(name, newFolder(), nil)
	return nil
}

func (p *process) rename(from, to string) error {
	if err := p.begin(true); err != nil {
		return err
	}
	fromFolder, fromName, n, err := p.existing("rename", from)
	if err != nil {
		return err
	}
	toFolder, toName, old, err := p.find("rename", to)
	if err != nil {
		return err
	}
	if old == n {
		return nil // as POSIX has it: two names of one file stay
	}
	fromFolder.rename(fromName, nil, toFolder.rename(toName, n, nil))
	return nil
}

func (p *process) remove(path string) error {
	if err := p.begin(true); err != nil {
		return err
	}
	folder, name, _, err := p.existing("remove", path)
	if err != nil {
		return err
	}
	folder.rename(name, nil, nil)
	return nil
}

func (p *process) stat(path string) (info, error) {
	if err := p.begin(false); err != nil {
		return info{}, err
	}
	_, _, n, err := p.existing("stat", path)
	if err != nil {
		return info{}, err
	}
	return info{size: int64(len(n.bytes)), modified: p.now.Add(-25 * time.Hour)}, nil // so that all is swept that may be
}

func (p *process) names(dir string, visit func(name string)) error {
	if err := p.begin(false); err != nil {
		return err
	}
	_, _, n, err := p.existing("open", dir)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		visit(name)
	}
	return nil
}

func (p *process) sync(f file) error {
	if err := p.begin(true); err != nil {
		return err
	}
	if p.lies != nil && p.lies("sync", f.(*simFile).path) {
		return nil
	}
	n := f.(*simFile).node
	n.durableBytes, n.writes = slices.Clone(n.bytes), nil
	return nil
}

func (p *process) syncData(f file) error { return p.sync(f) }

func (p *process) syncDir(dir string) error {
	if err := p.begin(true); err != nil {
		return err
	}
	_, _, n, err := p.existing("sync", dir)
	if err != nil {
		return err
	}
	if p.lies != nil && p.lies("syncDir", dir) {
		return nil
	}
	for _, r := range n.renames {
		r.apply()
	}
	n.renames = nil
	return nil
}

func (p *process) tryLock(f file) (bool, error) {
	if err := p.begin(false); err != nil {
		return false, err
	}
	s := f.(*simFile)
	if s.node.locker != nil {
		return false, nil
	}
	s.node.locker = s
	return true, nil
}

func (p *process) unlock(f file) error {
	if s := f.(*simFile); s.node.locker == s {
		s.node.locker = nil
	}
	return nil
}

// simFile is an open file.
type simFile struct {
	process *process
	node    *node
	path    string
	at      int64
}

func (f *simFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.process.begin(false); err != nil {
		return 0, err
	}
	if off >= int64(len(f.node.bytes)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.bytes[off:])
	f.process.read += n
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *simFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *simFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.process.begin(true); err != nil {
		return 0, err
	}
	f.change(write{at: off, bytes: slices.Clone(p)})
	return len(p), nil
}

func (f *simFile) Truncate(size int64) error {
	if err := f.process.begin(true); err != nil {
		return err
	}
	f.change(write{at: size})
	return nil
}

func (f *simFile) change(w write) {
	f.node.bytes = w.apply(f.node.bytes)
	f.node.writes = append(f.node.writes, w)
}

func (f *simFile) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		offset += int64(len(f.node.bytes))
	}
	f.at = offset
	return offset, nil
}

func (f *simFile) Close() error { return f.process.unlock(f) }
