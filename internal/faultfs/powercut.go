package faultfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// ErrPowerCut is what everything gives after the power has gone.
var ErrPowerCut = errors.New("faultfs: the power has been cut")

// sector is what a disk writes as a whole, in bytes.
const sector = 512

// PowerCut is the operating system's file system, with a memory of what has not been made durable: bytes that were
// written since a file's last sync, and names that changed since their directory's. Restore takes them away, in the
// disorder that a real disk leaves. Files are renamed within their directory only.
type PowerCut struct {
	os    OS
	stash string // holds files that were removed or replaced

	mu      sync.Mutex
	files   map[string]*powerFile
	dirs    map[string][]nameChange // not synced yet, oldest first
	stashed int
	left    int // operations that change something until the power goes; < 0: it stays
	dead    bool
}

// powerFile is what is known of one file.
type powerFile struct {
	path string
	undo []undo
}

// undo is what a change of bytes has overwritten.
type undo struct {
	off  int64
	old  []byte
	size int64 // of the file before
	lost bool  // its sync has failed: no later one makes it durable
}

// nameChange is one change of a directory.
type nameChange struct {
	created  string // file or directory that is new
	from, to string // rename
	stashed  string // what was removed, or replaced by a rename, lies here
	removed  string
}

var _ FS = (*PowerCut)(nil)

// NewPowerCut makes a file system whose power goes when after operations that change something have been done; never
// by itself if after is negative. stash is an empty directory on the same file system, outside of what is tested.
func NewPowerCut(stash string, after int) *PowerCut {
	return &PowerCut{stash: stash, files: map[string]*powerFile{}, dirs: map[string][]nameChange{}, left: after}
}

// Cut takes the power away.
func (p *PowerCut) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
}

// Dead reports whether the power is gone.
func (p *PowerCut) Dead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// spend counts one operation; it fails when the power is gone. p.mu must be held.
func (p *PowerCut) spend() error {
	if p.left == 0 {
		p.dead = true
	}
	if p.dead {
		return ErrPowerCut
	}
	if p.left > 0 {
		p.left--
	}
	return nil
}

// keep links a file into the stash. p.mu must be held.
func (p *PowerCut) keep(path string) (string, error) {
	p.stashed++
	to := filepath.Join(p.stash, strconv.Itoa(p.stashed))
	return to, os.Link(path, to)
}

func (p *PowerCut) note(dir string, c nameChange) { p.dirs[dir] = append(p.dirs[dir], c) }

// OpenFile implements [FS].
func (p *PowerCut) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return nil, ErrPowerCut
	}
	fresh := false
	if flag&os.O_CREATE != 0 {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			fresh = true
			if err := p.spend(); err != nil {
				return nil, err
			}
		}
	}
	f, err := p.os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	if fresh {
		p.note(filepath.Dir(name), nameChange{created: name})
		delete(p.files, name)
	}
	pf := p.files[name]
	if pf == nil {
		pf = &powerFile{path: name}
		p.files[name] = pf
	}
	return &powerOpen{File: f, p: p, f: pf}, nil
}

// Rename implements [FS].
func (p *PowerCut) Rename(oldName, newName string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.spend(); err != nil {
		return err
	}
	if filepath.Dir(oldName) != filepath.Dir(newName) {
		return errors.New("faultfs: rename between directories is not simulated")
	}
	c := nameChange{from: oldName, to: newName}
	if _, err := os.Lstat(newName); err == nil {
		if c.stashed, err = p.keep(newName); err != nil {
			return err
		}
		if pf := p.files[newName]; pf != nil {
			pf.path = c.stashed
			p.files[c.stashed] = pf
		}
	}
	if err := p.os.Rename(oldName, newName); err != nil {
		return err
	}
	delete(p.files, newName)
	if pf := p.files[oldName]; pf != nil {
		delete(p.files, oldName)
		pf.path = newName
		p.files[newName] = pf
	}
	p.note(filepath.Dir(newName), c)
	return nil
}

// Remove implements [FS].
func (p *PowerCut) Remove(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.spend(); err != nil {
		return err
	}
	if _, err := os.Lstat(name); err != nil {
		return err
	}
	stashed, err := p.keep(name)
	if err != nil {
		return err
	}
	if err := p.os.Remove(name); err != nil {
		return err
	}
	if pf := p.files[name]; pf != nil {
		delete(p.files, name)
		pf.path = stashed
		p.files[stashed] = pf
	}
	p.note(filepath.Dir(name), nameChange{removed: name, stashed: stashed})
	return nil
}

// Mkdir implements [FS].
func (p *PowerCut) Mkdir(name string, perm fs.FileMode) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.spend(); err != nil {
		return err
	}
	if err := p.os.Mkdir(name, perm); err != nil {
		return err
	}
	p.note(filepath.Dir(name), nameChange{created: name})
	return nil
}

// SyncDir implements [FS].
func (p *PowerCut) SyncDir(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.spend(); err != nil {
		return err
	}
	if _, err := os.Lstat(name); err != nil {
		return err
	}
	delete(p.dirs, filepath.Clean(name))
	return nil
}

