package metacache

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"wheelhouse/memcache"
)

// Run renews the lease while it is used, and takes servers into use that answer, until ctx ends. While nobody looks anything up it does nothing.
func (c *Cache) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.kick:
		}
		l, err := c.need(ctx, c.opts.lease*3/4)
		if err == nil {
			err = c.advance(ctx, l)
		}
		if err != nil && ctx.Err() == nil {
			c.opts.Log.Warn("the catalog does not say which cache servers are in use; look-ups go to the catalog", "err", err)
			if c.opts.sleep(ctx, c.opts.lease) != nil {
				return nil
			}
		}
	}
}

// advance changes the record where that is due: to this process's list, once, and servers from out to joining to in.
func (c *Cache) advance(ctx context.Context, l *lease) error {
	if len(c.opts.Servers) == 0 {
		return nil
	}
	if !l.ours {
		return c.propose(ctx, l)
	}
	c.joined = true
	r := l.record()
	changed := false
	now := c.opts.now()
	for i := range l.members {
		m := &l.members[i]
		if now.Sub(m.since) < c.grown() {
			continue
		}
		switch m.state {
		case joining:
			r[i].state, changed = in, true
		case out:
			s, err := c.serverOf(m.server)
			if err == nil && s.ready(now, c.opts.rest) && s.probing.CompareAndSwap(false, true) {
				if !c.background(func() { c.probe(ctx, s, m.server) }) {
					s.probing.Store(false)
				}
			}
		}
	}
	if !changed {
		return nil
	}
	_, err := c.swap(ctx, l, r)
	return err
}

// propose puts this process's list in place of another. It does so once: of processes with different lists the one that was started last is heeded.
func (c *Cache) propose(ctx context.Context, l *lease) error {
	if c.joined && len(l.members) > 0 {
		if !c.warned.Swap(true) {
			c.opts.Log.Error("another process was started with other cache servers: this one reads from the catalog alone until both have the same list")
		}
		return nil
	}
	swapped, err := c.swap(ctx, l, newRecord(c.opts.Servers))
	if err == nil && swapped {
		c.joined = true
		c.warned.Store(false)
	}
	return err
}

// probe asks a server that is out, and lets it join if it answers.
func (c *Cache) probe(ctx context.Context, s *server, addr memcache.Server) {
	defer s.probing.Store(false)
	_, leases, err := s.client.GetLeases(ctx, []string{bucketKey(newEpoch(), "")}, time.Second)
	if err != nil {
		if ctx.Err() == nil {
			c.failed(s, err)
			s.restUntil.Add(rand.Int64N(int64(c.opts.rest))) // so that processes do not all come at once
		}
		return
	}
	leases.Release()
	if err := c.forgets(ctx, s); err != nil {
		if ctx.Err() == nil {
			c.failed(s, err)
		}
		return
	}
	s.works()
	l, err := c.need(ctx, 0)
	if err != nil || !l.ours {
		return
	}
	r := l.record()
	for i := range l.members {
		if m := &l.members[i]; m.server == addr && m.state == out && c.opts.now().Sub(m.since) >= c.grown() {
			r[i].epoch, r[i].state = newEpoch(), joining
			if _, err := c.swap(ctx, l, r); err != nil && !errors.Is(err, context.Canceled) {
				c.opts.Log.Warn("a cache server answers, but the catalog was not told", "addr", s.name, "err", err)
			}
			return
		}
	}
}

// errSnapshot is why a server is left alone that could have, after a crash, what was deleted before it.
var errSnapshot = errors.New("it was started with --snapshot")

// forgets returns an error if a server says that it is started with items of before. One that does not let itself be asked is believed.
func (c *Cache) forgets(ctx context.Context, s *server) error {
	all, err := s.client.Stats(ctx, "settings")
	if refusal := (*memcache.ServerError)(nil); errors.As(err, &refusal) {
		return nil
	}
	for _, settings := range all {
		if settings["snapshot"] != "" {
			return errSnapshot
		}
	}
	return err
}
