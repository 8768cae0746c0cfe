package gearmand

import "sync"

// buffer is memory that connections have only while they need it.
type buffer struct {
	b    []byte
	lent bool    // b is somebody else's: it is not appended to, and not used again
	next *buffer // in an outbox
}

// outbox is what is to be sent to a connection.
type outbox struct {
	head, tail *buffer
	n          int // bytes
}

// last is a buffer that can be appended to.
func (o *outbox) last() *buffer {
	if o.tail == nil || o.tail.lent {
		o.push(getBuffer())
	}
	return o.tail
}

func (o *outbox) push(b *buffer) {
	if o.tail == nil {
		o.head = b
	} else {
		o.tail.next = b
	}
	o.tail = b
	o.n += len(b.b)
}

// pop takes the first buffer; nil when there is none.
func (o *outbox) pop() *buffer {
	b := o.head
	if b == nil {
		return nil
	}
	if o.head, b.next = b.next, nil; o.head == nil {
		o.tail = nil
	}
	o.n -= len(b.b)
	return b
}

const (
	bufferSize = 32 << 10
	keepSize   = 64 << 10 // larger ones are left to the garbage collector
	// lendSize is from where on bytes are not copied under the lock: the buffer that a large packet was read into becomes its
	// job's, and a large workload or result is sent from where it lies.
	lendSize = 256 << 10
)

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, bufferSize)} }}

func getBuffer() *buffer { return buffers.Get().(*buffer) }

func putBuffer(b *buffer) {
	if !b.lent && cap(b.b) >= bufferSize && cap(b.b) <= keepSize {
		b.b = b.b[:0]
		buffers.Put(b)
	}
}