// ReadDir implements [FS].
func (p *PowerCut) ReadDir(name string) ([]fs.DirEntry, error) {
	if p.Dead() {
		return nil, ErrPowerCut
	}
	return p.os.ReadDir(name)
}

// Stat implements [FS].
func (p *PowerCut) Stat(name string) (fs.FileInfo, error) {
	if p.Dead() {
		return nil, ErrPowerCut
	}
	return p.os.Stat(name)
}

// Statfs implements [FS].
func (p *PowerCut) Statfs(name string) (Space, error) { return p.os.Statfs(name) }

// powerOpen is an open file. Its syncs are noted, not done: nothing here depends on the real disk.
type powerOpen struct {
	File
	p *PowerCut
	f *powerFile
}

// remember saves what a change of [off, off+n) overwrites. p.mu must be held.
func (o *powerOpen) remember(off, n int64) error {
	st, err := o.File.Stat()
	if err != nil {
		return err
	}
	u := undo{off: off, size: st.Size()}
	if n = min(n, u.size-off); n > 0 {
		u.old = make([]byte, n)
		if _, err := o.File.ReadAt(u.old, off); err != nil {
			return err
		}
	}
	o.f.undo = append(o.f.undo, u)
	return nil
}

// change does f, which changes [off, off+n).
func (o *powerOpen) change(off, n int64, f func() error) error {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	if err := o.p.spend(); err != nil {
		return err
	}
	if err := o.remember(off, n); err != nil {
		return err
	}
	return f()
}

func (o *powerOpen) WriteAt(b []byte, off int64) (n int, err error) {
	err = o.change(off, int64(len(b)), func() error {
		n, err = o.File.WriteAt(b, off)
		return err
	})
	return n, err
}

func (o *powerOpen) Pwritev(bufs [][]byte, off int64) (n int, err error) {
	var length int64
	for _, b := range bufs {
		length += int64(len(b))
	}
	err = o.change(off, length, func() error {
		n, err = o.File.Pwritev(bufs, off)
		return err
	})
	return n, err
}

func (o *powerOpen) Truncate(size int64) error {
	return o.change(size, 1<<62-size, func() error { return o.File.Truncate(size) })
}

func (o *powerOpen) Fallocate(off, n int64) error {
	return o.change(off, 0, func() error { return o.File.Fallocate(off, n) })
}

func (o *powerOpen) Sync() error {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	if err := o.p.spend(); err != nil {
		return err
	}
	kept := o.f.undo[:0]
	for i, u := range o.f.undo {
		if u.lost {
			kept = o.f.undo[:i+1] // what came before an irrecoverable write cannot be told from it
		}
	}
	o.f.undo = kept
	return nil
}

func (o *powerOpen) Fdatasync() error { return o.Sync() }

// SyncFailed is told by a wrapper that it let a sync fail: what was written until now may never become durable, even
// if later syncs succeed.
func (o *powerOpen) SyncFailed() {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	for i := range o.f.undo {
		o.f.undo[i].lost = true
	}
}

// Restore leaves on disk what a power cut may leave. All files must have been closed, and the power must be gone. r
// decides, sector by sector and name by name, what of the rest has reached the disk; nil: nothing.
func (p *PowerCut) Restore(r *rand.Rand) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
	var errs []error
	for _, f := range p.files {
		if len(f.undo) > 0 {
			errs = append(errs, f.restore(r))
		}
	}
	for _, changes := range p.dirs {
		keep := 0
		if r != nil {
			keep = r.IntN(len(changes) + 1)
		}
		for i := len(changes) - 1; i >= keep; i-- {
			if err := changes[i].revert(); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// restore puts the file back to what was synced, or to a mixture.
func (f *powerFile) restore(r *rand.Rand) error {
	now, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	old := append([]byte(nil), now...)
	for i := len(f.undo) - 1; i >= 0; i-- {
		u := f.undo[i]
		old = resize(old, u.size)
		copy(old[min(u.off, u.size):], u.old)
	}
	result := old
	if r != nil {
		result = mix(old, now, r)
	}
	return os.WriteFile(f.path, result, 0o644)
}

func resize(b []byte, n int64) []byte {
	if n <= int64(len(b)) {
		return b[:n]
	}
	return append(b, make([]byte, n-int64(len(b)))...)
}

// mix takes each sector from the one or the other.
func mix(old, now []byte, r *rand.Rand) []byte {
	size := len(old)
	if r.IntN(2) == 0 {
		size = len(now)
	}
	out := make([]byte, size)
	for at := 0; at < size; at += sector {
		from := old
		if r.IntN(2) == 0 {
			from = now
		}
		if at < len(from) {
			copy(out[at:min(at+sector, size)], from[at:])
		}
	}
	return out
}

func (c nameChange) revert() error {
	switch {
	case c.created != "":
		return os.RemoveAll(c.created)
	case c.removed != "":
		return os.Link(c.stashed, c.removed)
	}
	if err := os.Rename(c.to, c.from); err != nil {
		return err
	}
	if c.stashed != "" {
		return os.Link(c.stashed, c.to)
	}
	return nil
}
