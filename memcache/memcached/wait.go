package memcached

import (
	"bytes"
	"errors"
	"io"
	"syscall"

	"wheelhouse/internal/rawio"
)

// errPartial means that a request is not complete, and is to be handled again when more of it has come. Nothing has been answered or changed.
var errPartial = errors.New("memcached: request is not complete")

// arrived reports whether n bytes from the place of reading on can be handled. If not, it notes how many are missing.
func (c *conn) arrived(n int) bool {
	c.lack = n - (c.w.n - c.w.r)
	return c.lack <= 0
}

// postpone goes back to where a request begins, of which c.lack bytes are missing, and makes room for them.
func (c *conn) postpone(start int) error {
	if c.datagram { // no more will come
		return errClosed
	}
	c.w.r, c.again = start, true
	c.makeRoom(c.lack)
	return nil
}

// crowded reports whether there are so many connections that one that waits may keep nothing that it does not need.
func (s *Server) crowded() bool { return s.open.Load() > crowd }

// tryRead reads to c.into, or else into the work's buffer, which it takes from the pool. It reports false where there is nothing to be read.
func (c *conn) tryRead() bool {
	fresh := c.w == nil
	if fresh {
		c.takeWork()
	}
	w := c.w
	for {
		dst := c.into
		if dst == nil {
			dst = w.in[w.n:][:c.room()]
		}
		n, err := rawio.Read(uintptr(c.fd), dst)
		if c.into == nil {
			c.short = n < min(len(dst), rawio.Most)
		}
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			c.beforeWait(fresh)
			return false
		}
		c.n, c.err = n, err
		return true
	}
}

// takeWork takes a work from the pool, and what has been read before into it.
func (c *conn) takeWork() {
	c.w = c.s.works.Get().(*work)
	if c.rest != nil {
		c.makeRoom(len(c.rest) + 1)
		c.w.n = copy(c.w.in, c.rest)
		c.rest = nil
	}
}

// beforeWait gives back what is not needed while there is nothing to read. fresh: the work has just been taken.
func (c *conn) beforeWait(fresh bool) {
	w := c.w
	switch {
	case fresh && w.n == 0:
		c.w = nil
		c.s.works.Put(w)
	case !c.s.crowded():
	case c.into != nil: // somebody has the work in his hands; its buffers are empty
		w.in, w.out = nil, nil
	default:
		c.dropWork()
		c.long = true
		c.s.pending.take(c, len(c.rest))
	}
}

// dropWork gives the work back, and keeps what it has of a request.
func (c *conn) dropWork() {
	w := c.w
	if w.r < w.n {
		c.rest = bytes.Clone(w.in[w.r:w.n])
	}
	c.w = nil
	c.s.giveBack(w)
}

// fill reads more, for a connection that is not in the poller. Answers that wait go out first: the client may wait for them.
func (c *conn) fill() error {
	if w := c.w; w != nil {
		if len(w.out) > 0 {
			if err := c.flush(); err != nil {
				return err
			}
		}
		c.makeRoom(1)
	}
	n, err := c.read()
	if n > 0 {
		c.w.n += n
		c.stripe.n[bytesRead].Add(uint64(n))
		return nil
	}
	if err == nil {
		err = io.EOF
	}
	return err
}

func (c *conn) read() (int, error) {
	if c.w == nil { // it is not known when there is something: wait with as little as possible
		var first [256]byte
		n, err := c.nc.Read(first[:])
		if n > 0 {
			c.takeWork()
			copy(c.w.in, first[:n])
			return n, nil
		}
		return 0, err
	}
	dst := c.w.in[c.w.n:][:c.room()]
	n, err := c.nc.Read(dst)
	if (n > tlsSmall || n == len(dst)) && c.takes == tlsTakes {
		c.takesLarge()
	}
	return n, err
}

// room is how much of the read buffer the next read may fill: little, if there is much already that is not answered.
func (c *conn) room() int {
	n := len(c.w.in) - c.w.n
	if n > leastPiece && c.s.pressed() {
		return min(n, max(c.s.piece(), c.lack))
	}
	return n
}

// makeRoom sees to n free bytes behind what has been read.
func (c *conn) makeRoom(n int) {
	w := c.w
	if len(w.in)-w.n >= n && w.n < len(w.in) {
		return
	}
	if w.r > 0 {
		w.n = copy(w.in, w.in[w.r:w.n])
		w.r = 0
	}
	if len(w.in)-w.n < n {
		size := max(2*len(w.in), w.n+n, crowdBuffer)
		if size > readBuffer && !c.datagram { // one of those ends with its handling
			c.long = true
			c.s.pending.take(c, size)
		}
		w.in = append(make([]byte, 0, size), w.in[:w.n]...)
		w.in = w.in[:cap(w.in)]
	}
}

// readFull reads to the parts what is in the buffer and then what comes.
func (c *conn) readFull(parts ...[]byte) error {
	w := c.w
	defer func() {
		if c.into = nil; w.in == nil {
			w.in, w.out = make([]byte, crowdBuffer), make([]byte, 0, crowdBuffer)
		}
	}()
	for _, p := range parts {
		k := copy(p, w.in[w.r:w.n])
		w.r += k
		if k == len(p) {
			continue
		}
		w.r, w.n = 0, 0
		if err := c.flush(); err != nil {
			return err
		}
		for p = p[k:]; len(p) > 0; {
			n, err := c.readInto(p)
			if n == 0 && err != nil {
				return err
			}
			c.stripe.n[bytesRead].Add(uint64(n))
			p = p[n:]
			c.last.Store(c.s.clock.real.Load()) // who sends a large value is not silent
		}
	}
	return nil
}

func (c *conn) readInto(p []byte) (int, error) {
	if c.fd < 0 {
		return c.nc.Read(p)
	}
	for c.into = p; !c.tryRead(); {
		if c.wait(); c.closed.Load() {
			return 0, errClosed
		}
	}
	if c.n <= 0 && c.err == nil {
		c.err = io.EOF
	}
	return max(c.n, 0), c.err
}

// skip drops n bytes of input, those that have come and those that will.
func (c *conn) skip(n int) {
	w := c.w
	k := min(n, w.n-w.r)
	w.r += k
	if c.skipping = n - k; c.skipping == 0 {
		w.out = append(w.out, c.owed...)
		c.owed, c.late = nil, false
	}
}
