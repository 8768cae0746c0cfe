package web

import (
	"container/list"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	recheck    = time.Second // after which an open file is compared with what its name stands for now
	renewEvery = recheck / 2 // how often that is done beforehand, for those that are asked for
	renewMost  = 4096        // files at once
	unusedFor  = time.Minute // after which it is closed
	maxDocroot = 256         // directories that are kept open
	smallFile  = 32 << 10    // what is sent in one write with its head, and kept in memory for that
)

// key is a file's name: below dir, or an absolute one where dir is "". siblings says to look for it in other codings too.
type key struct {
	dir, name string
	siblings  bool
}

// file is an open file. Its fields are never changed, but for those that files guards.
type file struct {
	key  key
	f    *os.File // nil: a directory
	info os.FileInfo
	validators
	zstd, gzip bool                   // a sibling has it in that coding
	bytes      atomic.Pointer[[]byte] // all of it, if it is small and has been asked for twice

	checked, used time.Time // guarded by files.mu, as all below
	refs          int
	place         *list.Element // nil: not kept
	inMemory      bool          // its size is counted in files.memory
}

// root is a directory that files are opened below.
type root struct {
	dir           *os.Root
	checked, used time.Time
	refs          int
	gone          bool
}

// files keeps files open. What a name stands for is looked at again at most every second: for files that are asked for all the time by renew, so that
// no request waits for it, and for others by the request.
type files struct {
	max       int
	maxMemory int64

	mu     sync.Mutex // guards all below; never held while a file is looked for
	roots  map[string]*root
	kept   map[key]*file
	order  *list.List // of *file, the last used first
	memory int64      // bytes of small files
	writes uint64     // how often forget was called
	timer  *time.Timer
	renews *time.Timer // nil: no file is asked for
	closed bool
}

func newFiles(most int, memory int64) *files {
	return &files{max: most, maxMemory: memory, roots: map[string]*root{}, kept: map[key]*file{}, order: list.New()}
}

// open finds a file or a directory. The caller releases it.
func (c *files) open(k key) (*file, error) {
	now := time.Now()
	c.mu.Lock()
	f := c.kept[k]
	if f == nil {
		writes := c.writes
		c.mu.Unlock()
		return c.openNew(k, now, writes)
	}
	f.refs++
	f.used = now
	c.order.MoveToFront(f.place)
	fresh := now.Sub(f.checked) < recheck
	if !fresh {
		f.checked = now // who comes meanwhile need not look too
		c.armRenewal()
	}
	load := !f.inMemory && f.size <= smallFile && c.memory+f.size <= c.maxMemory
	if load {
		f.inMemory = true
		c.memory += f.size
	}
	c.mu.Unlock()
	if fresh || c.same(f) {
		if load {
			f.load()
		}
		return f, nil
	}
	c.mu.Lock()
	c.drop(f)
	writes := c.writes
	c.mu.Unlock()
	c.release(f)
	return c.openNew(k, now, writes)
}

// load reads a small file, unless it is being changed.
func (f *file) load() {
	b := make([]byte, f.size)
	if _, err := f.f.ReadAt(b, 0); err != nil {
		return
	}
	if info, err := f.f.Stat(); err == nil && info.Size() == f.size && info.ModTime().Equal(f.modified) {
		f.bytes.Store(&b)
	}
}

// same reports whether a file's name still stands for it, as it was when it was opened.
func (c *files) same(f *file) bool {
	info, err := c.stat(f.key)
	if err != nil || !os.SameFile(info, f.info) || info.Size() != f.size || !info.ModTime().Equal(f.modified) {
		return false
	}
	if !f.key.siblings {
		return true
	}
	zstd, gzip := c.siblings(f.key, f.modified)
	return zstd == f.zstd && gzip == f.gzip
}

