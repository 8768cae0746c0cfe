package memcached

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// modelItem is an item as a plain map has it.
type modelItem struct {
	value   string
	flags   int
	exp     uint32
	version uint64
	stale   bool
	token   bool
	fetched bool
	tags    string // with commas between
}

// model does what the server is to do, in the simplest way.
type model struct {
	t       testing.TB
	s       *Server
	c       *conn
	rng     *rand.Rand
	items   map[string]*modelItem
	evicts  bool   // the server may have forgotten any item
	highest uint64 // version seen
	lost    int
	said    [16][2]string // the last requests and answers
	turns   int           // how many there were
	at      string        // the key in question
}

// ask lets the server answer, and compares.
func (m *model) ask(request, want string) {
	got := m.c.do(m.t, request)
	m.note(request, got)
	if got != want && m.evicts && m.c.do(m.t, "me "+m.at+"\r\n") == "EN\r\n" { // it had to go while room was made for its successor
		delete(m.items, m.at)
		m.lost++
		return
	}
	if got != want {
		m.t.Fatalf("got %q; want %q; before:\n%s", got, want, m.before())
	}
}

func (m *model) note(request, got string) {
	m.said[m.turns%len(m.said)] = [2]string{request, got}
	m.turns++
}

// before is what was noted, the oldest first.
func (m *model) before() string {
	text := ""
	for i := range m.said {
		pair := m.said[(m.turns+i)%len(m.said)]
		text += fmt.Sprintf("%.300q → %.300q\n", pair[0], pair[1])
	}
	return text
}

// find returns the item of a key that has not expired. Where the server may forget, it is asked whether it has.
func (m *model) find(key string) *modelItem {
	it := m.items[key]
	if it == nil {
		return nil
	}
	if it.exp != 0 && it.exp <= m.s.cache.Now() {
		delete(m.items, key)
		return nil
	}
	if m.evicts && m.c.do(m.t, "me "+key+"\r\n") == "EN\r\n" {
		delete(m.items, key)
		m.lost++
		return nil
	}
	return it
}

// changed takes over the new version, which must be higher than all before.
func (m *model) changed(key string, it *modelItem) {
	got := m.c.do(m.t, "gets "+key+"\r\n")
	m.note("gets "+key, got)
	f := strings.Fields(strings.SplitN(got, "\r\n", 2)[0])
	if len(f) != 5 { // it has expired, or was forgotten at once
		if it.exp != 0 && it.exp <= m.s.cache.Now() || m.evicts {
			delete(m.items, key)
			return
		}
		m.t.Fatalf("%s is not there after it was stored: %q; before:\n%s", key, got, m.before())
	}
	v, err := strconv.ParseUint(f[4], 10, 64)
	if err != nil || v <= m.highest {
		m.t.Fatalf("version %q after %d", f[4], m.highest)
	}
	m.highest, it.version, it.fetched = v, v, true
}

func (m *model) key() string {
	return fmt.Sprintf("p%d:%d", m.rng.IntN(4), m.rng.IntN(m.keys()))
}

func (m *model) keys() int {
	if m.evicts {
		return 10_000
	}
	return 60
}

func (m *model) exptime() (text int, at uint32) {
	now := m.s.cache.Now()
	switch m.rng.IntN(6) {
	case 0:
		n := 1 + m.rng.IntN(20)
		return n, now + uint32(n)
	case 1:
		if m.rng.IntN(10) == 0 {
			return -1, longAgo
		}
		return int(now) + 50, now + 50 // absolute
	}
	return 0, 0
}

func (m *model) value() string {
	switch m.rng.IntN(12) {
	case 0, 1, 2:
		return strconv.FormatUint(m.rng.Uint64()>>m.rng.IntN(64), 10)
	case 3:
		return strings.Repeat("v", m.rng.IntN(3000))
	case 4:
		return strings.Repeat("w", m.rng.IntN(14_000)) // what the test can send at once
	}
	if m.evicts {
		return strings.Repeat("y", m.rng.IntN(3000))
	}
	return strings.Repeat("x", m.rng.IntN(120))
}

