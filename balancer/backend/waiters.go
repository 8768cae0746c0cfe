package backend

import (
	"context"
	"iter"
	"slices"
	"time"
)

// waiter is a request that waits for a connection.
type waiter struct {
	since      time.Time
	node       *Node // that it must go to, nil: any
	key        string
	exclude    []*Node
	connecting bool // a connect for it is under way
	priority   priority
	standby    bool       // has something to fall back on: does not wait while no node can be used
	ready      chan *Conn // gets the connection, or nil when there will be none
	end        ending     // why there will be none; set before ready gets nil

	preface []byte             // of the connection of its own that it wants, nil: any will do
	cancel  context.CancelFunc // ends the attempt to make that, nil before the first

	prev, next *waiter
	queued     bool
}

// ending is why a request waits in vain.
type ending uint8

const (
	endClosed   ending = iota // the service is gone
	endShed                   // the pool's circuit has opened
	endUnusable               // no node can be used now, and it need not wait for one
)

// list is a queue: first in, first out.
type list struct {
	first, last *waiter
	n           int
}

func (l *list) push(w *waiter) {
	w.queued = true
	if w.prev = l.last; w.prev != nil {
		w.prev.next = w
	} else {
		l.first = w
	}
	l.last = w
	l.n++
}

// remove takes w off the list; false when it is not on it any more.
func (l *list) remove(w *waiter) bool {
	if !w.queued {
		return false
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.last = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	l.n--
	return true
}

func (l *list) pop() *waiter {
	w := l.first
	if w != nil {
		l.remove(w)
	}
	return w
}

// take is the first that can use a connection to n. Those whose request n has failed already are passed over.
func (l *list) take(n *Node) *waiter {
	for w := l.first; w != nil; w = w.next {
		if w.preface == nil && (w.node == nil || w.node == n) && !slices.Contains(w.exclude, n) {
			l.remove(w)
			return w
		}
	}
	return nil
}

// waiters are those who wait, in the order of the queues. The one that was given last may have been removed. q.mu is held.
func (q *Queue) waiters() iter.Seq[*waiter] {
	return func(yield func(*waiter) bool) {
		for i := range q.waiting {
			for w := q.waiting[i].first; w != nil; {
				next := w.next
				if !yield(w) {
					return
				}
				w = next
			}
		}
	}
}
