package metacache

import (
	"bytes"
	"context"
	"errors"

	"wheelhouse/memcache"
	"wheelhouse/store"
)

// Find is as in [store.Catalog].
func (c *Cache) Find(ctx context.Context, bucket, name string) (store.Bucket, store.Object, error) {
	id := c.ids.get(bucket)
	l := c.valid()
	if id == 0 || l == nil || !l.ours {
		return c.findThere(ctx, bucket, name)
	}
	m := l.place(placeOf(id, name))
	// Twice the bucket, as these are not answered at one moment: else somebody who was shut out could be given what was stored after that, or, after
	// a bucket was opened, what was deleted before.
	key := bucketKey(m.epoch, bucket)
	a := c.askServer(ctx, l, m, key, objectKey(m.epoch, id, name), key)
	if a == nil {
		return c.findThere(ctx, bucket, name)
	}
	if b, err := decodeBucket(a.found[0].Value, bucket); err == nil && b.ID == id && bytes.Equal(a.found[0].Value, a.found[2].Value) {
		if o, gone, err := decodeObject(a.found[1].Value, id, name); err == nil && c.still(l) {
			a.leases.Release()
			c.stats.hits.Add(1)
			if gone {
				return b, store.Object{}, noObject(bucket, name)
			}
			return b, o, nil
		}
	}
	c.stats.misses.Add(1)
	if !a.won() {
		a.leases.Release()
		return c.findThere(ctx, bucket, name)
	}
	b, o, err := c.findThere(ctx, bucket, name)
	known := err == nil || errors.Is(err, store.ErrNoObject)
	if known && a.found[0].Won {
		a.fill(0, encodeBucket(&b))
	}
	switch {
	case b.ID != id: // the guess was wrong: what was won is another bucket's
	case err == nil && len(o.Missing) == 0:
		o.Bucket, o.Name = id, name
		a.fill(1, encodeObject(&o))
	case err == nil: // owed to a storage: the next readers, too, ask the catalog
		a.keep[1] = true
	case known && err != nil:
		a.fill(1, encodeGone(id, name))
	}
	c.send(ctx, a)
	return b, o, err
}

// findThere asks the catalog, and remembers the bucket's id.
func (c *Cache) findThere(ctx context.Context, bucket, name string) (store.Bucket, store.Object, error) {
	b, o, err := c.Catalog.Find(ctx, bucket, name)
	if b.ID != 0 && (err == nil || errors.Is(err, store.ErrNoObject)) {
		c.ids.put(bucket, b.ID)
	}
	return b, o, err
}

// Bucket is as in [store.Catalog].
func (c *Cache) Bucket(ctx context.Context, name string) (store.Bucket, error) {
	l := c.valid()
	if l == nil || !l.ours {
		return c.bucketThere(ctx, name)
	}
	m := l.place(placeOfBucket(name))
	a := c.askServer(ctx, l, m, bucketKey(m.epoch, name))
	if a == nil {
		return c.bucketThere(ctx, name)
	}
	if b, err := decodeBucket(a.found[0].Value, name); err == nil && c.still(l) {
		a.leases.Release()
		c.stats.hits.Add(1)
		return b, nil
	}
	c.stats.misses.Add(1)
	if !a.won() {
		a.leases.Release()
		return c.bucketThere(ctx, name)
	}
	b, err := c.bucketThere(ctx, name)
	if err == nil {
		a.fill(0, encodeBucket(&b))
	}
	c.send(ctx, a)
	return b, err
}

func (c *Cache) bucketThere(ctx context.Context, name string) (store.Bucket, error) {
	b, err := c.Catalog.Bucket(ctx, name)
	if err == nil {
		c.ids.put(name, b.ID)
	}
	return b, err
}

// answer is what a server has said, and what it is to be told.
type answer struct {
	found  []memcache.Found
	leases *memcache.Leases
	values [3][]byte
	keep   [3]bool // what was won and is not filled stays won
}

func (a *answer) won() bool {
	for i := range a.found {
		if a.found[i].Won {
			return true
		}
	}
	return false
}

func (a *answer) fill(i int, value []byte) {
	if a.found[i].Won && len(value) <= maxValue {
		a.values[i] = value
	}
	a.keep[i] = len(value) > maxValue
}

// askServer looks keys up; nil when the server is not to be read from, or does not answer. The caller releases the leases, or sends the answer.
func (c *Cache) askServer(ctx context.Context, l *lease, m *seen, keys ...string) *answer {
	if m.state != in {
		return nil
	}
	s, err := c.serverOf(m.server)
	if err != nil || !s.ready(c.opts.now(), c.opts.rest) {
		c.stats.avoided.Add(1)
		return nil
	}
	found, leases, err := s.client.GetLeases(ctx, keys, fillWait)
	if err != nil {
		if ctx.Err() == nil {
			c.failed(s, err)
		}
		return nil
	}
	s.works()
	return &answer{found: found, leases: leases}
}

// failed leaves a server alone for a time, which doubles up to maxRests times the first.
func (c *Cache) failed(s *server, err error) {
	c.stats.failures.Add(1)
	rest := min(max(2*s.rest.Load(), int64(c.opts.rest)), maxRests*int64(c.opts.rest))
	s.rest.Store(rest)
	s.restUntil.Store(c.opts.now().UnixNano() + rest)
	text := ""
	switch {
	case errors.Is(err, memcache.ErrNoLeases):
		text = "a cache server is too old to be used for look-ups: memcached 1.6 or later is wanted"
	case errors.Is(err, errSnapshot):
		text = "a cache server is not used for look-ups: after a crash it would have what was deleted before; start it without --snapshot"
	}
	if text != "" {
		if !s.refused.Swap(true) {
			c.opts.Log.Error(text, "addr", s.name)
		}
		return
	}
	c.opts.Log.Warn("a cache server does not answer; look-ups go to the catalog", "addr", s.name, "err", err)
}

// send stores what was won, beside the caller, and releases the leases.
func (c *Cache) send(ctx context.Context, a *answer) {
	ctx = context.WithoutCancel(ctx)
	expire := memcache.Expire(c.opts.TTL)
	started := c.background(func() {
		defer a.leases.Release()
		for i := range a.found {
			if a.values[i] == nil {
				if a.found[i].Won && !a.keep[i] {
					_ = a.leases.Abandon(ctx, i) // if it is not heard, it is over after fillWait
				}
				continue
			}
			if err := a.leases.Fill(ctx, i, &memcache.Item{Value: a.values[i], Expiration: expire}); err != nil {
				c.stats.lost.Add(1)
			} else {
				c.stats.fills.Add(1)
			}
		}
	})
	if !started {
		a.leases.Release()
	}
}