func (m *model) step() {
	key := m.key()
	m.at = key
	switch n := m.rng.IntN(1000); {
	case n < 250:
		m.store(key)
	case n < 450:
		m.get(key)
	case n < 520:
		m.numbers(key)
	case n < 560:
		it := m.find(key)
		if it == nil {
			m.ask("delete "+key+"\r\n", "NOT_FOUND\r\n")
			return
		}
		delete(m.items, key)
		m.ask("delete "+key+"\r\n", "DELETED\r\n")
	case n < 620:
		m.touch(key)
	case n < 780:
		m.metaGet(key)
	case n < 840:
		m.metaInvalidate(key)
	case n < 880:
		m.metaStale(key)
	case n < 900:
		m.tag(key)
	case n < 960:
		m.metaNumbers(key)
	case n < 995:
		m.s.clock.add(int64(m.rng.IntN(3)))
	case n < 997 && !(m.evicts && m.rng.IntN(20) > 0):
		tag := m.tags(1)
		m.ask("flush_tag "+tag+"\r\n", "OK\r\n")
		for k, it := range m.items {
			if slices.Contains(strings.Split(it.tags, ","), tag) {
				delete(m.items, k)
			}
		}
	case n < 999 && !(m.evicts && m.rng.IntN(20) > 0):
		p := m.rng.IntN(4)
		m.ask(fmt.Sprintf("flush_prefix p%d\r\n", p), "OK\r\n")
		for k := range m.items {
			if strings.HasPrefix(k, fmt.Sprintf("p%d:", p)) {
				delete(m.items, k)
			}
		}
	case !m.evicts || m.rng.IntN(20) == 0:
		m.ask("flush_all\r\n", "OK\r\n")
		clear(m.items)
	}
}

func (m *model) store(key string) {
	mode := []string{"set", "set", "set", "add", "replace", "append", "prepend", "cas"}[m.rng.IntN(8)]
	exp, at := m.exptime()
	value, flags := m.value(), m.rng.IntN(2)*m.rng.IntN(1<<30)
	it := m.find(key)
	version, right := uint64(1<<63), false
	if it != nil && m.rng.IntN(2) == 0 {
		version, right = it.version, true
	}
	request := fmt.Sprintf("%s %s %d %d %d", mode, key, flags, exp, len(value))
	if mode == "cas" {
		request += fmt.Sprint(" ", version)
	}
	request += "\r\n" + value + "\r\n"
	fresh := &modelItem{value: value, flags: flags, exp: at}
	switch {
	case mode == "add" && it != nil:
		it.fetched = true
		m.ask(request, "NOT_STORED\r\n")
		return
	case (mode == "replace" || mode == "append" || mode == "prepend") && it == nil:
		m.ask(request, "NOT_STORED\r\n")
		return
	case mode == "cas" && it == nil:
		m.ask(request, "NOT_FOUND\r\n")
		return
	case mode == "cas" && !right:
		m.ask(request, "EXISTS\r\n")
		return
	case mode == "append":
		fresh = &modelItem{value: it.value + value, flags: it.flags, exp: it.exp, tags: it.tags}
	case mode == "prepend":
		fresh = &modelItem{value: value + it.value, flags: it.flags, exp: it.exp, tags: it.tags}
	}
	if len(fresh.value) > 200_000 {
		return
	}
	m.ask(request, "STORED\r\n")
	m.items[key] = fresh
	m.changed(key, fresh)
}

// tags is a list of n tags.
func (m *model) tags(n int) string {
	var list []string
	for range n {
		list = append(list, []string{"t", "tag", "another", strings.Repeat("long", 15)}[m.rng.IntN(4)])
	}
	return strings.Join(list, ",")
}

