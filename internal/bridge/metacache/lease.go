package metacache

import (
	"context"
	"errors"
	"slices"
	"time"

	"wheelhouse/memcache"
)

// lease is the record as it was read, and how long it may be believed. It is not changed once made.
type lease struct {
	text    string
	members []seen
	ring    *memcache.Ring // nil without members
	ours    bool           // the record is of this process's own list
	// since is when this text was first seen; the zero time for a record that was not there from the beginning: then nobody has read
	// anything from a cache, as it is removed only where no other process runs. (One that cannot be read is made void, not removed.)
	since time.Time
	until time.Time
}

// seen is a member, and when this process first saw it in this state and epoch.
type seen struct {
	member
	since time.Time
}

// place returns which member has a place; there must be members.
func (l *lease) place(place string) *seen { return &l.members[l.ring.Place(place)] }

func (l *lease) record() record {
	r := make(record, len(l.members))
	for i := range l.members {
		r[i] = l.members[i].member
	}
	return r
}

// grown is a lease's time on clocks that may be a tenth slower.
func (c *Cache) grown() time.Duration { return c.opts.lease + c.opts.lease/10 }

// valid returns the lease if it is one now. When half of its time is over Run is told to renew it.
func (c *Cache) valid() *lease {
	l := c.held.Load()
	now := c.opts.now()
	if l == nil || l.until.Sub(now) < c.opts.lease/2 {
		select {
		case c.kick <- struct{}{}:
		default:
		}
	}
	if l == nil || !now.Before(l.until) {
		return nil
	}
	return l
}

// still reports whether what was done by a lease counts now that it is done.
func (c *Cache) still(l *lease) bool { return c.opts.now().Before(l.until) }

func (c *Cache) lock(ctx context.Context) error {
	select {
	case c.asking <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Cache) unlock() { <-c.asking }

// need returns a lease that is valid for at least some time more, and asks the catalog if there is none.
func (c *Cache) need(ctx context.Context, more time.Duration) (*lease, error) {
	enough := func() *lease {
		if l := c.held.Load(); l != nil && c.opts.now().Add(more).Before(l.until) {
			return l
		}
		return nil
	}
	if l := enough(); l != nil {
		return l, nil
	}
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.unlock()
	if l := enough(); l != nil { // somebody else has asked meanwhile
		return l, nil
	}
	return c.ask(ctx)
}

// ask reads the record. The caller has the token. The lease can have expired when the catalog was slow.
func (c *Cache) ask(ctx context.Context) (*lease, error) {
	began := c.opts.now()
	all, err := c.Catalog.Settings(ctx)
	if err != nil {
		return nil, err
	}
	return c.hold(ctx, all[recordKey], began)
}

// hold makes a lease of a record that was in force at some time after began. The caller has the token.
func (c *Cache) hold(ctx context.Context, text string, began time.Time) (*lease, error) {
	now := c.opts.now()
	old := c.held.Load()
	if old != nil && old.text == text {
		l := *old
		l.until = began.Add(c.opts.lease)
		c.held.Store(&l)
		return &l, nil
	}
	r, err := parseRecord(text, c.opts.lease.String())
	if err != nil {
		// Whoever wrote it may read by rules that this process does not know. Without the record nobody reads.
		c.opts.Log.Error("what processes have agreed on about cache servers cannot be read, and is made void; do all run the same version?", "err", err)
		if _, swapErr := c.Catalog.SwapSetting(ctx, recordKey, text, newVoid()); swapErr != nil {
			return nil, errors.Join(err, swapErr)
		}
		c.held.Store(&lease{text: text}) // so that what comes is news
		return nil, err
	}
	l := &lease{text: text, ours: len(c.opts.Servers) > 0 && r.same(c.opts.Servers), until: began.Add(c.opts.lease), since: now}
	if old == nil && text == "" {
		l.since = time.Time{}
	}
	for _, m := range r {
		s := seen{m, now}
		if old != nil {
			if i := slices.IndexFunc(old.members, func(o seen) bool { return o.member == m }); i >= 0 {
				s.since = old.members[i].since
			}
		}
		l.members = append(l.members, s)
	}
	if len(r) > 0 {
		servers := make([]memcache.Server, len(r))
		for i, m := range r {
			servers[i] = m.server
		}
		if l.ring, err = memcache.NewRing(servers, memcache.Rendezvous); err != nil {
			return nil, err
		}
	}
	c.held.Store(l)
	c.tellState(old, l)
	return l, nil
}

// swap replaces the record that a lease is of, and reports whether it was still that one. Either way a new lease is held afterwards.
func (c *Cache) swap(ctx context.Context, l *lease, r record) (swapped bool, err error) {
	if err := c.lock(ctx); err != nil {
		return false, err
	}
	defer c.unlock()
	began := c.opts.now()
	text := r.format(c.opts.lease.String())
	if swapped, err = c.Catalog.SwapSetting(ctx, recordKey, l.text, text); err != nil {
		return false, err
	}
	if !swapped {
		_, err = c.ask(ctx)
		return false, err
	}
	c.stats.swaps.Add(1)
	_, err = c.hold(ctx, text, began)
	return true, err
}

// tellState logs what has changed.
func (c *Cache) tellState(old, l *lease) {
	for _, m := range l.members {
		if old != nil && slices.ContainsFunc(old.members, func(o seen) bool { return o.server == m.server && o.state == m.state }) {
			continue
		}
		c.opts.Log.Info("cache server", "addr", m.server.String(), "state", m.state.String())
	}
}
