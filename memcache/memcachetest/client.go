package memcachetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"wheelhouse/memcache"
)

// patience is the client's time-out in tests: nothing may depend on the machine's speed.
var patience = memcache.WithTimeout(Wait, Wait)

// NewClient makes a client of the servers at the addresses, with time-outs that a loaded machine keeps.
func NewClient(t testing.TB, addrs []string, opts ...memcache.Option) *memcache.Client {
	t.Helper()
	servers, err := memcache.ParseServers(addrs...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := memcache.New(servers, append([]memcache.Option{patience}, opts...)...)
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

// Client tests our client with servers that start makes, in both protocols.
func Client(t *testing.T, start func(t *testing.T) string) {
	for name, p := range map[string]memcache.Protocol{"auto": memcache.Auto, "classic": memcache.Classic, "meta": memcache.Meta} {
		t.Run(name, func(t *testing.T) {
			addrs := []string{start(t), start(t), start(t)}
			for what, test := range map[string]func(*testing.T, *memcache.Client, string){
				"stores": stores, "expiry": expiry, "counters": counters, "joins": joins, "cas": cas, "update": update, "multi": multi,
				"values": values, "keys": keys,
			} {
				t.Run(what, func(t *testing.T) { test(t, NewClient(t, addrs, memcache.WithProtocol(p)), name+what) })
			}
			t.Run("versions of stores", func(t *testing.T) {
				storedVersion(t, NewClient(t, addrs, memcache.WithProtocol(p)), p != memcache.Classic)
			})
			t.Run("compression", func(t *testing.T) { compression(t, addrs, p) })
			t.Run("all servers", func(t *testing.T) { // last: it forgets all
				allServers(t, NewClient(t, addrs, memcache.WithProtocol(p)), len(addrs))
			})
		})
	}
}

func item(key, value string) *memcache.Item { return &memcache.Item{Key: key, Value: []byte(value)} }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v; want %v", err, want)
	}
}

func holds(t *testing.T, c *memcache.Client, key, value string, flags uint32) *memcache.Item {
	t.Helper()
	i, err := c.Get(t.Context(), key)
	must(t, err)
	if i.Key != key || string(i.Value) != value || i.Flags != flags || i.CAS == 0 {
		t.Fatalf("got %+v; want %q, flags %d, a version", i, value, flags)
	}
	return i
}

func stores(t *testing.T, c *memcache.Client, key string) {
	ctx := t.Context()
	_, err := c.Get(ctx, key)
	wants(t, err, memcache.ErrCacheMiss)
	wants(t, c.Replace(ctx, item(key, "x")), memcache.ErrNotStored)
	wants(t, c.Delete(ctx, key), memcache.ErrCacheMiss)
	must(t, c.Add(ctx, &memcache.Item{Key: key, Value: []byte("one"), Flags: 1<<32 - 1}))
	holds(t, c, key, "one", 1<<32-1)
	wants(t, c.Add(ctx, item(key, "x")), memcache.ErrNotStored)
	must(t, c.Replace(ctx, item(key, "two")))
	holds(t, c, key, "two", 0)
	must(t, c.Set(ctx, &memcache.Item{Key: key, Value: []byte("three\r\nEND\r\n"), Flags: 7}))
	holds(t, c, key, "three\r\nEND\r\n", 7)
	must(t, c.Set(ctx, &memcache.Item{Key: key}))
	holds(t, c, key, "", 0)
	must(t, c.Delete(ctx, key))
	_, err = c.Get(ctx, key)
	wants(t, err, memcache.ErrCacheMiss)
}

func expiry(t *testing.T, c *memcache.Client, key string) {
	ctx := t.Context()
	wants(t, c.Touch(ctx, key, 10), memcache.ErrCacheMiss)
	_, err := c.GetAndTouch(ctx, key, 10)
	wants(t, err, memcache.ErrCacheMiss)
	must(t, c.Set(ctx, &memcache.Item{Key: key, Value: []byte("v"), Expiration: -1}))
	_, err = c.Get(ctx, key)
	wants(t, err, memcache.ErrCacheMiss)
	must(t, c.Set(ctx, &memcache.Item{Key: key, Value: []byte("v"), Flags: 3, Expiration: 1000}))
	i, err := c.GetAndTouch(ctx, key, 2000)
	must(t, err)
	if string(i.Value) != "v" || i.Flags != 3 || i.CAS == 0 {
		t.Fatalf("got %+v", i)
	}
	must(t, c.Touch(ctx, key, 3000))
	holds(t, c, key, "v", 3)
	must(t, c.Touch(ctx, key, -1))
	_, err = c.Get(ctx, key)
	wants(t, err, memcache.ErrCacheMiss)
}

