package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

const (
	filesDir = "files"
	metaExt  = ".meta"
	// metaXattr holds the record of an entity in layout "files", when it is short enough.
	metaXattr    = "user.wheelhouse.meta"
	mimeXattr    = "user.mime_type"
	maxMetaXattr = 2 << 10 // bytes; ext4 has room for less than 4 KiB per file
)

// fileStore keeps entities as one file each, in MogileFS's paths. In layout "packs" it holds the large ones, below
// "files", each with its record in a file beside it; the ids are in memory. In layout "files" it holds all of them, with
// the record in an extended attribute where possible; nothing is in memory, since a device that was adopted may hold
// many millions.
type fileStore struct {
	d     *Disk
	fs    faultfs.FS
	root  string
	adopt bool // layout "files"

	// stripes guard the pair of data and record of an id: readers open both under one lock, writers rename both.
	stripes [64]sync.RWMutex
	metas   metaCache
	dirs    durableDirs

	mu     sync.RWMutex
	ids    map[store.ObjectID]int64 // sizes, -1 when not yet known; nil in layout "files"
	sorted []store.ObjectID         // nil when out of date

	count atomic.Int64 // layout "files" only, as far as is known
	bytes atomic.Int64
}

func openFiles(d *Disk) (*fileStore, error) {
	s := &fileStore{d: d, fs: d.fs, root: d.dir, adopt: d.o.Layout == LayoutFiles}
	if s.adopt {
		return s, nil
	}
	s.root = filepath.Join(d.dir, filesDir)
	s.ids = map[store.ObjectID]int64{}
	return s, s.load()
}

