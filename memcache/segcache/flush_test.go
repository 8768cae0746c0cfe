package segcache

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
)

func tagsOf(c *Cache, key string) (tags string, ok bool) {
	var t Txn
	c.Begin(&t, []byte(key))
	defer t.End()
	if !t.Found() {
		return "", false
	}
	return string(t.Tags()), true
}

func TestTags(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{Limit: 8 << 20})
	long := bytes.Repeat([]byte("l"), MaxTags)
	for _, k := range []struct{ key, tags string }{
		{"none", ""}, {"red", "red"}, {"both", "red,blue"}, {"blue", "blue"}, {"like", "re"}, {"long", string(long)}, {"p:red", "red"},
	} {
		for _, n := range []int{0, 5, 100_000} {
			if err := set(c, k.key, &Put{A: bytes.Repeat([]byte("v"), n), Tags: []byte(k.tags), Flags: uint32(n)}); err != nil {
				t.Fatal(err)
			}
			v, ok := get(c, k.key)
			if got, _ := tagsOf(c, k.key); !ok || v != string(bytes.Repeat([]byte("v"), n)) || got != k.tags {
				t.Fatalf("%s: %d bytes, tags %q; want %d, %q", k.key, len(v), got, n, k.tags)
			}
		}
	}
	if st := c.Stats(); st.Bytes != int64(7*100_000+len("noneredbothbluelikelongp:red")) {
		t.Errorf("tags count as values: %d bytes", st.Bytes)
	}
	all := []string{"none", "red", "both", "blue", "like", "long", "p:red"}
	left := func() (list []string) {
		for _, k := range all {
			if _, ok := get(c, k); ok {
				list = append(list, k)
			}
		}
		return list
	}
	for i, s := range []struct {
		do   func() error
		want string
	}{
		{func() error { return c.FlushTag("green") }, "[none red both blue like long p:red]"},
		{func() error { return c.FlushTag("red") }, "[none blue like long]"},
		{func() error { return set(c, "red", &Put{Tags: []byte("red")}) }, "[none red blue like long]"},
		{func() error { return set(c, "p:red", &Put{Tags: []byte("red,blue")}) }, "[none red blue like long p:red]"},
		{func() error { return c.FlushPrefix("p") }, "[none red blue like long]"},
		{func() error { return set(c, "p:red", &Put{Tags: []byte("red")}) }, "[none red blue like long p:red]"},
		{func() error { return c.FlushTag("blue") }, "[none red like long p:red]"},
		{func() error { return set(c, "red", &Put{}) }, "[none red like long p:red]"}, // without the tag
		{func() error { return c.FlushTag("red") }, "[none red like long]"},
		{func() error { return c.FlushTag(string(long)) }, "[none red like]"},
		{func() error { c.Flush(); return c.FlushTag("x") }, "[]"},
	} {
		if err := s.do(); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(left()); got != s.want {
			t.Errorf("after step %d: %s; want %s", i, got, s.want)
		}
	}
	c.check(t)
}

// Items of all sizes take each other's place, where they fit and where they do not.
func TestTagsAndSizes(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{Limit: 8 << 20})
	for i, p := range []Put{
		{A: make([]byte, 10)},
		{A: make([]byte, 10), Tags: []byte("abcdefg")},
		{A: make([]byte, 18)},
		{A: make([]byte, 18), Tags: []byte("abcdefg")},
		{A: make([]byte, 10), Tags: []byte("abcdefghijklmno")},
		{A: make([]byte, 20), Tags: []byte("abcde")},
		{A: make([]byte, 18), Tags: []byte("x")},
		{A: make([]byte, 10), Tags: []byte("y")},
		{A: make([]byte, 12)},
		{A: make([]byte, 2), Tags: []byte("abcdefghi")},
		{},
		{Tags: []byte("abc")},
	} {
		for n := range 20 {
			for _, key := range []string{"k", fmt.Sprint("k", n)} {
				q := p
				q.A = bytes.Repeat([]byte{byte('a' + i)}, max(len(p.A)-n, 0))
				if err := set(c, key, &q); err != nil {
					t.Fatal(err)
				}
				v, _ := get(c, key)
				if tags, _ := tagsOf(c, key); v != string(q.A) || tags != string(p.Tags) {
					t.Fatalf("step %d, %d: %q with %q; want %q with %q", i, n, v, tags, q.A, p.Tags)
				}
			}
		}
	}
	c.check(t)
}

// A reservation has its tags from the beginning; a flush of one that comes between is not lost.
func TestReserveWithTags(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{})
	for _, flush := range []bool{false, true} {
		v, err := c.Reserve([]byte("k"), 5, 7, 0, []byte("red,blue"))
		if err != nil {
			t.Fatal(err)
		}
		copy(v.Value(), "hello")
		if flush {
			if err := c.FlushTag("blue"); err != nil {
				t.Fatal(err)
			}
		}
		var x Txn
		c.Begin(&x, []byte("k"))
		err = x.Commit(&v, 1, 0)
		if errors.Is(err, ErrFlushed) != flush {
			t.Errorf("Commit with a flush %v: %v", flush, err)
		}
		if !flush && (string(x.Value()) != "hello" || string(x.Tags()) != "red,blue" || x.Len() != 5) {
			t.Errorf("%q %q", x.Value(), x.Tags())
		}
		x.End()
		v.Abort()
	}
	if _, ok := get(c, "k"); ok {
		t.Error("the item is there after its tag was flushed")
	}
	c.check(t)
}

