package memcached

import (
	"fmt"
	"slices"
	"sync"
)

const (
	hotEvery = 512 // one hit in so many is looked at
	hotKept  = 256 // keys that are counted at once
	hotShown = 20
)

// hotKeys finds the keys that are read most, from samples, by the method of Metwally et al. ("space-saving"): a key that is not counted
// yet takes the place of the one with the lowest count, and its count.
type hotKeys struct {
	mu     sync.Mutex
	counts map[string]*hotKey
	taken  uint64
}

type hotKey struct{ count, over uint64 } // over: how much of count may not be its own

// sample notes a hit, which has been counted under hits, now and then. The turns are shared by all connections without care: a few that are
// lost do no harm.
func (h *hotKeys) sample(c *conn, key []byte, hits counter) {
	if c.stripe.n[hits].Load()%hotEvery == 0 {
		h.note(key)
	}
}

func (h *hotKeys) note(key []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken++
	if k := h.counts[string(key)]; k != nil {
		k.count++
		return
	}
	if h.counts == nil {
		h.counts = map[string]*hotKey{}
	}
	if len(h.counts) < hotKept {
		h.counts[string(key)] = &hotKey{count: 1}
		return
	}
	least, low := "", (*hotKey)(nil)
	for name, k := range h.counts {
		if low == nil || k.count < low.count {
			least, low = name, k
		}
	}
	delete(h.counts, least)
	low.over = low.count
	low.count++
	h.counts[string(key)] = low
}

func (h *hotKeys) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts, h.taken = nil, 0
}

// report lists the keys that were surely read most: "HOT key part-of-all-hits-in-per-cent".
func (h *hotKeys) report(out []byte) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	type row struct {
		name string
		sure uint64
	}
	var rows []row
	for name, k := range h.counts {
		if k.count > k.over {
			rows = append(rows, row{name, k.count - k.over})
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return int(b.sure) - int(a.sure) })
	for _, r := range rows[:min(len(rows), hotShown)] {
		out = fmt.Appendf(out, "HOT %s %.2f\r\n", printable(r.name), 100*float64(r.sure)/float64(h.taken))
	}
	return append(out, "END\r\n"...)
}
