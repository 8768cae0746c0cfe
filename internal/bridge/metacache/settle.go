package metacache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"wheelhouse/memcache"
	"wheelhouse/store"
)

// target is what a change was of: an object, a bucket's name, or anything.
type target struct {
	kind   byte // kindObject, kindBucket, or 0: anything
	bucket store.BucketID
	name   string
}

func objectTarget(bucket store.BucketID, name string) target {
	return target{kindObject, bucket, name}
}
func bucketTarget(name string) target { return target{kindBucket, 0, name} }

var anything = []target{{}}

// refusals are errors that say that nothing was changed.
var refusals = []error{
	store.ErrNoBucket, store.ErrNoObject, store.ErrExists, store.ErrNotEmpty, store.ErrPrecondition, store.ErrLease, store.ErrInUse,
}

// refused reports whether an error says that nothing was changed.
func refused(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// change makes a change of the catalog, of targets; nil are what is only known when it is made, by more. It returns the change's error, or why what
// was changed must not be acknowledged yet. Errors make no difference: after some the change may have been made, and others (there is no such object)
// tell the caller what somebody changed who could not tell the caches.
func (c *Cache) change(ctx context.Context, targets []target, do func() error, more func() []target) error {
	s := settling{done: map[uint64]bool{}, marks: map[string]memcache.Mark{}, targets: targets}
	c.mark(ctx, &s)
	err := do()
	if more != nil {
		s.targets = append(s.targets, more()...)
	}
	return c.settled(ctx, err, &s)
}

func (c *Cache) settled(ctx context.Context, err error, s *settling) error {
	if settleErr := c.settle(ctx, s); settleErr != nil {
		return errors.Join(err, fmt.Errorf("metacache: the change may be made, but caches may not know of it: %w", settleErr))
	}
	return err
}

// changedAll ends a change that makes all void. Where it was refused nothing is.
func (c *Cache) changedAll(ctx context.Context, err error) error {
	if refused(err) {
		return err
	}
	return c.settled(ctx, err, &settling{done: map[uint64]bool{}, targets: anything})
}

// settling is what is done about one change.
type settling struct {
	targets []target
	marks   map[string]memcache.Mark // set before the change, by their keys
	done    map[uint64]bool          // epochs in which all is deleted
}

// mark keeps readers from caches while a change is under way: until it is acknowledged they ask the catalog, so that nobody who has seen the new state sees
// the old one. If it cannot be done the change is made all the same.
func (c *Cache) mark(ctx context.Context, s *settling) {
	if c.opts.noDelete || len(s.targets) == 0 {
		return
	}
	l, err := c.need(ctx, 0)
	if err != nil || len(l.members) == 0 {
		return
	}
	keys, bump := l.keys(s.targets)
	var mu sync.Mutex // guards s.marks
	errs := eachMember(keys, func(i int) error {
		srv, err := c.serverOf(l.members[i].server)
		if err != nil {
			return err
		}
		marks, err := srv.client.Mark(ctx, fillWait, keys[i]...)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, m := range marks {
			s.marks[m.Key] = m
		}
		return nil
	})
	failed := false
	for i, err := range errs {
		if bump[i] = err != nil; bump[i] {
			failed = true
			c.tellTimeout(l.members[i].server, err)
		}
	}
	if failed && ctx.Err() == nil {
		_, _ = c.bump(ctx, l, bump) // else it is done after the change
	}
}

// bump takes members out of use, each with a fresh epoch.
func (c *Cache) bump(ctx context.Context, l *lease, which []bool) (swapped bool, err error) {
	r := l.record()
	for i := range r {
		if which[i] {
			r[i].epoch, r[i].state = newEpoch(), out
		}
	}
	return c.swap(ctx, l, r)
}

func (c *Cache) tellTimeout(server memcache.Server, err error) {
	c.stats.timeouts.Add(1)
	c.opts.Log.Warn("a cache server does not take deletes, and is put out of use", "addr", server.String(), "err", err)
}

// eachMember calls f for the members of which there are keys, all at once, and returns what came of it.
func eachMember(keys [][]string, f func(i int) error) []error {
	errs := make([]error, len(keys))
	last := -1
	var wait sync.WaitGroup
	for i := range keys {
		if keys[i] == nil {
			continue
		}
		if at := last; at >= 0 {
			wait.Go(func() { errs[at] = f(at) })
		}
		last = i
	}
	if last >= 0 {
		errs[last] = f(last) // mostly the only one
	}
	wait.Wait()
	return errs
}

// settle returns when no reader can be given from a cache what was true before now.
func (c *Cache) settle(ctx context.Context, s *settling) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		l, err := c.need(ctx, 0)
		if err == nil && !c.still(l) {
			err = errors.New("the catalog is slower than its answers may be old")
		}
		if err == nil {
			var settled bool
			if settled, err = c.tell(ctx, l, s); settled {
				return nil
			}
		}
		if err == nil {
			continue // the record has changed: look again
		}
		if waitErr := c.opts.sleep(ctx, pause); waitErr != nil {
			return err
		}
	}
}

