package memcached

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// maxPrefixes bounds how many prefixes are told apart; keys of others are counted under the last one.
const (
	maxPrefixes   = 4096
	otherPrefixes = "(others)"
)

// detail counts by prefix, for "stats detail".
type detail struct {
	on     atomic.Bool
	mu     sync.Mutex
	counts map[string]*prefixCount
}

type prefixCount struct{ gets, hits, sets, deletes uint64 }

func (d *detail) note(key []byte, delimiter byte, f func(*prefixCount)) {
	i := bytes.IndexByte(key, delimiter)
	if i < 0 {
		return // as memcached: a key without a prefix is not counted
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.counts[string(key[:i])]
	if p == nil {
		if d.counts == nil {
			d.counts = map[string]*prefixCount{}
		}
		name := string(key[:i])
		if len(d.counts) >= maxPrefixes {
			name = otherPrefixes
		}
		if p = d.counts[name]; p == nil {
			p = &prefixCount{}
			d.counts[name] = p
		}
	}
	f(p)
}

func (d *detail) get(key []byte, delimiter byte, hit bool) {
	d.note(key, delimiter, func(p *prefixCount) {
		p.gets++
		if hit {
			p.hits++
		}
	})
}

func (d *detail) set(key []byte, delimiter byte) {
	d.note(key, delimiter, func(p *prefixCount) { p.sets++ })
}

func (d *detail) delete(key []byte, delimiter byte) {
	d.note(key, delimiter, func(p *prefixCount) { p.deletes++ })
}

func (d *detail) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts = nil
}

// names lists the prefixes from one on, sorted, at most n. That of a key that begins with the delimiter is "".
func (d *detail) names(from string, n int) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []string
	for name := range d.counts {
		if name >= from {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list[:min(n, len(list))]
}

// append appends the lines of some of them.
func (d *detail) append(out []byte, names []string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range names {
		if p := d.counts[name]; p != nil {
			out = fmt.Appendf(out, "PREFIX %s get %d hit %d set %d del %d\r\n", printable(name), p.gets, p.hits, p.sets, p.deletes)
		}
	}
	return out
}

// prefixesStep is how many prefixes are listed before others have a turn.
const prefixesStep = 200

// detailDump is "stats detail dump".
func (c *conn) detailDump() error {
	d := &c.s.detail
	for from, more := "", true; more; {
		c.s.gate.do(func() {
			names := d.names(from, prefixesStep)
			if c.w.out = d.append(c.w.out, names); len(names) > 0 {
				from = names[len(names)-1] + "\x00" // the next that there can be
			}
			more = len(names) == prefixesStep
		})
		if err := c.flushStep(); err != nil {
			return err
		}
	}
	c.answer("END")
	return nil
}
