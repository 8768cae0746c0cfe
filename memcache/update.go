package memcache

import (
	"context"
	"errors"
	"fmt"
)

// maxUpdates is how often Update tries: who has lost so often against others does better with another design.
const maxUpdates = 100

// Update changes an item by a compare-and-swap loop. change gets the item as it is, nil where there is none, and returns what shall be
// there: only Value, Flags and Expiration count. It is called again when another client was faster. An error of change ends the loop and
// is returned; so is [ErrCASConflict] after a hundred tries.
func (c *Client) Update(ctx context.Context, key string, change func(old *Item) (*Item, error)) error {
	var err error
	for range maxUpdates {
		var old, now *Item
		if old, err = c.Get(ctx, key); err != nil && !errors.Is(err, ErrCacheMiss) {
			return err
		}
		var cas uint64
		if old != nil {
			cas = old.CAS
		}
		if now, err = change(old); err != nil {
			return err
		}
		if now == nil {
			return fmt.Errorf("memcache: update %s: the change is nil", key)
		}
		next := *now
		next.Key, next.CAS = key, cas
		if old == nil {
			err = c.Add(ctx, &next)
		} else {
			err = c.CompareAndSwap(ctx, &next)
		}
		if !errors.Is(err, ErrNotStored) && !errors.Is(err, ErrCASConflict) && !errors.Is(err, ErrCacheMiss) {
			return err
		}
	}
	return fmt.Errorf("update %s: %w", key, ErrCASConflict)
}
