package segcache

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const start = 1_000_000

func newCache(t testing.TB, o Options) *Cache {
	t.Helper()
	o.Limit = max(o.Limit, 1<<20)
	o.Now, o.Delimiter = start, ':'
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// set stores as a server does.
func set(c *Cache, key string, p *Put) error {
	var t Txn
	for {
		c.Begin(&t, []byte(key))
		err := t.Store(p)
		t.End()
		if !errors.Is(err, ErrNoRoom) {
			return err
		}
		if err := c.Room(&t); err != nil {
			return err
		}
	}
}

func get(c *Cache, key string) (value string, ok bool) {
	var t Txn
	c.Begin(&t, []byte(key))
	defer t.End()
	if !t.Found() {
		return "", false
	}
	t.Bump()
	return string(t.Value()), true
}

// check looks whether the cache's books are right: each linked item is counted in its class and in its region.
func (c *Cache) check(t testing.TB) {
	t.Helper()
	c.room.Lock()
	defer c.room.Unlock()
	live := map[*region]int64{}
	var items, size int64
	for i := range c.shards {
		sh := &c.shards[i]
		for _, slot := range sh.table {
			if slot == 0 {
				continue
			}
			addr := slotAddr(slot)
			head := *c.word(addr)
			if head&markDead != 0 {
				t.Errorf("a dead item is linked at %d", addr)
			}
			items++
			_, n := c.classAt(addr, head)
			size += int64(n)
			live[c.regionOf(addr)] += int64(itemSize(head, c.valueLen(addr, head)))
		}
	}
	st := c.Stats()
	if st.Items != items || st.Bytes != size {
		t.Errorf("counted %d items of %d bytes; there are %d of %d", st.Items, st.Bytes, items, size)
	}
	used := uint32(0)
	for q := range c.segs.queue {
		for i := c.segs.queue[q].head; i >= 0; i = c.segs.regions[i].next {
			r := &c.segs.regions[i]
			used += r.count
			if left := c.walkLog(i, r); left != 0 {
				t.Errorf("the log of region %d ends %d bytes after its last item", i, left)
			}
			if r.live.Load() != live[r] {
				t.Errorf("region %d says %d live bytes; there are %d", i, r.live.Load(), live[r])
			}
			delete(live, r)
		}
	}
	if len(live) > 0 || used != c.segs.used {
		t.Errorf("%d regions are in no queue; %d segments in queues, %d in use", len(live), used, c.segs.used)
	}
}

// walkLog goes from item to item, as evicting does, and returns how much is left at the end.
func (c *Cache) walkLog(i int32, r *region) int64 {
	left := int64(r.end.Load())
	for addr := c.startOf(i); left > 0; {
		head := *c.word(addr)
		n := int64(itemSize(head, c.valueLen(addr, head)))
		addr += uint64(n)
		left -= n
	}
	return left
}

func TestStoreAndGet(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{})
	big := string(bytes.Repeat([]byte("x"), 300<<10))
	for i, p := range []Put{
		{A: []byte("hello")},
		{},
		{A: []byte("he"), B: []byte("llo"), Flags: 7, Exp: start + 9, Version: 1 << 63, Marks: Stale},
		{A: []byte(big), Flags: 1<<32 - 1},
	} {
		key := fmt.Sprintf("key:%d", i)
		if err := set(c, key, &p); err != nil {
			t.Fatal(err)
		}
		var x Txn
		c.Begin(&x, []byte(key))
		if !x.Found() || string(x.Value()) != string(p.A)+string(p.B) || x.Flags() != p.Flags || x.Exp() != p.Exp || x.Version() != p.Version || x.Marks() != p.Marks {
			t.Errorf("%s: %v %d %d %d %d", key, x.Found(), x.Flags(), x.Exp(), x.Version(), x.Marks())
		}
		x.End()
	}
	if _, ok := get(c, "key:9"); ok {
		t.Error("a key that was never stored is there")
	}
	if err := set(c, "huge", &Put{A: make([]byte, 2<<20)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an item larger than the cache: %v", err)
	}
	c.check(t)
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{})
	for i := range 1000 {
		if err := set(c, fmt.Sprint(i), &Put{A: make([]byte, 100), Exp: start + 1 + uint32(i%50)}); err != nil {
			t.Fatal(err)
		}
	}
	c.Tick(start + 25)
	for i := range 1000 {
		if _, ok := get(c, fmt.Sprint(i)); ok != (i%50 >= 25) {
			t.Fatalf("item with %d s to live is there: %v", 1+i%50, ok)
		}
	}
	c.check(t)
	c.Tick(start + 100)
	c.room.Lock()
	c.sweep()
	c.room.Unlock()
	if st := c.Stats(); st.Items != 0 || st.Segments != 0 {
		t.Errorf("after all has expired, %d items in %d segments", st.Items, st.Segments)
	}
	c.check(t)
}

