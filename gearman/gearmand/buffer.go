package gearmand

import "sync"

// buffer is memory that connections have only while they need it.
type buffer struct{ b []byte }

const (
	bufferSize = 32 << 10
	keepSize   = 64 << 10 // larger ones are left to the garbage collector
)

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, 0, bufferSize)} }}

func getBuffer() *buffer { return buffers.Get().(*buffer) }

func putBuffer(b *buffer) {
	if cap(b.b) >= bufferSize && cap(b.b) <= keepSize {
		b.b = b.b[:0]
		buffers.Put(b)
	}
}