// load learns the ids from the names of the files, and removes what a crash left.
func (s *fileStore) load() error {
	if err := atomicfile.MkdirAll(s.fs, s.root, 0o755); err != nil {
		return err
	}
	data := map[store.ObjectID]bool{}
	meta := map[store.ObjectID]bool{}
	var stale []string
	err := s.walk("", 0, func(rel string) error {
		name, isMeta := strings.CutSuffix(rel, metaExt)
		id, ok := store.ParseEntityPath(name)
		switch {
		case ok && isMeta:
			meta[id] = true
		case ok:
			data[id] = true
		case atomicfile.IsTemp(filepath.Base(rel)):
			stale = append(stale, rel)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id := range data {
		if meta[id] {
			s.ids[id] = -1
		} else {
			stale = append(stale, store.EntityPath(id))
		}
	}
	for id := range meta {
		if !data[id] {
			stale = append(stale, store.EntityPath(id)+metaExt)
		}
	}
	for _, rel := range stale {
		s.d.log.Info("left-over file removed", "file", filepath.Join(s.root, rel))
		if err := s.fs.Remove(filepath.Join(s.root, rel)); err != nil {
			return err
		}
	}
	return nil
}

// walk calls f with the relative path of each file in directories named as store.EntityPath names them.
func (s *fileStore) walk(rel string, depth int, f func(rel string) error) error {
	entries, err := s.fs.ReadDir(filepath.Join(s.root, rel))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(rel, e.Name())
		switch {
		case depth < 3 && e.IsDir() && isLevel(e.Name(), depth):
			err = s.walk(name, depth+1, f)
		case depth == 3 && !e.IsDir():
			err = f(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isLevel reports whether name is that of a directory at this depth: one digit, then three, three.
func isLevel(name string, depth int) bool {
	want := 3
	if depth == 0 {
		want = 1
	}
	return len(name) == want && strings.Trim(name, "0123456789") == ""
}

func (s *fileStore) path(id store.ObjectID) string {
	return filepath.Join(s.root, store.EntityPath(id))
}

func (s *fileStore) stripe(id store.ObjectID) *sync.RWMutex { return &s.stripes[id%64] }

func (s *fileStore) close() {}

// has reports whether there is an entity of this id.
func (s *fileStore) has(id store.ObjectID) bool {
	if s.adopt {
		_, err := s.fs.Stat(s.path(id))
		return err == nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.ids[id]
	return ok
}

// open gives a reader; see Disk.Open.
func (s *fileStore) open(id store.ObjectID, off, n int64) (*Reader, error) {
	if !s.adopt && !s.has(id) {
		return nil, noEntity(id)
	}
	h, m, err := s.openPair(id)
	if err != nil {
		return nil, err
	}
	src := source{
		h: h, id: id, size: m.info.Size, block: blockBytes, crcs: m.sums(), what: h.Name(),
		header: func() (store.EntityInfo, error) { return m.info, nil },
	}
	return newReader(src, !s.d.o.NoVerify, off, n)
}

func (s *fileStore) stat(id store.ObjectID) (store.EntityInfo, error) {
	if !s.adopt && !s.has(id) {
		return store.EntityInfo{}, noEntity(id)
	}
	h, m, err := s.openPair(id)
	if err != nil {
		return store.EntityInfo{}, err
	}
	h.release()
	return m.info, nil
}

// openPair opens an entity's data, and reads its record.
func (s *fileStore) openPair(id store.ObjectID) (*handle, *fileMeta, error) {
	lock := s.stripe(id)
	lock.RLock()
	defer lock.RUnlock()
	f, err := s.fs.OpenFile(s.path(id), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, noEntity(id)
	}
	if err != nil {
		return nil, nil, fileError(id, err)
	}
	m, err := s.meta(id, f)
	if err != nil {
		f.Close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, noEntity(id) // it was deleted just now
		}
		return nil, nil, fileError(id, err)
	}
	return newHandle(f), m, nil
}

func fileError(id store.ObjectID, err error) error {
	return &store.ReadError{Err: fmt.Errorf("%w: object %d: %w", store.ErrCorrupt, id, err)}
}

// meta gives the record of the entity whose data is f. The id's stripe must be held.
func (s *fileStore) meta(id store.ObjectID, f faultfs.File) (*fileMeta, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	m := s.metas.get(id)
	if m == nil {
		if m, err = s.readMeta(id, f, st); err != nil {
			return nil, err
		}
		if !m.bare {
			s.metas.put(id, m)
		}
	}
	if m.info.Size != st.Size() {
		return nil, fmt.Errorf("%s has %d bytes, not %d", f.Name(), st.Size(), m.info.Size)
	}
	return m, nil
}

func (s *fileStore) readMeta(id store.ObjectID, f faultfs.File, st fs.FileInfo) (*fileMeta, error) {
	b, err := s.metaText(id, f)
	if s.adopt && errors.Is(err, fs.ErrNotExist) {
		return &fileMeta{bare: true, info: store.EntityInfo{ID: id, Size: st.Size(), Created: st.ModTime(), Stored: st.ModTime()}}, nil
	}
	if err != nil {
		return nil, err
	}
	metas, err := parseMetas(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path(id)+metaExt, err)
	}
	m := metas[0]
	if len(metas) > 1 && !matches(f, m) {
		m = metas[1]
	}
	if m.info.ID != id {
		return nil, fmt.Errorf("%s: is object %d's", s.path(id)+metaExt, m.info.ID)
	}
	return m, nil
}

// metaText finds the record's text: fs.ErrNotExist when there is none.
func (s *fileStore) metaText(id store.ObjectID, f faultfs.File) ([]byte, error) {
	if s.adopt {
		var buf [maxMetaXattr]byte
		n, err := unix.Fgetxattr(int(f.OSFile().Fd()), metaXattr, buf[:])
		if err == nil {
			return slices.Clone(buf[:n]), nil
		}
		if err != unix.ENODATA && err != unix.EOPNOTSUPP {
			return nil, err
		}
	}
	return faultfs.ReadFile(s.fs, s.path(id)+metaExt, maxMetaFile)
}

// matches reports whether the bytes of f are those that m describes.
func matches(f faultfs.File, m *fileMeta) bool {
	st, err := f.Stat()
	if err != nil || st.Size() != m.info.Size {
		return false
	}
	sc := scanner{w: newWindow(f, st.Size())}
	crc, err := sc.checksum(0, st.Size())
	return err == nil && crc == m.crc
}

// remove deletes entities, durably.
func (s *fileStore) remove(ids []store.ObjectID) error {
	var errs []error
	dirs := map[string]bool{}
	for _, id := range ids {
		if err := s.removeOne(id, nil); err != nil {
			errs = append(errs, err)
		}
		dirs[filepath.Dir(s.path(id))] = true
	}
	for dir := range dirs {
		if err := s.fs.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeOne deletes an entity's record and data. In layout "files" the data says whether the entity is there, in
// layout "packs" both do.
// cond, unless nil, is asked whether to do it.
func (s *fileStore) removeOne(id store.ObjectID, cond func(*fileMeta) bool) error {
	lock := s.stripe(id)
	lock.Lock()
	defer lock.Unlock()
	if cond != nil && !cond(s.current(id)) {
		return nil
	}
	s.metas.drop(id)
	path := s.path(id)
	st, statErr := s.fs.Stat(path)
	for _, p := range []string{path, path + metaExt} {
		if err := s.fs.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if statErr == nil {
		s.forget(id, st.Size())
	} else {
		s.forget(id, 0)
	}
	return nil
}

// supersede removes an entity if it is older than one that was stored in a pack. Nobody waits for it.
func (s *fileStore) supersede(id store.ObjectID, stored time.Time) {
	s.d.background(func() {
		older := func(m *fileMeta) bool { return m == nil || m.info.Stored.Before(stored) }
		err := s.removeOne(id, older)
		if err == nil {
			err = s.fs.SyncDir(filepath.Dir(s.path(id)))
		}
		if err != nil {
			s.d.log.Warn("replaced entity not deleted", "object", id, "err", err)
		}
	})
}

// note counts an entity in that was written.
func (s *fileStore) note(id store.ObjectID, size, replaced int64) {
	if s.adopt {
		if replaced < 0 {
			s.count.Add(1)
		}
		s.bytes.Add(size - max(0, replaced))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.ids[id]
	s.ids[id] = size
	s.bytes.Add(size)
	if ok {
		s.bytes.Add(-max(0, old))
	} else {
		s.sorted = nil
	}
}

func (s *fileStore) forget(id store.ObjectID, size int64) {
	if s.adopt {
		s.count.Add(-1)
		s.bytes.Add(-size)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.ids[id]; ok {
		delete(s.ids, id)
		s.bytes.Add(-max(0, old))
		s.sorted = nil
	}
}

func (s *fileStore) usage() (n, bytes int64) {
	if s.adopt {
		return s.count.Load(), s.bytes.Load()
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return int64(len(s.ids)), s.bytes.Load()
}

// durableDirs remembers which directories are known to be durable, up to the root.
type durableDirs struct {
	mu    sync.Mutex
	known map[string]bool
}

// ensure creates dir below root if need be. Even one that exists may have been made by someone who has not synced it.
// present is asked first: below a disk that is not mounted nothing must be made.
func (c *durableDirs) ensure(fsys faultfs.FS, root, dir string, present func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[dir] {
		return nil
	}
	if err := present(); err != nil {
		return err
	}
	if err := atomicfile.MkdirAll(fsys, dir, 0o755); err != nil {
		return err
	}
	for up := dir; up != root; up = filepath.Dir(up) {
		if err := fsys.SyncDir(filepath.Dir(up)); err != nil {
			return err
		}
	}
	if c.known == nil {
		c.known = map[string]bool{}
	}
	c.known[dir] = true
	return nil
}