// tag stores an item with tags, or gives one others.
func (m *model) tag(key string) {
	tags := m.tags(m.rng.IntN(4))
	it := m.find(key)
	if m.rng.IntN(3) > 0 {
		value := m.value()
		m.ask(fmt.Sprintf("ms %s %d G%s T50\r\n%s\r\n", key, len(value), tags, value), "HD\r\n")
		it = &modelItem{value: value, exp: m.s.cache.Now() + 50, tags: tags}
		m.items[key] = it
		m.changed(key, it)
		return
	}
	if it == nil {
		m.ask("mt "+key+" G"+tags+"\r\n", "NF\r\n")
		return
	}
	m.ask("mt "+key+" G"+tags+"\r\n", "HD\r\n")
	it.tags = tags
}

func (m *model) get(key string) {
	request, want := "get", ""
	seen := map[string]bool{}
	for range 1 + m.rng.IntN(3) {
		if !seen[key] {
			seen[key] = true
			request += " " + key
			if it := m.find(key); it != nil {
				it.fetched = true
				want += fmt.Sprintf("VALUE %s %d %d\r\n%s\r\n", key, it.flags, len(it.value), it.value)
			}
		}
		key = m.key()
	}
	m.ask(request+"\r\n", want+"END\r\n")
}

// addTo is incr and decr on text; ok is false where it is no number.
func addTo(value string, delta uint64, up bool) (text string, v uint64, ok bool) {
	digits, _, _ := strings.Cut(value, " ") // as C's strtoull
	v, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return "", 0, false
	}
	if up {
		v += delta
	} else {
		v -= min(v, delta)
	}
	text = strconv.FormatUint(v, 10)
	return text + strings.Repeat(" ", max(len(value)-len(text), 0)), v, true
}

func (m *model) numbers(key string) {
	up := m.rng.IntN(2) == 0
	delta := m.rng.Uint64() >> m.rng.IntN(64)
	request := fmt.Sprintf("%s %s %d\r\n", map[bool]string{true: "incr", false: "decr"}[up], key, delta)
	it := m.find(key)
	if it == nil {
		m.ask(request, "NOT_FOUND\r\n")
		return
	}
	text, v, ok := addTo(it.value, delta, up)
	if !ok {
		m.ask(request, notNumeric+"\r\n")
		return
	}
	m.ask(request, fmt.Sprintf("%d\r\n", v))
	if len(text) != len(it.value) { // it is stored anew
		it.stale, it.token = false, false
	}
	it.value = text
	m.changed(key, it)
}

func (m *model) touch(key string) {
	exp, at := m.exptime()
	it := m.find(key)
	if m.rng.IntN(2) == 0 {
		want := "NOT_FOUND\r\n"
		if it != nil {
			want, it.exp, it.fetched = "TOUCHED\r\n", at, true
		}
		m.ask(fmt.Sprintf("touch %s %d\r\n", key, exp), want)
		return
	}
	want := "END\r\n"
	if it != nil {
		want = fmt.Sprintf("VALUE %s %d %d %d\r\n%s\r\nEND\r\n", key, it.flags, len(it.value), it.version, it.value)
		it.exp, it.fetched = at, true
	}
	m.ask(fmt.Sprintf("gats %d %s\r\n", exp, key), want)
}

// hit is what mg answers of an item, and what it does to it.
func (m *model) hit(it *modelItem, recache uint32) string {
	won := recache > 0 && !it.token && it.exp != 0 && int64(it.exp)-int64(m.s.cache.Now()) < int64(recache)
	text := ""
	if it.token {
		text += " Z"
	}
	if it.stale {
		text += " X"
		won = won || !it.token
	}
	if won {
		text += " W"
		it.token = true
	}
	return text
}

func (m *model) ttl(exp uint32) int64 {
	if exp == 0 {
		return -1
	}
	return int64(exp) - int64(m.s.cache.Now())
}

