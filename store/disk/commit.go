package disk

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"wheelhouse/store"
)

// maxBatch bounds what is written between two syncs, in bytes: it bounds how long a writer waits.
const maxBatch = 16 << 20

// maxFailures is how many batches may fail in a row before the storage is taken for broken.
const maxFailures = 3

// putReq is one entity on its way into a pack.
type putReq struct {
	m    member
	data []byte
	hdr  header
	done func(error)
}

var putReqs = sync.Pool{New: func() any { return &putReq{hdr: header{b: make([]byte, 0, 2<<10)}} }}

// newPutReq does all the work that does not depend on where the entity will lie, in the caller's goroutine.
func (d *Disk) newPutReq(info store.EntityInfo, data []byte, done func(error)) *putReq {
	r := putReqs.Get().(*putReq)
	info.Size = int64(len(data))
	info.Stored = d.storedNow()
	r.m = member{info: info, crc: crc32.Checksum(data, castagnoli)}
	r.data, r.done = data, done
	appendHeader(&r.hdr, &r.m)
	r.m.hdrLen = int64(len(r.hdr.b))
	return r
}

func (r *putReq) finish(err error) {
	done := r.done
	*r = putReq{hdr: header{b: r.hdr.b[:0]}}
	putReqs.Put(r)
	done(err)
}

// committer gathers all waiting writers of a storage and makes their entities durable together: one pwritev and one
// fdatasync per batch. Its goroutine exists only while there is something to write.
type committer struct {
	d *Disk

	mu      sync.Mutex
	idle    sync.Cond // signalled when running becomes false
	queue   []*putReq
	spare   []*putReq
	running bool
	closed  bool

	// The rest belongs to the running goroutine.
	w        *packWriter // nil: the next batch begins a pack
	iov      [][]byte
	failures int
	// rollSoon asks for a new pack, whose number is higher than those set aside for adopted ones.
	rollSoon atomic.Bool
	step     int64 // how far ahead the next pack's zeros go
}

func (c *committer) submit(r *putReq) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		r.finish(errClosed)
		return
	}
	c.queue = append(c.queue, r)
	start := !c.running
	c.running = true
	c.mu.Unlock()
	if start {
		go c.run()
	}
}

func (c *committer) run() {
	for {
		c.mu.Lock()
		if len(c.queue) == 0 {
			c.running = false
			c.idle.Broadcast()
			c.mu.Unlock()
			return
		}
		batch := c.queue
		c.queue = c.spare[:0]
		c.mu.Unlock()
		c.commit(batch)
		clear(batch)
		c.spare = batch
	}
}

// close refuses further work, and waits for what is under way.
func (c *committer) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for c.running {
		c.idle.Wait()
	}
}

// commit writes and answers all of batch.
func (c *committer) commit(batch []*putReq) {
	for len(batch) > 0 {
		if c.rollSoon.Swap(false) && c.w != nil {
			c.roll()
		}
		if c.w == nil {
			w, err := c.d.newPack(c.step)
			if err != nil {
				c.failed(err)
				finishAll(batch, spaceError(err))
				return
			}
			c.w = w
		}
		n := c.w.room(batch)
		if n == 0 {
			c.roll()
			continue
		}
		err := c.write(batch[:n])
		if err != nil {
			c.failed(err)
			c.abandon(err)
		} else {
			c.failures = 0
			c.publish(batch[:n])
		}
		finishAll(batch[:n], spaceError(err))
		batch = batch[n:]
	}
}

func finishAll(batch []*putReq, err error) {
	for _, r := range batch {
		r.finish(err)
	}
}

// room is how many of batch still fit into the pack, by bytes and by number. An empty pack takes at least one.
func (w *packWriter) room(batch []*putReq) int {
	end := w.end
	for i, r := range batch {
		end += r.m.length()
		if i == w.left || end > w.limit-trailer && (i > 0 || w.end > packHeaderLen) || i > 0 && end-w.end > maxBatch {
			return i
		}
	}
	return len(batch)
}

// write puts batch behind the pack's last member and syncs it. After an error the pack must be abandoned: what the
// kernel could not write it may have forgotten, and a later sync that succeeds says nothing about it.
func (c *committer) write(batch []*putReq) error {
	w, iov := c.w, c.iov[:0]
	start := w.end
	end := start
	for _, r := range batch {
		r.m.at, r.m.batch, r.m.pack = end, start, w.uid
		r.hdr.place(w.uid, end, start)
		iov = append(iov, r.hdr.b)
		if len(r.data) > 0 {
			iov = append(iov, r.data)
		}
		if pad := padded(r.m.info.Size) - r.m.info.Size; pad > 0 {
			iov = append(iov, zeroBlock[:pad])
		}
		end += r.m.length()
	}
	err := w.write(iov, start, end)
	clear(iov)
	c.iov = iov
	return err
}

// publish makes a durable batch visible.
func (c *committer) publish(batch []*putReq) {
	p := c.w.p
	p.mu.Lock()
	for _, r := range batch {
		p.addLocked(entryOf(&r.m))
	}
	p.end = c.w.end
	p.mu.Unlock()
	c.w.left -= len(batch)
	for _, r := range batch {
		c.d.supersede(r.m.info.ID, r.m.info.Stored, p)
	}
}

// roll ends the pack, for it is full.
func (c *committer) roll() {
	c.step = c.w.step.Load()
	c.d.sealLater(c.w)
	c.w = nil
}

// abandon ends the pack at its last durable member, for it can no longer be trusted.
func (c *committer) abandon(cause error) {
	c.d.log.Error("pack abandoned after a failed write", "pack", c.w.p.base, "end", c.w.end, "err", cause)
	c.d.sealLater(c.w)
	c.w = nil
}

// failed counts a failure that is not want of space.
func (c *committer) failed(err error) {
	if isNoSpace(err) {
		c.d.full.Store(true)
		return
	}
	if c.failures++; c.failures >= maxFailures {
		c.d.fail(err)
	}
}

func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, store.ErrFull)
}

// spaceError makes an error that says that the disk is full known as store.ErrFull.
func spaceError(err error) error {
	if err != nil && isNoSpace(err) && !errors.Is(err, store.ErrFull) {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}

var errClosed = fmt.Errorf("disk: %w", os.ErrClosed)
