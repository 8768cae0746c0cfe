package memcached

import (
	"bytes"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/rawio"
	"wheelhouse/memcache/segcache"
)

// A connection in the poller answers no more requests in a turn in which it has sent flushAt bytes, and sends no more of a large value when it has
// sent pushMost.
const pushMost = 512 << 10

// unsent are answers that the client of a connection in the poller has not taken yet. While he does not, the connection is nobody's, and needs
// no goroutine and no work: what it has read and not answered is in conn.rest.
type unsent struct {
	head  []byte
	value []byte // behind head
	tail  []byte // behind value
	held  segcache.Held
	holds bool // value is in the cache's memory, and held
}

// size is what it takes of memory, in bytes.
func (u *unsent) size() int {
	n := unsentSize + cap(u.head) + cap(u.tail)
	if !u.holds {
		n += cap(u.value)
	}
	return n
}

// next is what is to be sent next, and what then.
func (u *unsent) next() (p, q []byte) {
	switch {
	case len(u.head) > 0 && len(u.value) > 0:
		return u.head, u.value
	case len(u.head) > 0:
		return u.head, u.tail
	case len(u.value) > 0:
		return u.value, u.tail
	}
	return u.tail, nil
}

// took notes that n bytes have been sent.
func (u *unsent) took(n int) {
	for _, p := range []*[]byte{&u.head, &u.value, &u.tail} {
		k := min(n, len(*p))
		*p = (*p)[k:]
		n -= k
	}
	if len(u.value) == 0 {
		u.release()
	}
}

// release lets go of the value.
func (u *unsent) release() {
	if u.holds {
		u.holds = false
		u.held.Release()
	}
}

// copied has the value copied, so that what it is a part of can be forgotten.
func (u *unsent) copied() {
	if u.holds {
		u.value = bytes.Clone(u.value)
		u.release()
	}
}

// add puts answers behind the others.
func (u *unsent) add(out []byte) { u.tail = slices.Concat(u.tail, out) }

// begin sends out and then value as far as the client takes them at once. What is left of them is unsent then.
func (c *conn) begin(out, value []byte) error {
	n, err := c.give(out, value)
	if err != nil && err != syscall.EAGAIN {
		return err
	}
	if n == len(out)+len(value) {
		return nil
	}
	k := min(n, len(out))
	c.unsent = &unsent{head: bytes.Clone(out[k:]), value: value[n-k:]}
	return c.stuck(err)
}

// push sends the answers as far as the client takes them. left: there is more to be sent, when others have had their turn, or, if the connection is
// stuck, when he takes more.
func (c *conn) push() (left bool, err error) {
	if c.unsent == nil {
		w := c.w
		if w == nil || len(w.out) == 0 {
			return false, nil
		}
		if err := c.begin(w.out, nil); err != nil {
			return false, err
		}
		w.sent()
		return c.unsent != nil, nil
	}
	u := c.unsent
	if w := c.w; w != nil && len(w.out) > 0 {
		u.add(w.out)
		w.out = w.out[:0]
	}
	for {
		p, q := u.next()
		if len(p) == 0 {
			c.unblocked()
			return false, nil
		}
		if c.sent >= pushMost {
			return true, nil
		}
		n, err := c.give(p, q)
		if n > 0 {
			u.took(n)
		}
		if err != nil {
			return true, c.stuck(err)
		}
		c.writing.Store(0)
	}
}

// pushOn is push as a part of a step: goesOn where all is sent, and the connection is not to end by that.
func (c *conn) pushOn() outcome {
	left, err := c.push()
	switch {
	case err != nil:
		return ended
	case left:
		return c.yet()
	case c.quit:
		return ended
	}
	return goesOn
}

// give sends some of a and then b, and counts it.
func (c *conn) give(a, b []byte) (n int, err error) {
	for {
		switch {
		case len(a)+len(b) > rawio.Most: // in calls of that size, a large value takes a third longer
			first := min(len(a), pushMost)
			n, err = unix.Writev(c.fd, [][]byte{a[:first], b[:min(len(b), pushMost-first)]})
			n = max(n, 0)
		case len(b) > 0:
			n, err = rawio.Gather(uintptr(c.fd), a, b)
		default:
			n, err = rawio.Write(uintptr(c.fd), a)
		}
		if err != syscall.EINTR {
			break
		}
	}
	if n > 0 {
		c.sent += n
		c.stripe.n[bytesWritten].Add(uint64(n))
	}
	return n, err
}

// stuck notes that the client does not take anything now, unless err is another error.
func (c *conn) stuck(err error) error {
	if err != syscall.EAGAIN {
		return err
	}
	if c.writing.Load() == 0 {
		c.writing.Store(c.s.clock.real.Load())
	}
	return nil
}

// isStuck reports whether the client is to be waited for.
func (c *conn) isStuck() bool { return c.unsent != nil && c.writing.Load() != 0 }

// yet ends a step after which there is something left to be sent.
func (c *conn) yet() outcome {
	if !c.isStuck() {
		return hasMore
	}
	if u := c.unsent; u.holds && len(u.value) <= copyMost && (!c.s.pressed() || c.s.cache.HeldBytes() > c.s.cache.Limit()/heldPart) {
		u.copied()
	}
	c.stow()
	c.drain = true // meanwhile it is not read from
	c.account(c.keeps())
	c.s.blocked.take(c, c.kept)
	return rests
}

// unblocked notes that the client has taken what there was.
func (c *conn) unblocked() {
	c.writing.Store(0)
	c.unsent = nil
	c.s.blocked.release(c)
}

// stow keeps of a connection no more than it must: neither a work nor, if the client takes nothing, a goroutine.
func (c *conn) stow() {
	w := c.w
	if w == nil {
		return
	}
	if u := c.unsent; len(w.out) > 0 {
		if u == nil {
			return
		}
		u.add(w.out)
	}
	c.dropWork()
	if c.long {
		c.long = c.rest != nil
		if c.long {
			c.s.pending.take(c, len(c.rest))
		} else {
			c.s.pending.release(c)
		}
	}
}

// flushDue sends answers if it is time. stop: there are more than the client takes now, or than one may send while others wait; who is in
// the poller goes on later.
func (c *conn) flushDue() (stop bool, err error) {
	switch {
	case c.unsent == nil && !c.full():
		return false, nil
	case c.fd < 0:
		c.shrink()
		return false, c.flush()
	}
	left, err := c.push()
	return left || c.sent >= flushAt, err
}

// suspend stops within a multiget: what has not been answered yet is made a request of its own. name is what it begins with, as short as the
// request has it at most, and keys its remaining keys, which are in the read buffer.
func (c *conn) suspend(name string, keys []byte) error {
	w := c.w
	from := cap(w.in) - cap(keys) - len(name)
	copy(w.in[from:], name)
	w.r, c.scanned, c.again = from, len(name)+len(keys), true
	return errTurn
}
