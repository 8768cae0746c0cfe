package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

const (
	packsDir = "packs"
	packExt  = ".tar"
	idxExt   = ".idx"
	delExt   = ".del"
)

// packName is the name of pack number n, without extension.
func packName(n uint64) string { return fmt.Sprintf("%010d", n) }

// pack is one archive, written or sealed. It is read at any time; who changes it is said at each field.
type pack struct {
	fsys   faultfs.FS
	fds    *fdCache
	base   string // path without extension
	number uint64

	// changing serialises what writes the delete log and what replaces the index: deletions, sealing, rewriting. It is
	// taken before mu.
	changing  sync.Mutex
	delBroken bool // the delete log has failed, and must be written anew; guarded by changing

	// mu guards what follows; it is held for short moments only, and never while the disk is waited for.
	mu     sync.RWMutex
	uid    uint64
	h      *handle // nil when not open
	idx    index
	dead   bitmap // positions of idx whose entity was deleted or replaced
	live   tally
	sums   blockSums // of what is alive; nil: not made yet
	end    int64     // of the last durable member
	sealed bool
	gone   bool // rewritten to nothing

	unsealable bool // it could not be read to its end when it was opened; set then, and never changed
}

// tally counts entities.
type tally struct {
	n      int64
	bytes  int64 // of content
	length int64 // of members
}

func (t *tally) add(e entry, sign int64) {
	t.n += sign
	t.bytes += sign * int64(e.size)
	t.length += sign * e.length()
}

func (p *pack) path(ext string) string { return p.base + ext }

// lookup finds a live entity. The caller releases the handle.
func (p *pack) lookup(id store.ObjectID) (e entry, h *handle, ok bool, err error) {
	for {
		p.mu.RLock()
		if e, ok, err = p.findLocked(id); !ok || err != nil {
			p.mu.RUnlock()
			return entry{}, nil, false, err
		}
		if h = p.h; h != nil {
			h.acquire()
			p.mu.RUnlock()
			return e, h, true, nil
		}
		p.mu.RUnlock()
		if err := p.openFile(); err != nil {
			return entry{}, nil, false, err
		}
	}
}

// has reports whether the pack holds a live entity of this id.
func (p *pack) has(id store.ObjectID) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	_, ok, _ := p.findLocked(id)
	return ok
}

// holds is has, or was deleted or replaced here: whether any entry of the id is left in the index.
func (p *pack) holds(id store.ObjectID) (ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	guardMapped(func() error {
		_, _, ok = p.idx.find(id)
		return nil
	})
	return ok
}

func (p *pack) findLocked(id store.ObjectID) (e entry, ok bool, err error) {
	if m, isMem := p.idx.(*memIndex); isMem {
		pos, e, ok := m.find(id)
		return e, ok && !p.dead.has(pos), nil
	}
	err = guardMapped(func() error {
		var pos int
		if pos, e, ok = p.idx.find(id); ok && p.dead.has(pos) {
			ok = false
		}
		return nil
	})
	return e, ok && err == nil, err
}

// acquire gives the open file, and the end of its members. The caller releases it.
func (p *pack) acquire() (h *handle, end int64, err error) {
	for {
		p.mu.RLock()
		if h := p.h; h != nil {
			h.acquire()
			end := p.end
			p.mu.RUnlock()
			return h, end, nil
		}
		p.mu.RUnlock()
		if err := p.openFile(); err != nil {
			return nil, 0, err
		}
	}
}

// openFile opens the pack for reading when it is not.
func (p *pack) openFile() error {
	p.mu.Lock()
	if p.h != nil {
		p.mu.Unlock()
		return nil
	}
	if p.gone {
		p.mu.Unlock()
		return os.ErrClosed
	}
	f, err := p.fsys.OpenFile(p.path(packExt), os.O_RDONLY, 0)
	if err != nil {
		p.mu.Unlock()
		return err
	}
	p.h = newHandle(f)
	p.mu.Unlock()
	p.fds.opened(p)
	return nil
}

// closeFile closes the pack; the next reader opens it again.
func (p *pack) closeFile() {
	p.mu.Lock()
	h := p.h
	p.h = nil
	p.mu.Unlock()
	if h != nil {
		h.release()
	}
}

func (p *pack) usedLately() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.h != nil && p.h.used.Swap(false)
}

// close ends the use of the pack.
func (p *pack) close() {
	p.closeFile()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	if x, ok := p.idx.(*mapIndex); ok {
		x.close()
	}
	p.idx = newMemIndex()
}

// addLocked puts an entry into the index of a pack that is being written.
func (p *pack) addLocked(e entry) {
	x := p.idx.(*memIndex)
	if old := x.add(e); old >= 0 {
		p.killLocked(old, x.entries[old])
	}
	p.live.add(e, 1)
	if p.sums != nil {
		p.sums.add(e.id, int64(e.size), e.crc, 1)
	}
}

// killLocked marks an entry as dead, once.
func (p *pack) killLocked(pos int, e entry) {
	if !p.dead.has(pos) {
		p.dead.set(pos, p.idx.count())
		p.live.add(e, -1)
		if p.sums != nil {
			p.sums.add(e.id, int64(e.size), e.crc, -1)
		}
	}
}

// collect appends to buf the live entries with ids in [from, to), in order of id, until it is full.
func (p *pack) collect(from, to store.ObjectID, buf []entry) ([]entry, error) {
	p.mu.RLock()
	for {
		x, ok := p.idx.(*memIndex)
		if !ok || !x.dirty {
			break
		}
		p.mu.RUnlock()
		p.mu.Lock()
		if x, ok := p.idx.(*memIndex); ok {
			x.sort()
		}
		p.mu.Unlock()
		p.mu.RLock()
	}
	defer p.mu.RUnlock()
	err := guardMapped(func() error {
		p.idx.scan(from, func(pos int, e entry) bool {
			if e.id >= to || len(buf) == cap(buf) {
				return false
			}
			if !p.dead.has(pos) {
				buf = append(buf, e)
			}
			return true
		})
		return nil
	})
	return buf, err
}

// bounds are the least and the greatest id of the index; ok is false when it is empty.
func (p *pack) bounds() (lo, hi store.ObjectID, ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	switch x := p.idx.(type) {
	case *mapIndex:
		return x.min, x.max, x.count() > 0
	case *memIndex:
		for id := range x.byID {
			if !ok || id < lo {
				lo = id
			}
			hi, ok = max(hi, id), true
		}
	}
	return lo, hi, ok
}

// garbage is the part of the pack, 0 to 1, that a rewrite would free.
func (p *pack) garbage() float64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.end <= packHeaderLen {
		return 1
	}
	return 1 - float64(p.live.length)/float64(p.end-packHeaderLen)
}

// packPath is the path of pack number n below a storage's directory, without extension.
func packPath(dir string, n uint64) string { return filepath.Join(dir, packsDir, packName(n)) }
