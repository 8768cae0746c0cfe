package dispatcher

import (
	"bytes"
	"testing"

	"wheelhouse/store"
)

func hotBody(id store.ObjectID) []byte { return bytes.Repeat([]byte{byte(id), byte(id >> 8)}, 500) }

func TestHotCache(t *testing.T) {
	if newHotCache(0) != nil {
		t.Error("a cache of nothing is one")
	}
	c := newHotCache(1 << 20)
	c.offer(1, hotBody(1))
	if c.get(1) != nil {
		t.Error("an object is kept after one reading")
	}
	body := hotBody(1)
	c.offer(1, body)
	clear(body) // the caller's buffer is used again
	if !bytes.Equal(c.get(1), hotBody(1)) {
		t.Error("an object is not kept after two readings")
	}
	if n := testing.AllocsPerRun(100, func() { c.get(1) }); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
	c.offer(2, make([]byte, 64<<10))
	c.offer(2, make([]byte, 64<<10))
	if c.get(2) != nil {
		t.Error("an object that is large for the cache is kept")
	}
	// What is read stays; a scan of what is read twice in a row goes round it; the bound holds.
	for id := store.ObjectID(100); id < 20_000; id++ {
		c.get(1)
		c.offer(id, hotBody(id))
		c.offer(id, hotBody(id))
		if got := c.get(id); got != nil && !bytes.Equal(got, hotBody(id)) {
			t.Fatalf("object %d has another's bytes", id)
		}
	}
	if c.get(1) == nil {
		t.Error("what was read all the time is gone")
	}
	var bytes, entries int64
	for i := range c.shards {
		s := &c.shards[i]
		if s.bytes > s.limit || len(s.ring) != len(s.byID) {
			t.Errorf("shard %d: %d bytes of %d, %d in the ring, %d by id", i, s.bytes, s.limit, len(s.ring), len(s.byID))
		}
		bytes, entries = bytes+s.bytes, entries+int64(len(s.ring))
	}
	if bytes < 900<<10 || entries < 700 {
		t.Errorf("%d entries of %d bytes in all: the cache is not used", entries, bytes)
	}
}

func BenchmarkHotCache(b *testing.B) {
	c := newHotCache(64 << 20)
	for id := range store.ObjectID(2000) {
		c.offer(id, hotBody(id))
		c.offer(id, hotBody(id))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for id := store.ObjectID(0); pb.Next(); id++ {
			c.get(id % 2000)
		}
	})
}