func TestFlush(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{})
	for _, k := range []string{"a:b:1", "a:c:1", "a:", "ab", "x:a"} {
		if err := set(c, k, &Put{A: []byte(k)}); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (list []string) {
		for _, k := range []string{"a:b:1", "a:c:1", "a:", "ab", "x:a"} {
			if _, ok := get(c, k); ok {
				list = append(list, k)
			}
		}
		return list
	}
	steps := []struct {
		do   func()
		want string
	}{
		{func() { c.FlushPrefix("a:b") }, "[a:c:1 a: ab x:a]"},
		{func() { set(c, "a:b:1", &Put{A: []byte("new")}) }, "[a:b:1 a:c:1 a: ab x:a]"},
		{func() { c.FlushPrefix("a") }, "[ab x:a]"},
		{func() { c.FlushPrefix("a"); set(c, "a:c:1", &Put{}) }, "[a:c:1 ab x:a]"},
		{c.Flush, "[]"},
		{func() { set(c, "ab", &Put{}) }, "[ab]"},
	}
	for i, s := range steps {
		s.do()
		if got := fmt.Sprint(left()); got != s.want {
			t.Errorf("after step %d: %s; want %s", i, got, s.want)
		}
	}
	c.check(t)
}

// Items are forgotten, the memory stays within the limit, and what is used all the time is kept.
func TestEviction(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{Limit: 8 << 20})
	for i := range 200_000 {
		if err := set(c, fmt.Sprintf("k%d", i), &Put{A: make([]byte, 100+i%300)}); err != nil {
			t.Fatal(err)
		}
		for j := range 3 {
			get(c, fmt.Sprintf("k%d", j))
		}
	}
	for j := range 3 {
		if _, ok := get(c, fmt.Sprintf("k%d", j)); !ok {
			t.Errorf("k%d was forgotten although it was used all the time", j)
		}
	}
	st := c.Stats()
	if total := st.UsedBytes + st.IndexBytes; total > 8<<20 {
		t.Errorf("%d bytes are in use; the limit is 8 MiB", total)
	}
	if want := int64(200_000); st.Items+int64(st.Classes[0].Evicted) != want || st.Items < 20_000 {
		t.Errorf("%d items and %d evicted; want %d together", st.Items, st.Classes[0].Evicted, want)
	}
	c.check(t)
}

func TestNoEvict(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{NoEvict: true})
	n := 0
	for ; ; n++ {
		if err := set(c, fmt.Sprint(n), &Put{A: make([]byte, 1000)}); err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			break
		}
	}
	if n < 500 {
		t.Errorf("full after %d items of 1000 bytes in 1 MiB", n)
	}
	for i := range n {
		if _, ok := get(c, fmt.Sprint(i)); !ok {
			t.Fatalf("item %d of %d was forgotten", i, n)
		}
	}
	var x Txn
	for i := 0; i < n; i += 2 { // what is deleted everywhere makes room
		c.Begin(&x, fmt.Append(nil, i))
		x.Delete()
		x.End()
	}
	more := 0
	for ; set(c, fmt.Sprint("more", more), &Put{A: make([]byte, 1000)}) == nil; more++ {
	}
	if more < n/4 {
		t.Errorf("%d items after %d of %d were deleted", more, (n+1)/2, n)
	}
	for i := 1; i < n; i += 2 {
		if _, ok := get(c, fmt.Sprint(i)); !ok {
			t.Fatalf("item %d of %d was forgotten", i, n)
		}
	}
	c.check(t)
}

func TestLargeItems(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{Limit: 16 << 20})
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		n := rng.IntN(1000)
		switch i % 20 {
		case 0:
			n = rng.IntN(2 << 20)
		case 1:
			n = rng.IntN(100 << 10)
		}
		key := fmt.Sprint(rng.IntN(500))
		if err := set(c, key, &Put{A: bytes.Repeat([]byte{byte(len(key))}, n)}); err != nil {
			t.Fatalf("item %d of %d bytes: %v", i, n, err)
		}
		if v, ok := get(c, key); !ok || len(v) != n {
			t.Fatalf("item %d: %d bytes, %v; want %d", i, len(v), ok, n)
		}
	}
	c.check(t)
}