func counters(t *testing.T, c *memcache.Client, key string) {
	ctx := t.Context()
	_, err := c.Increment(ctx, key, 1)
	wants(t, err, memcache.ErrCacheMiss)
	must(t, c.Set(ctx, item(key, "9")))
	count := func(f func(context.Context, string, uint64) (uint64, error), delta, want uint64) {
		t.Helper()
		if got, err := f(ctx, key, delta); err != nil || got != want {
			t.Fatalf("got %d, %v; want %d", got, err, want)
		}
	}
	count(c.Increment, 3, 12)
	count(c.Decrement, 3, 9)
	count(c.Decrement, 10, 0)
	count(c.Increment, 1<<64-1, 1<<64-1)
	count(c.Increment, 2, 1)
	must(t, c.Set(ctx, item(key, "word")))
	_, err = c.Increment(ctx, key, 1)
	var refused *memcache.ServerError
	if !errors.As(err, &refused) || !strings.Contains(refused.Text, "non-numeric") {
		t.Fatalf("increment of a word: %v", err)
	}
	holds(t, c, key, "word", 0)
}

func joins(t *testing.T, c *memcache.Client, key string) {
	ctx := t.Context()
	wants(t, c.Append(ctx, item(key, "x")), memcache.ErrNotStored)
	wants(t, c.Prepend(ctx, item(key, "x")), memcache.ErrNotStored)
	must(t, c.Set(ctx, &memcache.Item{Key: key, Value: []byte("b"), Flags: 5}))
	must(t, c.Append(ctx, &memcache.Item{Key: key, Value: []byte("c"), Flags: 6}))
	must(t, c.Prepend(ctx, item(key, "a")))
	holds(t, c, key, "abc", 5)
}

func cas(t *testing.T, c *memcache.Client, key string) {
	ctx := t.Context()
	wants(t, c.CompareAndSwap(ctx, &memcache.Item{Key: key, CAS: 1 << 40}), memcache.ErrCacheMiss)
	must(t, c.Set(ctx, item(key, "a")))
	wants(t, c.CompareAndSwap(ctx, item(key, "x")), memcache.ErrCASConflict)
	first := holds(t, c, key, "a", 0)
	second := *first
	first.Value = []byte("b")
	must(t, c.CompareAndSwap(ctx, first))
	second.Value = []byte("x")
	wants(t, c.CompareAndSwap(ctx, &second), memcache.ErrCASConflict)
	holds(t, c, key, "b", 0)
}

// storedVersion: the meta protocol tells a store's version, which can be compared at once.
func storedVersion(t *testing.T, c *memcache.Client, told bool) {
	i := item("stored", "a")
	must(t, c.Set(t.Context(), i))
	if !told {
		if i.CAS != 0 {
			t.Fatalf("version %d; the protocol tells none", i.CAS)
		}
		return
	}
	if got := holds(t, c, "stored", "a", 0); got.CAS != i.CAS {
		t.Fatalf("version %d; the store said %d", got.CAS, i.CAS)
	}
	i.Value = []byte("b")
	must(t, c.CompareAndSwap(t.Context(), i))
	i.Value = []byte("c")
	must(t, c.CompareAndSwap(t.Context(), i))
	holds(t, c, "stored", "c", 0)
}