// renew compares the files that have been asked for since it did so last with what their names stand for now. All at once is cheaper than one by one
// between the requests, where each look wakes the runtime's monitor (see internal/rawio).
func (c *files) renew() {
	begun := time.Now()
	var list []*file
	c.mu.Lock()
	for e := c.order.Front(); e != nil && len(list) < renewMost; e = e.Next() {
		f := e.Value.(*file)
		if begun.Sub(f.used) >= renewEvery {
			break
		}
		if begun.Sub(f.checked) >= renewEvery {
			f.refs++
			list = append(list, f)
		}
	}
	c.mu.Unlock()
	for _, f := range list {
		now := time.Now()
		same := c.same(f)
		c.mu.Lock()
		if same {
			f.checked = now
		} else {
			c.drop(f)
		}
		c.mu.Unlock()
		c.release(f)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renews = nil
	if len(list) > 0 {
		c.armRenewal()
	}
}

// armRenewal has renew done in a while. mu is held.
func (c *files) armRenewal() {
	if c.renews == nil && !c.closed {
		c.renews = time.AfterFunc(renewEvery, c.renew)
	}
}

// openNew opens a file and keeps it, unless something was written since writes was read.
func (c *files) openNew(k key, now time.Time, writes uint64) (*file, error) {
	f := &file{key: k, checked: now, used: now, refs: 1}
	var err error
	if f.f, err = c.openFile(k); err != nil {
		return nil, err
	}
	if f.info, err = f.f.Stat(); err == nil && !f.info.IsDir() && !f.info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: k.name, Err: errors.New("neither a file nor a directory")}
	}
	if err != nil || f.info.IsDir() {
		f.f.Close()
		f.f = nil
		return f, err
	}
	f.size, f.modified = f.info.Size(), f.info.ModTime()
	f.date = f.modified.UTC().Format(http.TimeFormat)
	f.etag = etag(f.size, f.modified, "")
	if k.siblings {
		f.zstd, f.gzip = c.siblings(k, f.modified)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.writes != writes || c.kept[k] != nil {
		return f, nil
	}
	f.refs++
	c.kept[k], f.place = f, c.order.PushFront(f)
	for c.order.Len() > c.max {
		c.drop(c.order.Back().Value.(*file))
	}
	c.arm()
	return f, nil
}

// etag is a strong validator: a file that is written again has another time, in nanoseconds, unless someone sets it back.
func etag(size int64, modified time.Time, coding string) string {
	b := append(make([]byte, 0, 48), '"')
	b = strconv.AppendInt(b, size, 16)
	b = strconv.AppendInt(append(b, '-'), modified.UnixNano(), 16)
	if coding != "" {
		b = append(append(b, '-'), coding...)
	}
	return string(append(b, '"'))
}

// siblings looks for a file in other codings. One that is older than the file is none.
func (c *files) siblings(k key, modified time.Time) (zstd, gzip bool) {
	is := func(suffix string) bool {
		info, err := c.stat(key{dir: k.dir, name: k.name + suffix})
		return err == nil && info.Mode().IsRegular() && !info.ModTime().Before(modified)
	}
	return is(".zst"), is(".gz")
}

// openFile opens for reading. O_NONBLOCK keeps a FIFO from holding the request.
func (c *files) openFile(k key) (*os.File, error) {
	const flags = os.O_RDONLY | syscall.O_NONBLOCK
	if k.dir == "" {
		return os.OpenFile(k.name, flags, 0)
	}
	r, err := c.root(k.dir)
	if err != nil {
		return nil, err
	}
	defer c.releaseRoot(r)
	return r.dir.OpenFile(k.name, flags, 0)
}

func (c *files) stat(k key) (os.FileInfo, error) {
	if k.dir == "" {
		return os.Stat(k.name)
	}
	r, err := c.root(k.dir)
	if err != nil {
		return nil, err
	}
	defer c.releaseRoot(r)
	return r.dir.Stat(k.name)
}

// release gives a file back.
func (c *files) release(f *file) {
	if f.f == nil {
		return
	}
	c.mu.Lock()
	f.refs--
	last := f.refs == 0
	c.mu.Unlock()
	if last {
		f.f.Close()
	}
}

// drop no longer keeps a file. mu is held.
func (c *files) drop(f *file) {
	if f.place == nil {
		return
	}
	c.order.Remove(f.place)
	f.place = nil
	if f.inMemory {
		f.inMemory = false
		c.memory -= f.size
	}
	delete(c.kept, f.key)
	if f.refs--; f.refs == 0 {
		f.f.Close()
	}
}

// forget is told of a name that was written or removed.
func (c *files) forget(dir, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	plain := strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst") // whose siblings are others now
	for _, k := range []key{{dir, name, false}, {dir, name, true}, {dir, plain, true}} {
		if f := c.kept[k]; f != nil {
			c.drop(f)
		}
	}
}

// arm has the timer look for what nobody uses. mu is held.
func (c *files) arm() {
	if c.timer == nil && !c.closed && (c.order.Len() > 0 || len(c.roots) > 0) {
		c.timer = time.AfterFunc(unusedFor, func() { c.sweep(time.Now()) })
	}
}

// sweep closes what has not been used for a while.
func (c *files) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.order.Back(); e != nil && now.Sub(e.Value.(*file).used) >= unusedFor; e = c.order.Back() {
		c.drop(e.Value.(*file))
	}
	for path, r := range c.roots {
		if now.Sub(r.used) >= unusedFor {
			c.dropRoot(path)
		}
	}
	c.timer = nil
	c.arm()
}

func (c *files) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for c.order.Len() > 0 {
		c.drop(c.order.Front().Value.(*file))
	}
	for path := range c.roots {
		c.dropRoot(path)
	}
	for _, t := range []*time.Timer{c.timer, c.renews} {
		if t != nil {
			t.Stop()
		}
	}
}
