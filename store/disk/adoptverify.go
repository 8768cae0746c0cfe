package disk

import (
	"runtime"
	"sync"

	"wheelhouse/store"
)

// verified is how far a pack that is being gathered has been verified while it came, so that its end does not take a second
// reading of all of it, at full speed, while readers wait for a processor. It is kept in memory alone: what was gathered
// before a restart is verified at the end.
type verified struct {
	off     int64 // members before it are right
	uid     uint64
	entries []entry
	stuck   bool // something is wrong at off: the end looks at it
}

// verifications are those of the packs that are being gathered. Whoever works on one takes it out.
type verifications struct {
	mu  sync.Mutex // guards all
	all map[uint64]*verified
}

// take gives what is known of a pack: nothing new is begun in the middle of one. nil: nothing is known.
func (v *verifications) take(uid uint64, begin bool) *verified {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := v.all[uid]
	delete(v.all, uid)
	if known == nil && begin {
		known = &verified{off: packHeaderLen, uid: uid}
	}
	return known
}

// keep puts back what take gave.
func (v *verifications) keep(known *verified) {
	if known == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.all == nil {
		v.all = map[uint64]*verified{}
	}
	v.all[known.uid] = known
}

// from is where what is not verified yet begins, of a pack of which so much is there; its end if nothing is verified.
func (v *verified) from(end int64) int64 {
	if v == nil || v.stuck {
		return end
	}
	return v.off
}

// advance verifies the members that are complete in the first size bytes of what s reads. It stops at the first that is not
// right.
func (v *verified) advance(s *scanner, size int64) {
	if v == nil || v.stuck {
		return
	}
	s.w.size, s.uid = size, v.uid
	for size-v.off >= 2*blockSize {
		m, err := s.member(v.off)
		if err != nil || v.off+m.length() > size {
			// It may only be incomplete; no member is as long as this.
			v.stuck = size-v.off > maxHeader+maxSmallLimit+blockSize
			return
		}
		if !m.filler {
			v.entries = append(v.entries, entryOf(&m))
		}
		v.off += m.length()
		if len(v.entries)%yieldEvery == 0 {
			runtime.Gosched()
		}
	}
}

// newestOf says where in entries the newest of each id is.
func newestOf(entries []entry) map[store.ObjectID]int {
	newest := make(map[store.ObjectID]int, len(entries))
	for i, e := range entries {
		newest[e.id] = i
	}
	return newest
}
