package metacache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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

// changed ends a change of the catalog: it returns err, or why what was changed must not be acknowledged yet. Errors make no difference: after some the
// change may have been made, and others (there is no such object) tell the caller what somebody changed who could not tell the caches.
func (c *Cache) changed(ctx context.Context, err error, targets ...target) error {
	if settleErr := c.settle(ctx, targets); settleErr != nil {
		return errors.Join(err, fmt.Errorf("metacache: the change may be made, but caches may not know of it: %w", settleErr))
	}
	return err
}

// changedRarely is changed for what makes all void, and is left alone when it was refused.
func (c *Cache) changedRarely(ctx context.Context, err error) error {
	if refused(err) {
		return err
	}
	return c.changed(ctx, err, anything...)
}

// settle returns when no reader can be given from a cache what was true before now.
func (c *Cache) settle(ctx context.Context, targets []target) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	done := map[uint64]bool{} // epochs in which all is deleted
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		l, err := c.need(ctx, 0)
		if err == nil && !c.still(l) {
			err = errors.New("the catalog is slower than its answers may be old")
		}
		if err == nil {
			var settled bool
			if settled, err = c.tell(ctx, l, targets, done); settled {
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

// tell does what a lease says is to be done, as the writer of targets: false when there is another record to go by.
func (c *Cache) tell(ctx context.Context, l *lease, targets []target, done map[uint64]bool) (settled bool, err error) {
	if c.opts.noDelete {
		return true, nil
	}
	if len(l.members) == 0 {
		return true, c.waitSince(ctx, l.since)
	}
	keys := make([][]string, len(l.members))
	bump := make([]bool, len(l.members))
	for _, t := range targets {
		l.concerned(t, keys, bump)
	}
	quietSince := time.Time{} // when the last of those that are out was first seen so
	for i := range l.members {
		m := &l.members[i]
		if m.state == out && (keys[i] != nil || bump[i]) {
			keys[i], bump[i] = nil, false
			if m.since.After(quietSince) {
				quietSince = m.since
			}
		}
		if done[m.epoch] {
			keys[i] = nil
		}
	}
	if c.discard(ctx, l, keys, bump, done) {
		return true, c.waitSince(ctx, quietSince)
	}
	r := l.record()
	for i := range r {
		if bump[i] {
			r[i].epoch, r[i].state = newEpoch(), out
		}
	}
	if swapped, err := c.swap(ctx, l, r); err != nil || !swapped {
		return false, err
	}
	return true, c.waitSince(ctx, c.opts.now())
}

// concerned adds the keys of a target to those of the members that may have them.
func (l *lease) concerned(t target, keys [][]string, bump []bool) {
	switch t.kind {
	case kindObject:
		i := l.ring.Place(placeOf(t.bucket, t.name))
		keys[i] = append(keys[i], objectKey(l.members[i].epoch, t.bucket, t.name))
	case kindBucket:
		for i := range keys { // each has it, beside the objects
			keys[i] = append(keys[i], bucketKey(l.members[i].epoch, t.name))
		}
	default:
		for i := range bump {
			bump[i] = true
		}
	}
}

// discard deletes keys at members, and says in bump who has not done it. It reports whether nobody is to be bumped.
func (c *Cache) discard(ctx context.Context, l *lease, keys [][]string, bump []bool, done map[uint64]bool) bool {
	errs := make([]error, len(keys))
	one := func(i int) {
		s, err := c.serverOf(l.members[i].server)
		if err == nil {
			err = s.client.Discard(ctx, keys[i]...)
		}
		errs[i] = err
	}
	last := -1
	var wait sync.WaitGroup
	for i := range keys {
		if keys[i] == nil || bump[i] {
			continue
		}
		if last >= 0 {
			at := last
			wait.Go(func() { one(at) })
		}
		last = i
	}
	if last >= 0 {
		one(last) // mostly the only one
	}
	wait.Wait()
	settled := true
	for i := range keys {
		switch {
		case bump[i]:
			settled = false
		case keys[i] == nil:
		case errs[i] != nil:
			settled, bump[i] = false, true
			c.stats.timeouts.Add(1)
			c.opts.Log.Warn("a cache server does not take deletes, and is put out of use", "addr", l.members[i].server.String(), "err", errs[i])
		default:
			done[l.members[i].epoch] = true
			c.stats.deletes.Add(1)
		}
	}
	return settled
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