// update: nothing that several at once add to an item is lost, also not who adds first.
func update(t *testing.T, c *memcache.Client, key string) {
	const writers, times = 4, 10
	var wait sync.WaitGroup
	for range writers {
		wait.Go(func() {
			for range times {
				if err := c.Update(t.Context(), key, func(old *memcache.Item) (*memcache.Item, error) {
					if old == nil {
						return &memcache.Item{Value: []byte("x"), Flags: 9}, nil
					}
					return &memcache.Item{Value: append(old.Value, 'x'), Flags: old.Flags}, nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	holds(t, c, key, strings.Repeat("x", writers*times), 9)
	mine := errors.New("mine")
	wants(t, c.Update(t.Context(), key, func(*memcache.Item) (*memcache.Item, error) { return nil, mine }), mine)
}

func multi(t *testing.T, c *memcache.Client, key string) {
	ctx, want := t.Context(), map[string]string{}
	var names []string
	for n := range 1000 {
		k := fmt.Sprintf("%s:%d:%s", key, n, strings.Repeat("k", n%150))
		names = append(names, k)
		if n%3 == 0 {
			continue
		}
		want[k] = strings.Repeat(k, n%20)
		must(t, c.Set(ctx, &memcache.Item{Key: k, Value: []byte(want[k]), Flags: uint32(n)}))
	}
	got, err := c.GetMulti(ctx, append(names, names[:10]...))
	must(t, err)
	if len(got) != len(want) {
		t.Fatalf("%d items; want %d", len(got), len(want))
	}
	used := map[int]bool{}
	for n, k := range names {
		used[c.Ring().Place(k)] = true
		value, there := want[k]
		if !there {
			continue
		}
		if i := got[k]; i == nil || i.Key != k || string(i.Value) != value || i.Flags != uint32(n) || i.CAS == 0 {
			t.Fatalf("%s: %+v; want %q, flags %d", k, i, value, n)
		}
	}
	if len(used) != len(c.Ring().Servers()) {
		t.Fatalf("the keys are on %d servers; want all %d", len(used), len(c.Ring().Servers()))
	}
	none, err := c.GetMulti(ctx, nil)
	if err != nil || len(none) != 0 {
		t.Fatalf("of no keys: %v, %v", none, err)
	}
}

// values of all lengths come back, one that is too large is refused, and the connections are good for more.
func values(t *testing.T, c *memcache.Client, key string) {
	ctx := t.Context()
	var names []string
	for _, n := range []int{1, 8190, 8191, 8192, 8193, 16383, 16384, 16385, 1000000} {
		k, v := fmt.Sprintf("%s:%d", key, n), bytes.Repeat([]byte{'\r', '\n', 0, 255}, n/4+1)[:n]
		must(t, c.Set(ctx, &memcache.Item{Key: k, Value: v}))
		holds(t, c, k, string(v), 0)
		names = append(names, k)
	}
	got, err := c.GetMulti(ctx, names)
	if err != nil || len(got) != len(names) {
		t.Fatalf("%d values, %v; want %d", len(got), err, len(names))
	}
	err = c.Set(ctx, &memcache.Item{Key: key, Value: make([]byte, 2<<20)})
	var refused *memcache.ServerError
	if !errors.As(err, &refused) || !strings.Contains(refused.Text, "too large") {
		t.Fatalf("2 MiB: %v; want a refusal", err)
	}
	must(t, c.Set(ctx, item(key, "small")))
	holds(t, c, key, "small", 0)
}

func keys(t *testing.T, c *memcache.Client, key string) {
	ctx := t.Context()
	for _, bad := range []string{"", "a b", "a\r\nb", "a\x00", "a\x7f", "\t", strings.Repeat("k", 251)} {
		_, err := c.Get(ctx, bad)
		wants(t, err, memcache.ErrMalformedKey)
		_, err = c.GetAndTouch(ctx, bad, 1)
		wants(t, err, memcache.ErrMalformedKey)
		_, err = c.GetMulti(ctx, []string{key, bad})
		wants(t, err, memcache.ErrMalformedKey)
		_, err = c.Increment(ctx, bad, 1)
		wants(t, err, memcache.ErrMalformedKey)
		wants(t, c.Set(ctx, item(bad, "v")), memcache.ErrMalformedKey)
		wants(t, c.CompareAndSwap(ctx, item(bad, "v")), memcache.ErrMalformedKey)
		wants(t, c.Delete(ctx, bad), memcache.ErrMalformedKey)
		wants(t, c.Touch(ctx, bad, 1), memcache.ErrMalformedKey)
	}
	for _, good := range []string{"ключ", "\xff\x80", "100%d%s", strings.Repeat("k", 250)} {
		must(t, c.Set(ctx, item(good, good)))
		holds(t, c, good, good, 0)
		i, err := c.GetAndTouch(ctx, good, 100)
		if err != nil || string(i.Value) != good {
			t.Fatalf("%q: %+v, %v", good, i, err)
		}
		got, err := c.GetMulti(ctx, []string{good})
		if err != nil || got[good] == nil {
			t.Fatalf("%q: %v, %v", good, got, err)
		}
		must(t, c.Touch(ctx, good, 100))
		must(t, c.Delete(ctx, good))
	}
}

func compression(t *testing.T, addrs []string, p memcache.Protocol) {
	ctx := t.Context()
	c := NewClient(t, addrs, memcache.WithProtocol(p), memcache.WithCompression(100, memcache.Gzip{}))
	plain := NewClient(t, addrs, memcache.WithProtocol(p))
	long := strings.Repeat("long ", 1000)
	must(t, c.Set(ctx, &memcache.Item{Key: "zip", Value: []byte(long), Flags: 3}))
	i, err := plain.Get(ctx, "zip")
	must(t, err)
	if i.Flags != 3|memcache.GzipFlag || len(i.Value) > 200 {
		t.Fatalf("stored as %d bytes, flags %#x", len(i.Value), i.Flags)
	}
	holds(t, c, "zip", long, 3)
	must(t, c.Set(ctx, &memcache.Item{Key: "zip2", Value: []byte(long[:100])}))
	holds(t, plain, "zip2", long[:100], 0)
	got, err := c.GetMulti(ctx, []string{"zip", "zip2"})
	if err != nil || len(got) != 2 || string(got["zip"].Value) != long || got["zip"].Flags != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	wants(t, c.Append(ctx, item("zip", "x")), memcache.ErrCompression)
	wants(t, c.Set(ctx, &memcache.Item{Key: "zip", Flags: memcache.GzipFlag}), memcache.ErrCompression)
	must(t, plain.Set(ctx, &memcache.Item{Key: "zip", Value: []byte("not gzip"), Flags: memcache.GzipFlag}))
	for what, get := range map[string]func() (*memcache.Item, error){
		"Get":         func() (*memcache.Item, error) { return c.Get(ctx, "zip") },
		"GetAndTouch": func() (*memcache.Item, error) { return c.GetAndTouch(ctx, "zip", 0) },
	} {
		i, err := get()
		wants(t, err, memcache.ErrCompression)
		if i != nil {
			t.Errorf("%s: %+v besides the error", what, i)
		}
	}
	got, err = c.GetMulti(ctx, []string{"zip", "zip2"})
	wants(t, err, memcache.ErrCompression)
	if len(got) != 1 || got["zip2"] == nil {
		t.Errorf("GetMulti: %v", got)
	}
}

func allServers(t *testing.T, c *memcache.Client, n int) {
	ctx := t.Context()
	must(t, c.Ping(ctx))
	versions, err := c.Version(ctx)
	if err != nil || len(versions) != n {
		t.Fatalf("%v, %v", versions, err)
	}
	for s, v := range versions {
		if v == "" {
			t.Fatalf("%v has no version", s)
		}
	}
	stats, err := c.Stats(ctx, "")
	if err != nil || len(stats) != n {
		t.Fatalf("%v, %v", stats, err)
	}
	for s, list := range stats {
		if list["version"] != versions[s] || list["cmd_set"] == "" {
			t.Fatalf("%v: %v; want version %s", s, list, versions[s])
		}
	}
	settings, err := c.Stats(ctx, "settings")
	if err != nil || len(settings) != n {
		t.Fatalf("%v, %v", settings, err)
	}
	for s, list := range settings {
		if list["maxbytes"] == "" {
			t.Fatalf("settings of %v: %v", s, list)
		}
	}
	reset, err := c.Stats(ctx, "reset")
	if err != nil || len(reset) != n {
		t.Fatalf("%v, %v", reset, err)
	}
	if _, err := c.Stats(ctx, "a b"); err == nil {
		t.Fatal("stats of \"a b\"")
	}
	for _, flush := range []func(context.Context) error{c.FlushAll, c.DeleteAll} {
		for i := range 10 * n {
			must(t, c.Set(ctx, item(fmt.Sprint("flushed", i), "v")))
		}
		must(t, flush(ctx))
		for i := range 10 * n {
			_, err = c.Get(ctx, fmt.Sprint("flushed", i))
			wants(t, err, memcache.ErrCacheMiss)
		}
	}
}
