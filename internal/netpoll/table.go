package netpoll

import (
	"iter"
	"sync"
	"sync/atomic"
)

// Table has what belongs to open descriptors. Looking up takes no lock. The zero value is empty.
type Table[T any] struct {
	slots atomic.Pointer[[]atomic.Pointer[T]]
	mu    sync.Mutex // guards stores to slots, and their growth
}

// Put notes what a descriptor is.
func (t *Table[T]) Put(fd int, v *T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var slots []atomic.Pointer[T]
	if p := t.slots.Load(); p != nil {
		slots = *p
	}
	if fd >= len(slots) {
		larger := make([]atomic.Pointer[T], max(2*len(slots), fd+64))
		for i := range slots {
			larger[i].Store(slots[i].Load())
		}
		slots = larger
		t.slots.Store(&slots)
	}
	slots[fd].Store(v)
}

// Drop forgets a descriptor, before that is closed.
func (t *Table[T]) Drop(fd int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	(*t.slots.Load())[fd].Store(nil)
}

// Get is what a descriptor is; nil: it is closed.
func (t *Table[T]) Get(fd int) *T {
	slots := t.slots.Load()
	if slots == nil || fd >= len(*slots) {
		return nil
	}
	return (*slots)[fd].Load()
}

// All are all that there were at the call, and some of those that have come since.
func (t *Table[T]) All() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		slots := t.slots.Load()
		if slots == nil {
			return
		}
		for i := range *slots {
			if v := (*slots)[i].Load(); v != nil && !yield(v) {
				return
			}
		}
	}
}
