package cache

import (
	"container/list"
	"slices"
	"strings"
	"sync"
	"time"

	"wheelhouse/balancer/compress"
	"wheelhouse/internal/http1"
)

// entry is an answer that is kept. It is never changed after it was put into the store.
type entry struct {
	key    string // of the resource
	vary   []varied
	status int
	header []field
	body   []byte // nil when it is on disk
	file   string
	at     int64 // of the body in file
	size   int64 // of the body

	stored     time.Time     // when the answer came
	age        time.Duration // that it had then (RFC 9111 §4.2.3)
	fresh      time.Duration // lifetime
	staleWhile time.Duration
	staleError time.Duration
	revalidate bool // must be asked about when stale
	always     bool // must be asked about always: no-cache
	tagOnly    bool // must be asked about by its tag alone, not by its date
	etag       string
	modified   string
}

type field struct{ name, value string }

// varied is a request field on which an answer depends, and its value (RFC 9111 §4.1).
type varied struct{ name, value string }

// fits reports whether the entry answers a request.
func (e *entry) fits(h *http1.Header) bool {
	for _, v := range e.vary {
		if variant(v.name, h) != v.value {
			return false
		}
	}
	return true
}

// variant is a request field's value as far as answers can depend on it: of Accept-Encoding, which codings it takes, so that the
// many ways in which clients write the same do not each have an answer of their own.
func variant(name string, h *http1.Header) string {
	v := h.Joined(name)
	if !strings.EqualFold(name, "Accept-Encoding") {
		return v
	}
	taken := ""
	for _, coding := range [...]string{"br", "gzip", "zstd"} {
		if compress.Choose(v, []string{coding}) != "" {
			taken += coding + " "
		}
	}
	return taken
}

// cost is what the entry takes, about.
func (e *entry) cost() int64 {
	n := int64(len(e.key)) + 256 + e.size
	for _, f := range e.header {
		n += int64(len(f.name)+len(f.value)) + 32
	}
	return n
}

// currentAge is RFC 9111 §4.2.3's.
func (e *entry) currentAge(now time.Time) time.Duration { return e.age + now.Sub(e.stored) }

// maxVariants is how many answers are kept of one resource.
const maxVariants = 16

// memory keeps entries, within a number of bytes. What goes is chosen by SIEVE: entries stand in the order in which they came; a hand
// moves from the oldest to the newest and removes the first that was not used since it passed last.
type memory struct {
	mu    sync.Mutex // guards all below
	limit int64
	used  int64
	keys  map[string][]*list.Element
	order list.List // of *keptEntry, the newest in front
	hand  *list.Element
	gone  func(*entry) // told of each entry that goes, without mu; may be nil
	dead  []*entry     // that it is to be told of
}

type keptEntry struct {
	e    *entry
	used bool
}

func newMemory(limit int64) *memory {
	return &memory{limit: limit, keys: map[string][]*list.Element{}}
}

// unlock gives mu back. What has to be done about entries that went takes as long as the disk takes.
func (m *memory) unlock() {
	dead := m.dead
	m.dead = nil
	m.mu.Unlock()
	for _, e := range dead {
		m.gone(e)
	}
}

// bury notes that an entry has gone. m.mu is held.
func (m *memory) bury(e *entry) {
	if m.gone != nil {
		m.dead = append(m.dead, e)
	}
}

// get finds the entry that answers a request for a key; of several the newest (RFC 9111 §4.1).
func (m *memory) get(key string, h *http1.Header) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, el := range slices.Backward(m.keys[key]) {
		k := el.Value.(*keptEntry)
		if k.e.fits(h) {
			k.used = true
			return k.e
		}
	}
	return nil
}

// put keeps an entry in the place of the one that answered the same requests, if there is room for it at all.
func (m *memory) put(e *entry) (kept bool) {
	m.mu.Lock()
	defer m.unlock()
	if m.cost(e) > m.limit { // then what it comes in place of must not be given either
		for _, el := range slices.Clone(m.keys[e.key]) {
			m.drop(el)
		}
		m.bury(e)
		return false
	}
	m.replace(e)
	if all := m.keys[e.key]; len(all) >= maxVariants {
		m.drop(all[0])
	}
	for m.used+m.cost(e) > m.limit { // before it is in, since nobody has used it yet
		m.evict()
	}
	m.keys[e.key] = append(m.keys[e.key], m.order.PushFront(&keptEntry{e: e}))
	m.used += m.cost(e)
	return true
}

// replace drops the entry that e comes in the place of. m.mu is held.
func (m *memory) replace(e *entry) {
	for _, el := range m.keys[e.key] {
		if sameVariant(el.Value.(*keptEntry).e, e) {
			m.drop(el)
			return
		}
	}
}

// supersede forgets the entry in whose place another was to come that could not be put.
func (m *memory) supersede(e *entry) {
	m.mu.Lock()
	defer m.unlock()
	m.replace(e)
}

// cost is what an entry takes here: memory does not hold the body of what came from disk.
func (m *memory) cost(e *entry) int64 {
	if e.file != "" && m.gone == nil {
		return e.cost() - e.size
	}
	return e.cost()
}

// most is how much there is room for in one entry.
func (m *memory) most() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.limit
}

func sameVariant(a, b *entry) bool {
	if len(a.vary) != len(b.vary) {
		return false
	}
	for i := range a.vary {
		if a.vary[i] != b.vary[i] {
			return false
		}
	}
	return true
}

// evict removes one entry. m.mu is held.
func (m *memory) evict() {
	el := m.hand
	if el == nil {
		el = m.order.Back()
	}
	for el != nil && el.Value.(*keptEntry).used {
		el.Value.(*keptEntry).used = false
		if el = el.Prev(); el == nil {
			el = m.order.Back()
		}
	}
	if el != nil {
		m.hand = el.Prev()
		m.drop(el)
	}
}

// drop removes an entry. m.mu is held.
func (m *memory) drop(el *list.Element) {
	if m.hand == el {
		m.hand = el.Prev()
	}
	e := m.order.Remove(el).(*keptEntry).e
	m.used -= m.cost(e)
	left := slices.DeleteFunc(slices.Clone(m.keys[e.key]), func(o *list.Element) bool { return o == el })
	if len(left) == 0 {
		delete(m.keys, e.key)
	} else {
		m.keys[e.key] = left
	}
	m.bury(e)
}

// remove forgets all answers of a resource, and reports whether there were any.
func (m *memory) remove(key string) bool {
	m.mu.Lock()
	defer m.unlock()
	all := slices.Clone(m.keys[key])
	for _, el := range all {
		m.drop(el)
	}
	return len(all) > 0
}

// removeAll forgets what is kept under all keys that begin with prefix, and reports whether there was anything. Others get at the rest
// meanwhile.
func (m *memory) removeAll(prefix string) bool {
	m.mu.Lock()
	var keys []string
	for key := range m.keys {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	m.mu.Unlock()
	found := false
	for _, key := range keys {
		found = m.remove(key) || found
	}
	return found
}

// clear forgets everything.
func (m *memory) clear() {
	m.mu.Lock()
	defer m.unlock()
	for el := m.order.Back(); el != nil; el = m.order.Back() {
		m.drop(el)
	}
}

// resize changes the limit.
func (m *memory) resize(limit int64) {
	m.mu.Lock()
	defer m.unlock()
	m.limit = limit
	for m.used > m.limit && m.order.Len() > 0 {
		m.evict()
	}
}

func (m *memory) stats() (entries int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.order.Len(), m.used
}