// tell does what a lease says is to be done: false when there is another record to go by.
func (c *Cache) tell(ctx context.Context, l *lease, s *settling) (settled bool, err error) {
	if c.opts.noDelete || len(s.targets) == 0 {
		return true, nil
	}
	if len(l.members) == 0 {
		return true, c.waitSince(ctx, l.since)
	}
	keys, bump := l.keys(s.targets)
	quietSince := l.quiet(s.targets)
	for i := range keys {
		if s.done[l.members[i].epoch] {
			keys[i] = nil
		}
	}
	errs := eachMember(keys, func(i int) error { return c.discard(ctx, &l.members[i], keys[i], s.marks) })
	again := false
	for i, err := range errs {
		switch {
		case err != nil:
			bump[i] = true
			c.tellTimeout(l.members[i].server, err)
		case keys[i] != nil:
			s.done[l.members[i].epoch] = true
			c.stats.deletes.Add(1)
		}
		again = again || bump[i]
	}
	if !again {
		return true, c.waitSince(ctx, quietSince)
	}
	if swapped, err := c.bump(ctx, l, bump); err != nil || !swapped {
		return false, err
	}
	return true, c.waitSince(ctx, c.opts.now())
}

// keys returns what is to be deleted at each member, and which members are to be taken out of use; nothing of those that are out.
func (l *lease) keys(targets []target) (keys [][]string, bump []bool) {
	keys, bump = make([][]string, len(l.members)), make([]bool, len(l.members))
	add := func(i int, key string) {
		if l.members[i].state != out && !slices.Contains(keys[i], key) {
			keys[i] = append(keys[i], key)
		}
	}
	for _, t := range targets {
		switch t.kind {
		case kindObject:
			i := l.ring.Place(placeOf(t.bucket, t.name))
			add(i, objectKey(l.members[i].epoch, t.bucket, t.name))
		case kindBucket:
			for i := range l.members { // each has it, beside the objects
				add(i, bucketKey(l.members[i].epoch, t.name))
			}
		default:
			for i := range l.members {
				bump[i] = l.members[i].state != out
			}
		}
	}
	return keys, bump
}

// quiet returns when the last of those members that may have the targets and are out was first seen so.
func (l *lease) quiet(targets []target) (since time.Time) {
	for i := range l.members {
		m := &l.members[i]
		concerned := slices.ContainsFunc(targets, func(t target) bool {
			return t.kind != kindObject || l.ring.Place(placeOf(t.bucket, t.name)) == i
		})
		if concerned && m.state == out && m.since.After(since) {
			since = m.since
		}
	}
	return since
}

// discard deletes keys at a member.
func (c *Cache) discard(ctx context.Context, m *seen, keys []string, marks map[string]memcache.Mark) error {
	s, err := c.serverOf(m.server)
	if err != nil {
		return err
	}
	list := make([]memcache.Mark, len(keys))
	for i, k := range keys {
		list[i] = marks[k]
		list[i].Key = k
	}
	return s.client.Unmark(ctx, fillWait, list...)
}

// waitSince returns when nobody believes any more what was true before t.
func (c *Cache) waitSince(ctx context.Context, t time.Time) error {
	if t.IsZero() || c.opts.noWait {
		return nil
	}
	d := t.Add(c.grown()).Sub(c.opts.now())
	if d <= 0 {
		return nil
	}
	c.stats.waits.Add(1)
	return c.opts.sleep(ctx, d)
}
