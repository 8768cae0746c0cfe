package segcache

import "sync/atomic"

// ghost remembers keys that were dropped from probation, by 16 bits of their hash. A key that comes back while it is remembered
// was dropped too early.
type ghost struct {
	words []uint64 // of four marks each
}

func (g *ghost) init(bytes int64) (err error) {
	g.words, err = mapWords(int(max(bytes&^4095, 4096)) / 8)
	return err
}

func (g *ghost) bytes() int64 { return int64(len(g.words)) * 8 }

func (g *ghost) close() error {
	if g.words == nil {
		return nil
	}
	return unmapWords(g.words)
}

// place is where a hash's mark is. The lower bits of the product are as good as the upper ones of another hash.
func (g *ghost) place(h uint64) (w *uint64, shift uint, mark uint64) {
	i := h & 0xffffffff * (uint64(len(g.words)) * 4) >> 32
	return &g.words[i/4], uint(i%4) * 16, h>>32&0xffff | 1
}

func (g *ghost) add(h uint64) {
	w, shift, mark := g.place(h)
	for {
		old := atomic.LoadUint64(w)
		if atomic.CompareAndSwapUint64(w, old, old&^(0xffff<<shift)|mark<<shift) {
			return
		}
	}
}

// take reports whether a key is remembered, and forgets it.
func (g *ghost) take(h uint64) bool {
	w, shift, mark := g.place(h)
	old := atomic.LoadUint64(w)
	return old>>shift&0xffff == mark && atomic.CompareAndSwapUint64(w, old, old&^(0xffff<<shift))
}
