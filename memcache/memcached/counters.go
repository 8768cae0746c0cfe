package memcached

import "sync/atomic"

// counter names what is counted, as stats does.
type counter uint8

const (
	cmdGet counter = iota
	cmdSet
	cmdFlush
	cmdTouch
	cmdMeta
	getHits
	getMisses
	getExpired
	getFlushed
	deleteMisses
	deleteHits
	incrMisses
	incrHits
	decrMisses
	decrHits
	casMisses
	casHits
	casBadval
	touchHits
	touchMisses
	storeTooLarge
	storeNoMemory
	authCmds
	authErrors
	bytesRead
	bytesWritten
	connYields
	totalItems
	aclDenied
	panics
	idleKicks
	slowClosed
	handshakeErrors
	counterCount
)

// stripes is how many copies of the counters there are, so that connections do not share their cache lines.
const stripes = 16

type stripe struct {
	n [counterCount]atomic.Uint64
	_ [64]byte
}

func (s *stripe) add(c counter) { s.n[c].Add(1) }

func (s *Server) count(c counter) (n uint64) {
	for i := range s.stripes {
		n += s.stripes[i].n[c].Load()
	}
	return n
}

// Counts are the counters that metrics are made of.
type Counts struct {
	Gets, Hits, Misses, Sets, Touches, Deletes, Flushes, Meta             uint64
	BytesIn, BytesOut, Accepted, Rejected, AuthErrors, ACLDenied          uint64
	Evictions, Reclaimed, TooLarge, OutOfMemory, Panics, Slow, SlowClosed uint64
	Connections, Items, Bytes, Used, Limit, Aside, Segments, IndexMemory  int64
}

// Counts returns the counters as they are now.
func (s *Server) Counts() Counts {
	st := s.cache.Stats()
	t := Counts{
		Gets: s.count(cmdGet), Hits: s.count(getHits), Misses: s.count(getMisses), Sets: s.count(cmdSet), Touches: s.count(cmdTouch),
		Deletes: s.count(deleteHits), Flushes: s.count(cmdFlush), Meta: s.count(cmdMeta),
		BytesIn: s.count(bytesRead), BytesOut: s.count(bytesWritten), Accepted: s.accepted.Load(), Rejected: s.rejected.Load(),
		AuthErrors: s.count(authErrors), ACLDenied: s.count(aclDenied), TooLarge: s.count(storeTooLarge),
		OutOfMemory: s.count(storeNoMemory), Panics: s.count(panics), Slow: s.slow.total.Load(), SlowClosed: s.count(slowClosed),
		Connections: s.open.Load(), Items: st.Items, Bytes: st.Bytes, Used: st.UsedBytes + st.IndexBytes, Limit: s.cache.Limit(), Aside: s.cache.Aside(),
		Segments: int64(st.Segments), IndexMemory: st.IndexBytes,
	}
	for i := range st.Classes {
		t.Evictions += st.Classes[i].Evicted
		t.Reclaimed += st.Classes[i].Reclaimed
	}
	return t
}
