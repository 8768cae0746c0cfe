package disk

import (
	"errors"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/store"
)

// list yields the ids in [from, to), in order.
func (s *fileStore) list(from, to store.ObjectID) iter.Seq2[store.ObjectID, error] {
	if s.adopt {
		return s.listDirs(from, to)
	}
	return func(yield func(store.ObjectID, error) bool) {
		ids := s.sortedIDs()
		i, _ := slices.BinarySearch(ids, from)
		for ; i < len(ids) && ids[i] < to; i++ {
			if !yield(ids[i], nil) {
				return
			}
		}
	}
}

// sortedIDs is all ids, in order. The slice is never changed.
func (s *fileStore) sortedIDs() []store.ObjectID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sorted == nil {
		s.sorted = make([]store.ObjectID, 0, len(s.ids))
		for id := range s.ids {
			s.sorted = append(s.sorted, id)
		}
		slices.Sort(s.sorted)
	}
	return s.sorted
}

// shortIDs is the first id whose file has a longer name than ten digits: up to there, files and directories are in
// order of id.
const shortIDs = store.ObjectID(10_000_000_000)

// listDirs is list from the directories alone.
func (s *fileStore) listDirs(from, to store.ObjectID) iter.Seq2[store.ObjectID, error] {
	return func(yield func(store.ObjectID, error) bool) {
		more := true
		if from < shortIDs {
			last := min(to, shortIDs) - 1
			more = s.listShort("", 0, uint64(from)/1000, uint64(last)/1000, func(id store.ObjectID, err error) bool {
				return err == nil && (id < from || id > last) || yield(id, err)
			})
		}
		if !more || to <= shortIDs {
			return
		}
		var long []store.ObjectID // rare, and in no order on disk
		err := s.walk("", 0, func(rel string) error {
			if id, ok := store.ParseEntityPath(rel); ok && id >= shortIDs && id >= from && id < to {
				long = append(long, id)
			}
			return nil
		})
		if err != nil {
			yield(0, err)
			return
		}
		slices.Sort(long)
		for _, id := range long {
			if !yield(id, nil) {
				return
			}
		}
	}
}

// listShort yields the ids below shortIDs in the directories whose seven digits are between lo and hi. It returns false
// when yield did.
func (s *fileStore) listShort(rel string, depth int, lo, hi uint64, yield func(store.ObjectID, error) bool) bool {
	entries, err := s.fs.ReadDir(filepath.Join(s.root, rel)) // in order of name
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return yield(0, err)
	}
	for _, e := range entries {
		name := filepath.Join(rel, e.Name())
		if depth == 3 {
			if id, ok := store.ParseEntityPath(name); ok && id < shortIDs && !yield(id, nil) {
				return false
			}
			continue
		}
		if !e.IsDir() || !isLevel(e.Name(), depth) {
			continue
		}
		digits, _ := strconv.ParseUint(strings.ReplaceAll(name, "/", ""), 10, 64)
		scale := [...]uint64{1_000_000, 1_000, 1}[depth]
		if digits < lo/scale || digits > hi/scale {
			continue
		}
		if !s.listShort(name, depth+1, lo, hi, yield) {
			return false
		}
	}
	return true
}

// fileCursor walks through the entities of a fileStore.
type fileCursor struct {
	s    *fileStore
	pull func() (store.ObjectID, error, bool)
	stop func()
	id   store.ObjectID
	meta *fileMeta
	ok   bool
	err  error
}

func (c *fileCursor) reset(s *fileStore, from, to store.ObjectID) {
	c.s = s
	c.pull, c.stop = iter.Pull2(s.list(from, to))
	c.next()
}

// next goes to the next entity that is still there.
func (c *fileCursor) next() {
	for {
		id, err, ok := c.pull()
		if c.ok = ok && err == nil; !c.ok {
			c.err = err
			return
		}
		h, m, err := c.s.openPair(id)
		if errors.Is(err, store.ErrNoEntity) {
			continue
		}
		if err != nil {
			// It is there, and cannot be read: a digest that differs makes someone look at it.
			m = &fileMeta{info: store.EntityInfo{ID: id}}
		} else {
			h.release()
		}
		c.id, c.meta = id, m
		return
	}
}

func (c *fileCursor) entry() store.ManifestEntry {
	return store.ManifestEntry{ID: c.id, Size: c.meta.info.Size, CRC: c.meta.crc, Stored: c.meta.info.Stored.Truncate(time.Second)}
}

// countFiles learns the sizes of the files that were there when the storage was opened. In layout "files" it removes
// temporary files that a crash has left, too.
func (s *fileStore) countFiles(stop func() bool) error {
	if !s.adopt {
		for _, id := range s.sortedIDs() {
			st, err := s.fs.Stat(s.path(id))
			if stop() {
				return nil
			}
			if err == nil {
				s.learnSize(id, st.Size())
			}
		}
		return nil
	}
	errStop := errors.New("stop")
	var n, bytes int64
	begun := time.Now()
	err := s.walk("", 0, func(rel string) error {
		if stop() {
			return errStop
		}
		path := filepath.Join(s.root, rel)
		st, err := s.fs.Stat(path)
		if err != nil {
			return nil // it was deleted just now
		}
		if _, ok := store.ParseEntityPath(rel); ok {
			n++
			bytes += st.Size()
		} else if atomicfile.IsTemp(filepath.Base(rel)) && st.ModTime().Before(begun.Add(-24*time.Hour)) {
			s.fs.Remove(path)
		}
		return nil
	})
	if err != nil {
		if err == errStop {
			return nil
		}
		return err
	}
	s.count.Store(n)
	s.bytes.Store(bytes)
	return nil
}

func (s *fileStore) learnSize(id store.ObjectID, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.ids[id]; ok && old < 0 {
		s.ids[id] = size
		s.bytes.Add(size)
	}
}
