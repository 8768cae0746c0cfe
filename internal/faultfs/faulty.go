package faultfs

import (
	"io/fs"
	"sync"
)

// Op is a kind of operation that [Faulty] can fail.
type Op uint8

// The kinds.
const (
	OpOpen Op = iota
	OpWrite
	OpSync // of a file
	OpSyncDir
	OpRename
	OpRemove
	OpTruncate
	OpMkdir
	OpFallocate
	OpRead
	numOps
)

var opNames = [...]string{"open", "write", "sync", "syncdir", "rename", "remove", "truncate", "mkdir", "fallocate", "read"}

func (o Op) String() string { return opNames[o] }

// Ops lists all kinds.
func Ops() []Op {
	all := make([]Op, numOps)
	for i := range all {
		all[i] = Op(i)
	}
	return all
}

// Faulty passes everything on to FS, but fails what it was told to. Set the exported fields before use.
type Faulty struct {
	FS FS
	// Space, when not nil, is what Statfs reports.
	Space func() Space

	mu     sync.Mutex
	count  [numOps]int
	plan   [numOps]fault
	fired  int
	sticky bool // every later operation that changes something fails too
	dead   error
}

type fault struct {
	n     int // fails the n-th from when the plan was made; 0: none
	err   error
	short bool // a write puts half of its bytes down first
}

// Fail makes the n-th operation of kind op from now fail with err. n counts from 1.
func (f *Faulty) Fail(op Op, n int, err error) { f.set(op, fault{n: n, err: err}, false) }

// FailShort makes the n-th write from now put down only half of its bytes and then fail with err.
func (f *Faulty) FailShort(n int, err error) {
	f.set(OpWrite, fault{n: n, err: err, short: true}, false)
}

// FailFrom makes the n-th operation of kind op, and all that would change anything after it, fail with err: a disk that dies.
func (f *Faulty) FailFrom(op Op, n int, err error) { f.set(op, fault{n: n, err: err}, true) }

func (f *Faulty) set(op Op, p fault, sticky bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[op] = 0
	f.plan[op] = p
	f.sticky = sticky
}

// Clear forgets all plans; a dead disk lives again.
func (f *Faulty) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan = [numOps]fault{}
	f.dead, f.sticky = nil, false
}

// Fired reports how many operations have been failed by plan.
func (f *Faulty) Fired() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired
}

// Count reports how many operations of a kind there were since its plan was made, or ever.
func (f *Faulty) Count(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[op]
}

// check counts one operation, and says whether it fails and how.
func (f *Faulty) check(op Op) (err error, short bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[op]++
	if f.dead != nil && op != OpRead && op != OpOpen {
		return f.dead, false
	}
	p := f.plan[op]
	if p.n == 0 || f.count[op] != p.n {
		return nil, false
	}
	f.fired++
	if f.sticky {
		f.dead = p.err
	}
	return p.err, p.short
}

var _ FS = (*Faulty)(nil)

// OpenFile implements [FS].
func (f *Faulty) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if err, _ := f.check(OpOpen); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	g, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: g, f: f}, nil
}

// Rename implements [FS].
func (f *Faulty) Rename(oldName, newName string) error {
	if err, _ := f.check(OpRename); err != nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: err}
	}
	return f.FS.Rename(oldName, newName)
}

// Remove implements [FS].
func (f *Faulty) Remove(name string) error {
	if err, _ := f.check(OpRemove); err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return f.FS.Remove(name)
}

// Mkdir implements [FS].
func (f *Faulty) Mkdir(name string, perm fs.FileMode) error {
	if err, _ := f.check(OpMkdir); err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return f.FS.Mkdir(name, perm)
}

// ReadDir implements [FS].
func (f *Faulty) ReadDir(name string) ([]fs.DirEntry, error) { return f.FS.ReadDir(name) }

// Stat implements [FS].
func (f *Faulty) Stat(name string) (fs.FileInfo, error) { return f.FS.Stat(name) }

// SyncDir implements [FS].
func (f *Faulty) SyncDir(name string) error {
	if err, _ := f.check(OpSyncDir); err != nil {
		return &fs.PathError{Op: "syncdir", Path: name, Err: err}
	}
	return f.FS.SyncDir(name)
}

// Statfs implements [FS].
func (f *Faulty) Statfs(name string) (Space, error) {
	if f.Space != nil {
		return f.Space(), nil
	}
	return f.FS.Statfs(name)
}

type faultyFile struct {
	File
	f *Faulty
}

func (g *faultyFile) fail(op Op) error {
	if err, _ := g.f.check(op); err != nil {
		return &fs.PathError{Op: op.String(), Path: g.Name(), Err: err}
	}
	return nil
}

func (g *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := g.fail(OpRead); err != nil {
		return 0, err
	}
	return g.File.ReadAt(p, off)
}

func (g *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	err, short := g.f.check(OpWrite)
	if err == nil {
		return g.File.WriteAt(p, off)
	}
	n := 0
	if short {
		n, _ = g.File.WriteAt(p[:len(p)/2], off)
	}
	return n, &fs.PathError{Op: "write", Path: g.Name(), Err: err}
}

func (g *faultyFile) Pwritev(bufs [][]byte, off int64) (int, error) {
	err, short := g.f.check(OpWrite)
	if err == nil {
		return g.File.Pwritev(bufs, off)
	}
	n := 0
	if short {
		n, _ = g.File.Pwritev(half(bufs), off)
	}
	return n, &fs.PathError{Op: "pwritev", Path: g.Name(), Err: err}
}

// half is the first half of the bytes of bufs.
func half(bufs [][]byte) [][]byte {
	left := 0
	for _, b := range bufs {
		left += len(b)
	}
	left /= 2
	var out [][]byte
	for _, b := range bufs {
		b = b[:min(len(b), left)]
		left -= len(b)
		out = append(out, b)
	}
	return out
}

// syncFails is fail for a sync; what is below hears of it, for a failed sync loses data.
func (g *faultyFile) syncFails() error {
	err := g.fail(OpSync)
	if l, ok := g.File.(interface{ SyncFailed() }); err != nil && ok {
		l.SyncFailed()
	}
	return err
}

func (g *faultyFile) Fdatasync() error {
	if err := g.syncFails(); err != nil {
		return err
	}
	return g.File.Fdatasync()
}

func (g *faultyFile) Sync() error {
	if err := g.syncFails(); err != nil {
		return err
	}
	return g.File.Sync()
}

func (g *faultyFile) Truncate(size int64) error {
	if err := g.fail(OpTruncate); err != nil {
		return err
	}
	return g.File.Truncate(size)
}

func (g *faultyFile) Fallocate(off, n int64) error {
	if err := g.fail(OpFallocate); err != nil {
		return err
	}
	return g.File.Fallocate(off, n)
}