// Room that is being written or read stays, whatever happens around it.
func TestReserveAndHold(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{Limit: 2 << 20})
	v, err := c.Reserve([]byte("slow"), 100_000, 5, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	given, err := c.Reserve([]byte("given up"), 100_000, 5, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	copy(v.Value(), bytes.Repeat([]byte("s"), 100_000))
	if err := set(c, "read", &Put{A: bytes.Repeat([]byte("r"), 50_000)}); err != nil {
		t.Fatal(err)
	}
	var x Txn
	c.Begin(&x, []byte("read"))
	text, held := x.Value(), x.Hold()
	x.End()
	churn := func() {
		for i := range 20_000 {
			if err := set(c, fmt.Sprint(i), &Put{A: make([]byte, 500)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	churn()
	if !bytes.Equal(text, bytes.Repeat([]byte("r"), 50_000)) {
		t.Error("what is held has changed")
	}
	held.Release()
	given.Abort()
	c.Begin(&x, []byte("slow"))
	err = x.Commit(&v, 77, BinaryKey)
	if err != nil || string(x.Value()[:3]) != "sss" || x.Flags() != 5 || x.Version() != 77 || x.Marks() != BinaryKey {
		t.Errorf("commit: %v", err)
	}
	x.End()
	c.check(t)
	churn()
	c.check(t)
}

// Others are forgotten however many regions are held, and all of them those that would be first.
func TestManyAreHeld(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{Limit: 16 << 20})
	value := make([]byte, 8000)
	var list []Held
	half := c.Limit() / 2
	for i := 0; c.HeldBytes() < half; i++ {
		key := fmt.Sprint("held", i)
		if err := set(c, key, &Put{A: value}); err != nil {
			t.Fatal(err)
		}
		var x Txn
		c.Begin(&x, []byte(key))
		list = append(list, x.Hold())
		x.End()
	}
	for i := range 5000 {
		if err := set(c, fmt.Sprint(i), &Put{A: value}); err != nil {
			t.Fatalf("item %d: %v", i, err)
		}
	}
	for _, h := range list {
		h.Release()
	}
	if n := c.HeldBytes(); n != 0 {
		t.Errorf("%d bytes are held; want none", n)
	}
	c.check(t)
}

// All at once, for the race detector, and the books are right at the end.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{Limit: 4 << 20})
	ctx, stop := contextFor(t)
	var work, background sync.WaitGroup
	background.Go(func() { c.Run(ctx) })
	for w := range 4 {
		work.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			var x Txn
			for i := range 30_000 {
				key := fmt.Sprintf("p%d:%d", rng.IntN(5), rng.IntN(20_000))
				switch rng.IntN(12) {
				case 0:
					c.Begin(&x, []byte(key))
					if x.Found() {
						x.Delete()
					}
					x.End()
				case 1, 2, 3, 4:
					n := rng.IntN(400)
					if i%100 == 0 {
						n = rng.IntN(60_000)
					}
					if err := set(c, key, &Put{A: bytes.Repeat([]byte(key[1:2]), n), Exp: start + uint32(rng.IntN(100))*uint32(rng.IntN(2))}); err != nil {
						t.Error(err)
						return
					}
				default:
					if v, ok := get(c, key); ok && v != "" && (v[0] != key[1] || v[len(v)-1] != key[1]) {
						t.Errorf("%s has another one's value", key)
						return
					}
				}
				if i%3000 == 0 && w == 0 {
					c.Tick(start + uint32(i/3000))
					c.FlushPrefix("p1")
				}
				if i%10_000 == 5000 && w == 1 {
					c.Flush()
				}
			}
		})
	}
	work.Wait()
	stop()
	background.Wait()
	c.check(t)
}

func TestRestore(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "items")
	o := Options{Limit: 4 << 20, File: file, Now: start, Delimiter: ':'}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		if err := set(c, fmt.Sprintf("k%d", i%15000), &Put{A: fmt.Append(nil, "value ", i), Exp: start + uint32(i%2)*50, Version: c.NextVersion()}); err != nil {
			t.Fatal(err)
		}
	}
	c.FlushPrefix("x")
	set(c, "x:1", &Put{})
	before, version := c.Stats(), c.NextVersion()
	if o.Meta, err = c.Save(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err = New(o); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	after := c.Stats()
	if after.Items != before.Items || after.Bytes != before.Bytes || c.NextVersion() <= version {
		t.Errorf("%d items of %d bytes; want %d of %d", after.Items, after.Bytes, before.Items, before.Bytes)
	}
	if v, ok := get(c, "k4999"); !ok || v != "value 19999" {
		t.Errorf("k4999 = %q, %v", v, ok)
	}
	if _, ok := get(c, "x:1"); !ok {
		t.Error("an item stored after a flush of its prefix is gone")
	}
	c.check(t)
	for i := range 50_000 {
		if err := set(c, fmt.Sprint("more", i), &Put{A: make([]byte, 200)}); err != nil {
			t.Fatal(err)
		}
	}
	c.check(t)
	o.Meta.Limit++
	if _, err := New(o); err == nil {
		t.Error("a file of another limit was taken")
	}
}