func (m *model) metaGet(key string) {
	it := m.find(key)
	request := "mg " + key + " t f s v h c k g Oq"
	vivify := m.rng.IntN(6) == 0
	recache := uint32(m.rng.IntN(2) * 15)
	if vivify {
		request += " N30"
	}
	if recache > 0 {
		request += " R15"
	}
	switch {
	case it == nil && !vivify:
		m.ask(request+"\r\n", "EN k"+key+" Oq\r\n")
		return
	case it == nil:
		it = &modelItem{exp: m.s.cache.Now() + 30, token: true}
		m.items[key] = it
		m.ask("mg "+key+" s N30 t v\r\n", "VA 0 s0 t30 W\r\n\r\n")
		m.changed(key, it)
		return
	}
	h := 0
	if it.fetched {
		h = 1
	}
	want := fmt.Sprintf("VA %d t%d f%d s%d h%d c%d k%s g%s Oq", len(it.value), m.ttl(it.exp), it.flags, len(it.value), h, it.version, key, it.tags)
	want += m.hit(it, recache) + "\r\n" + it.value + "\r\n"
	it.fetched = true
	m.ask(request+"\r\n", want)
}

func (m *model) metaInvalidate(key string) {
	it := m.find(key)
	if it == nil {
		m.ask("md "+key+" I T20 q\r\n", "NF\r\n")
		return
	}
	m.ask("md "+key+" I T20\r\n", "HD\r\n")
	it.stale, it.token, it.exp = true, false, m.s.cache.Now()+20
	m.changed(key, it)
}

// metaStale stores with an old version, a new one or the right one.
func (m *model) metaStale(key string) {
	it := m.find(key)
	value := m.value()
	if it == nil {
		m.ask(fmt.Sprintf("ms %s %d I C5\r\n%s\r\n", key, len(value), value), "NF\r\n")
		return
	}
	version := it.version + uint64(m.rng.IntN(3)) - 1
	request := fmt.Sprintf("ms %s %d I T40 C%d\r\n%s\r\n", key, len(value), version, value)
	switch {
	case version > it.version:
		m.ask(request, "EX\r\n")
		return
	case version == it.version:
		*it = modelItem{value: value, exp: m.s.cache.Now() + 40}
	default:
		*it = modelItem{value: value, exp: it.exp, stale: true, token: it.token}
	}
	m.ask(request, "HD\r\n")
	m.changed(key, it)
}

func (m *model) metaNumbers(key string) {
	it := m.find(key)
	request := fmt.Sprintf("ma %s N30 J77 D5 v t\r\n", key)
	if it != nil && m.evicts { // it may be lost in mid-command, and made anew
		return
	}
	if it == nil {
		it = &modelItem{value: "77", exp: m.s.cache.Now() + 30}
		m.items[key] = it
		m.ask(request, "VA 2 t30\r\n77\r\n")
		m.changed(key, it)
		return
	}
	text, v, ok := addTo(it.value, 5, true)
	if !ok {
		m.ask(request, notNumeric+"\r\n")
		return
	}
	m.ask(request, fmt.Sprintf("VA %d t%d\r\n%d\r\n", len(strconv.FormatUint(v, 10)), m.ttl(it.exp), v))
	if len(text) != len(it.value) {
		it.stale, it.token = false, false
	}
	it.value = text
	m.changed(key, it)
}

// The server does what a plain map would, with a clock that the test moves, in memory that is enough and in memory that is not: five million
// random operations each. MEMCACHED_MODEL is another number.
func TestModel(t *testing.T) {
	t.Parallel()
	steps := 5_000_000
	if raceEnabled { // there is one goroutine: the detector finds nothing here, and makes it slow
		steps = 100_000
	} else if testing.Short() {
		steps = 150_000
	}
	if v := os.Getenv("MEMCACHED_MODEL"); v != "" {
		var err error
		if steps, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	for _, evicts := range []bool{false, true} {
		t.Run(fmt.Sprint("evicts=", evicts), func(t *testing.T) {
			t.Parallel()
			limit := int64(64 << 20)
			if evicts {
				limit = 1 << 20
			}
			s := serve(t, Options{Limit: limit, still: true})
			s.clock.pause(true)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			m := &model{t: t, s: s.Server, c: alone(t, s.Server), rng: rand.New(rand.NewPCG(seed, 1)), items: map[string]*modelItem{}, evicts: evicts}
			for range steps {
				m.step()
			}
			if evicts && m.lost == 0 {
				t.Error("nothing was ever forgotten: this was no test of forgetting")
			}
		})
	}
}
