// Package pace lets what happens often be told of once in a while, so that a log is not filled by one fault.
package pace

import (
	"sync"
	"time"
)

// Gate lets one occurrence in a while through, and counts the others. The zero value lets the first one through. It is safe for
// concurrent use.
type Gate struct {
	mu   sync.Mutex // guards all below
	last time.Time  // when one was let through; zero: never
	n    int        // since then
}

// Pass is called for each occurrence, with the time that there must be between two that are told of. Where ok is true, this one is: count
// says how many there have been since the last that was, with this one, so that the sum of all counts misses those alone that nothing
// came after.
func (g *Gate) Pass(every time.Duration) (count int, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
	now := time.Now()
	if !g.last.IsZero() && now.Sub(g.last) < every {
		return 0, false
	}
	count, g.n, g.last = g.n, 0, now
	return count, true
}