// There may be as many names as are remembered, and then more, once the cache has looked which of them still matter.
func TestFlushedNamesAreLimited(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{})
	fill := func(flush func(string) error) {
		t.Helper()
		for i := range MaxFlushed {
			if err := flush(fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := flush("one too many"); !errors.Is(err, ErrTooManyFlushed) {
			t.Errorf("%v", err)
		}
		if err := flush("7"); err != nil {
			t.Errorf("one that is known: %v", err)
		}
	}
	put := func(key, tags string) {
		t.Helper()
		if err := set(c, key, &Put{Tags: []byte(tags)}); err != nil {
			t.Fatal(err)
		}
	}
	put("before", "12")
	put("12:before", "")
	put("other", "")
	fill(c.FlushTag)
	fill(c.FlushPrefix)
	put("after", "12")
	put("12:after", "")
	c.purge(t.Context())
	if p, g := c.Flushed(); p != 0 || g != 0 {
		t.Errorf("%d prefixes and %d tags are remembered", p, g)
	}
	for key, want := range map[string]bool{"before": false, "12:before": false, "other": true, "after": true, "12:after": true} {
		if _, ok := get(c, key); ok != want {
			t.Errorf("%s is there: %v; want %v", key, ok, want)
		}
	}
	if err := errors.Join(c.FlushTag("12"), c.FlushPrefix("12")); err != nil {
		t.Fatal(err)
	}
	if got := c.Stats().Items; got != 3 {
		t.Errorf("%d items are linked; want other, after, 12:after", got)
	}
	for key, want := range map[string]bool{"other": true, "after": false, "12:after": false} {
		if _, ok := get(c, key); ok != want {
			t.Errorf("after another flush %s is there: %v; want %v", key, ok, want)
		}
	}
	c.purge(t.Context())
	fill(func(name string) error { return c.FlushTag("t" + name) })
	c.Flush()
	if p, g := c.Flushed(); p != 0 || g != 0 {
		t.Errorf("after Flush %d prefixes and %d tags are remembered", p, g)
	}
	c.check(t)
}

// After a thousand million flushes their numbers begin anew: everything is forgotten once, and nothing that ought to be gone comes back.
func TestGenerationsBeginAnew(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{})
	c.gens.last.Store(maxGeneration/2 - 3)
	for i := range 10 {
		if err := errors.Join(set(c, "a:1", &Put{}), set(c, "b", &Put{Tags: []byte("t")}), c.FlushPrefix("a"), c.FlushTag("t")); err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{"a:1", "b"} {
			if _, ok := get(c, k); ok {
				t.Errorf("round %d: %s is there", i, k)
			}
		}
	}
	if last := c.gens.last.Load(); last > 20 {
		t.Errorf("the number of the last flush is %d", last)
	}
	// One that was about to be stored when the numbers began anew carries a number that no flush will reach.
	var x Txn
	c.Begin(&x, []byte("late"))
	x.gen = maxGeneration / 2
	if err := x.Store(&Put{}); err != nil {
		t.Fatal(err)
	}
	x.End()
	if _, ok := get(c, "late"); ok {
		t.Error("an item of before is there")
	}
	c.check(t)
}

func TestTagsAreRestored(t *testing.T) {
	t.Parallel()
	o := Options{Limit: 4 << 20, File: filepath.Join(t.TempDir(), "items"), Now: start, Delimiter: ':'}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"a", "b"} {
		if err := set(c, k, &Put{A: []byte("value"), Tags: []byte(k + ",all")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.FlushTag("a"); err != nil {
		t.Fatal(err)
	}
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
	if _, ok := get(c, "a"); ok {
		t.Error("an item whose tag was flushed before the restart is there")
	}
	if v, ok := get(c, "b"); !ok || v != "value" {
		t.Errorf("b = %q, %v", v, ok)
	}
	if tags, _ := tagsOf(c, "b"); tags != "b,all" {
		t.Errorf("b has the tags %q", tags)
	}
	if err := c.FlushTag("all"); err != nil {
		t.Fatal(err)
	}
	if _, ok := get(c, "b"); ok {
		t.Error("an item whose tag was flushed after the restart is there")
	}
}

// The index grows in the midst of a walk, which sees all the same what was there before.
func TestWalkWhileTheIndexGrows(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{Limit: 32 << 20})
	const n = 20_000
	for i := range n {
		if err := set(c, fmt.Sprint("k", i), &Put{}); err != nil {
			t.Fatal(err)
		}
	}
	seen, more := map[string]bool{}, 0
	for pos, steps := uint64(0), 0; ; steps++ {
		pos = c.Walk(pos, func(_ *Txn, key []byte) bool {
			seen[string(key)] = true
			return steps%50 != 0
		})
		if pos == 0 {
			break
		}
		for range 100 {
			if more++; more < 10*n {
				if err := set(c, fmt.Sprint("more", more), &Put{}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	grown := uint32(0)
	for i := range c.shards {
		grown = max(grown, c.shards[i].grown)
	}
	missing := 0
	for i := range n {
		if !seen[fmt.Sprint("k", i)] {
			missing++
		}
	}
	if missing > 0 || grown < 3 {
		t.Errorf("%d of %d items were not seen; the index has grown %d times", missing, n, grown)
	}
}
