package recovery

import (
	"context"
	"errors"
	"fmt"

	"wheelhouse/store"
	"wheelhouse/store/idguard"
)

// Storage is a storage that can be asked.
type Storage struct {
	ID     store.StorageID
	Device store.Device
}

// deletions is what a device may know besides: whether an entity was there and was deleted.
type deletions interface {
	WasDeleted(id store.ObjectID) bool
}

const page = 4096

// Largest is the greatest id of which a storage holds an entity; 0 when there is none.
func Largest(ctx context.Context, s Storage) (store.ObjectID, error) {
	id, _, err := idguard.LastBelow(ctx, s.Device, idguard.Beyond)
	if err != nil {
		return 0, fmt.Errorf("storage %d: %w", s.ID, err)
	}
	return id, nil
}

// held is an id, and which storages hold an entity of it: indexes into the list of storages that was given.
type held struct {
	id store.ObjectID
	by []int
}

// cursor walks through what one storage holds.
type cursor struct {
	s    Storage
	next store.ObjectID // ids that were not fetched yet: from here on, or below here when it goes backwards
	end  store.ObjectID
	buf  []store.ManifestEntry
	err  error
	done bool
}

// head is the id that the cursor is at; false at the end, or after an error.
func (c *cursor) head(ctx context.Context, backwards bool) (store.ObjectID, bool) {
	for len(c.buf) == 0 && !c.done {
		if backwards {
			c.fetchBack(ctx)
		} else {
			c.fetch(ctx)
		}
	}
	switch {
	case len(c.buf) == 0:
		return 0, false
	case backwards:
		return c.buf[len(c.buf)-1].ID, true
	}
	return c.buf[0].ID, true
}

func (c *cursor) pass(backwards bool) {
	if backwards {
		c.buf = c.buf[:len(c.buf)-1]
	} else {
		c.buf = c.buf[1:]
	}
}

func (c *cursor) fetch(ctx context.Context) {
	if c.end > idguard.ShortIDs && c.next < idguard.ShortIDs { // see idguard.ShortIDs
		c.buf, c.err = c.s.Device.Manifest(ctx, c.next, idguard.ShortIDs, page)
		if len(c.buf) == 0 && c.err == nil {
			c.next = idguard.ShortIDs
			return
		}
	} else {
		c.buf, c.err = c.s.Device.Manifest(ctx, c.next, c.end, page)
	}
	if c.done = c.err != nil || len(c.buf) == 0; !c.done {
		c.next = c.buf[len(c.buf)-1].ID + 1
	}
}

func (c *cursor) fetchBack(ctx context.Context) {
	last, found, err := idguard.LastBelow(ctx, c.s.Device, c.next)
	if c.err = err; err != nil || !found {
		c.done = true
		return
	}
	from := max(1, last+1-min(last, page))
	c.buf, c.err = c.s.Device.Manifest(ctx, from, last+1, page)
	c.next, c.done = from, c.err != nil || from == 1
}

// walk calls f for each id in [from, to) of which a storage holds an entity, in order of id, or in the reverse order, until f
// returns false. A storage that fails is left out from there on; what it failed with is in failed, by its place in the list. f may
// keep nothing of held.
func walk(ctx context.Context, list []Storage, from, to store.ObjectID, backwards bool, f func(held) (bool, error)) (failed []error, err error) {
	failed = make([]error, len(list))
	cursors := make([]cursor, len(list))
	for i, s := range list {
		cursors[i] = cursor{s: s, next: from, end: to}
		if backwards {
			cursors[i].next = to
		}
	}
	var by []int
	for n := 0; ; n++ {
		if n%page == 0 && ctx.Err() != nil {
			return failed, ctx.Err()
		}
		var at store.ObjectID
		by = by[:0]
		for i := range cursors {
			id, ok := cursors[i].head(ctx, backwards)
			failed[i] = cursors[i].err
			switch {
			case !ok || backwards && id < from:
			case len(by) == 0 || backwards && id > at || !backwards && id < at:
				at, by = id, append(by[:0], i)
			case id == at:
				by = append(by, i)
			}
		}
		if len(by) == 0 {
			return failed, nil
		}
		more, err := f(held{at, by})
		if err != nil || !more {
			return failed, err
		}
		for _, i := range by {
			cursors[i].pass(backwards)
		}
	}
}

// describe asks the storages that hold an entity what it is, one after the other. ErrNoEntity when none can say.
func describe(ctx context.Context, list []Storage, h held) (store.EntityInfo, error) {
	var errs []error
	for _, i := range h.by {
		info, err := list[i].Device.Stat(ctx, h.id)
		if err == nil && info.Bucket != "" && info.Name != "" {
			return info, nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("storage %d: %w", list[i].ID, err))
		}
	}
	if ctx.Err() != nil {
		return store.EntityInfo{}, ctx.Err()
	}
	return store.EntityInfo{}, fmt.Errorf("%w: object %d: %w", store.ErrNoEntity, h.id, errors.Join(errs...))
}