func TestSetLimit(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{Limit: 8 << 20})
	fill := func() int64 {
		for i := range 100_000 {
			if err := set(c, fmt.Sprint(i), &Put{A: make([]byte, 300)}); err != nil {
				t.Fatal(err)
			}
		}
		st := c.Stats()
		if all := st.UsedBytes + st.IndexBytes; all > c.Limit() {
			t.Errorf("%d bytes in use; the limit is %d", all, c.Limit())
		}
		return st.Items
	}
	a := fill()
	if !c.SetLimit(16<<20) || c.SetLimit(1<<50) || c.SetLimit(1) {
		t.Error("SetLimit")
	}
	if b := fill(); b < a*3/2 {
		t.Errorf("%d items with twice the memory; %d before", b, a)
	}
	c.SetLimit(4 << 20)
	if b := fill(); b > a*2/3 {
		t.Errorf("%d items with half the memory; %d before", b, a)
	}
	c.check(t)
}

// What is set aside, items do without, but for half of the limit; and they have it back.
func TestSetAside(t *testing.T) {
	t.Parallel()
	const limit = 8 << 20
	c := newCache(t, Options{Limit: limit})
	fill := func(most int64) int64 {
		t.Helper()
		for i := range 60_000 {
			if err := set(c, fmt.Sprint(i), &Put{A: make([]byte, 300)}); err != nil {
				t.Fatal(err)
			}
		}
		st := c.Stats()
		if all := st.UsedBytes + st.IndexBytes; all > most || c.Limit() != limit {
			t.Errorf("%d bytes in use, with a limit of %d; want at most %d", all, c.Limit(), most)
		}
		return st.Items
	}
	whole := fill(limit)
	for _, tt := range []struct{ aside, want int64 }{{2 << 20, 2 << 20}, {100 << 20, limit / 2}, {-1, 0}} {
		c.SetAside(tt.aside)
		if got := c.Aside(); got != tt.want {
			t.Errorf("SetAside(%d): %d bytes are", tt.aside, got)
		}
		if n := fill(limit - tt.want); n < whole*(limit-tt.want)/limit*8/10 {
			t.Errorf("SetAside(%d): %d items, of %d before", tt.aside, n, whole)
		}
	}
	c.check(t)
}

// Where most of the memory is what is left of items that were overwritten, no item is forgotten for more.
func TestGarbageGoesFirst(t *testing.T) {
	t.Parallel()
	for _, largest := range []int{200, 3000, 30_000, 200_000} {
		t.Run(fmt.Sprint(largest), func(t *testing.T) {
			t.Parallel()
			const limit = 16 << 20
			c := newCache(t, Options{Limit: limit, Now: 1})
			rng := rand.New(rand.NewPCG(1, uint64(largest)))
			keys := limit / 4 / (largest / 2)
			fill := strings.Repeat("x", largest)
			for i, sum := 0, 0; sum < 10*limit; i++ {
				n := rng.IntN(largest)
				if err := set(c, fmt.Sprint("key", rng.IntN(keys)), &Put{A: []byte(fill[:n])}); err != nil {
					t.Fatal(err)
				}
				sum += n
			}
			evicted := uint64(0)
			for _, k := range c.Stats().Classes {
				evicted += k.Evicted
			}
			if evicted != 0 {
				t.Errorf("%d items were forgotten; want none", evicted)
			}
			c.check(t)
		})
	}
}
