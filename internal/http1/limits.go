package http1

import (
	"cmp"
	"math"
	"time"
)

// Limits bound what a peer can make this process hold, and for how long. In each field zero means the default and a
// negative number means no limit.
type Limits struct {
	// Line is the most bytes in a request line, CRLF included. Default 8 KiB. Exceeded: 414.
	Line int
	// Head is the most bytes in a head, request line included, and in a trailer section. Default 64 KiB. Exceeded: 431.
	Head int
	// Fields is the most field lines in a head, and in a trailer section. Default 100. Exceeded: 431.
	Fields int
	// Body is the most bytes in a request's body. Default 5 GiB, the largest single PUT of S3. Exceeded: 413.
	Body int64
	// ChunkLine is the most bytes in a chunk's size line, extensions included. Default 256. Exceeded: 400.
	ChunkLine int

	// FirstByteTimeout is how long a fresh connection may be silent (TLS handshake included). Default 30 s.
	FirstByteTimeout time.Duration
	// IdleTimeout is how long a connection may be silent between requests. Default 75 s.
	IdleTimeout time.Duration
	// HeadTimeout is the time from the first byte of a head to its end. Default 10 s. Exceeded: 408.
	HeadTimeout time.Duration
	// BodyTimeout is the longest silence while a body is read. Default 60 s. Exceeded: 408.
	BodyTimeout time.Duration
	// WriteTimeout is the longest time for which a write may make no progress. Default 60 s.
	WriteTimeout time.Duration

	// MaxConns is the most connections that are open at once. Default no limit. When it is reached, the connection that
	// has been idle longest is closed for a new one; when none is idle, accepting pauses.
	MaxConns int
}

const (
	defaultBody = 5 << 30

	maxMethod     = 64        // longest method, known or not: beyond it 501 (RFC 9112 §3)
	maxEmptyLines = 2         // empty lines that are skipped before a request line (RFC 9112 §2.2)
	drainBytes    = 256 << 10 // the most that is read of a body that the handler left unread, to keep the connection
	lingerBytes   = 32 << 20  // the most that is read and dropped after the last answer (RFC 9112 §9.6)
	lingerTime    = 5 * time.Second
	readBuffer    = 4 << 10 // what a connection's read buffer starts with
	keepBuffer    = 16 << 10
	stashBytes    = 512 // the most of an incomplete head that is kept without a read buffer
)

func (l Limits) withDefaults() Limits {
	num := func(v *int, def int) {
		if *v = cmp.Or(*v, def); *v < 0 {
			*v = math.MaxInt
		}
	}
	num(&l.Line, 8<<10)
	num(&l.Head, 64<<10)
	num(&l.Fields, 100)
	num(&l.ChunkLine, 256)
	num(&l.MaxConns, math.MaxInt)
	if l.Body = cmp.Or(l.Body, defaultBody); l.Body < 0 {
		l.Body = math.MaxInt64
	}
	dur := func(v *time.Duration, def time.Duration) {
		if *v = cmp.Or(*v, def); *v < 0 {
			*v = math.MaxInt64
		}
	}
	dur(&l.FirstByteTimeout, 30*time.Second)
	dur(&l.IdleTimeout, 75*time.Second)
	dur(&l.HeadTimeout, 10*time.Second)
	dur(&l.BodyTimeout, 60*time.Second)
	dur(&l.WriteTimeout, 60*time.Second)
	return l
}
