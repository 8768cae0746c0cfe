package jobs

import "sync"

// Notifier wakes those who wait for jobs: what a [Queue] needs for its Notify. The zero value is ready.
type Notifier struct {
	mu   sync.Mutex // guards subs
	subs map[chan struct{}]struct{}
}

// Notify is Queue.Notify.
func (n *Notifier) Notify() (ready <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.subs == nil {
		n.subs = make(map[chan struct{}]struct{})
	}
	n.subs[ch] = struct{}{}
	return ch, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.subs, ch)
	}
}

// Wake wakes all. It never blocks.
func (n *Notifier) Wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ch := range n.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
