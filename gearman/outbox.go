package gearman

import (
	"net"
	"sync"
	"time"
)

const (
	outboxLimit  = 1 << 20 // bytes that wait before those who send wait too
	outboxKeep   = 64 << 10
	writeTimeout = 30 * time.Second // in which the peer must take outboxLimit bytes
)

// outbox gathers what many goroutines send on one connection: who finds nobody writing writes, what the others add
// meanwhile goes with the next write.
type outbox struct {
	nc net.Conn

	mu      sync.Mutex // guards what follows
	room    sync.Cond
	pending []byte
	spare   []byte
	writing bool
	err     error
}

func newOutbox(nc net.Conn) *outbox {
	o := &outbox{nc: nc}
	o.room.L = &o.mu
	return o
}

// send appends a packet and sees that it is written, by this goroutine or by another. build runs under the lock, so that what
// it notes down is in the order of the packets. An error says that build has not run: the connection is closed. What happens
// after build only the connection's reader knows: the peer may have answered before it went away.
func (o *outbox) send(build func(buf []byte) []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && o.writing && len(o.pending) > outboxLimit {
		o.room.Wait()
	}
	if o.err != nil {
		return o.err
	}
	o.pending = build(o.pending)
	if o.writing {
		return nil
	}
	o.writing = true
	for len(o.pending) > 0 && o.err == nil {
		buf := o.pending
		o.pending, o.spare = o.spare[:0], nil
		o.mu.Unlock()
		err := o.write(buf)
		o.mu.Lock()
		if cap(buf) <= outboxKeep {
			o.spare = buf[:0]
		}
		o.fail(err)
		o.room.Broadcast()
	}
	o.writing = false
	return nil
}

// write gives each piece the time of writeTimeout, however long the whole is.
func (o *outbox) write(buf []byte) error {
	for len(buf) > 0 {
		if err := o.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		n, err := o.nc.Write(buf[:min(len(buf), outboxLimit)])
		if err != nil {
			return err
		}
		buf = buf[n:]
	}
	return nil
}

// fail notes the first error. The lock is held.
func (o *outbox) fail(err error) {
	if err != nil && o.err == nil {
		o.err = err
		_ = o.nc.Close() // its reader ends, and tells everybody
	}
}

// close ends the connection. Who sends from now on is told why it ended, which is returned, too: err, unless there was an
// error before.
func (o *outbox) close(err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail(err)
	o.room.Broadcast()
	return o.err
}
