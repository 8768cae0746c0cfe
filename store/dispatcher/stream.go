package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

const (
	chunkSize  = 256 << 10
	laneChunks = 8 // how far a storage may lag behind the client, in chunks, before it holds the others up
	// lagLimit is how long one storage may hold up an upload, in all, while the others keep up with the client.
	lagLimit = 400 * time.Millisecond
	// slowestTail is how much longer than TailWait the slowest storage is waited for at the end of an upload.
	slowestTail = 400 * time.Millisecond
	// slowestSync is what the commit of a large entity is given time for, in bytes a second.
	slowestSync = 20 << 20
)

// chunk is a part of a body on its way to several storages. It goes back to the pool when all of them are done with it.
type chunk struct {
	buf  [chunkSize]byte
	n    int
	refs atomic.Int32
}

var chunks = sync.Pool{New: func() any { return new(chunk) }}

func (c *chunk) release() {
	if c.refs.Add(-1) == 0 {
		chunks.Put(c)
	}
}

// storeStream stores a body that is too large for memory. head is its beginning; the rest is in the exchange's body. The
// bytes go to all storages of a cluster as they come. Where another cluster could take over, they are spooled too, so that
// the body need not be sent again when this one fails under way.
func (d *Dispatcher) storeStream(x http1.Exchange, p *upload, head *body) (*placed, *failure) {
	ctx := x.Context()
	s := &stream{d: d, p: p}
	defer s.close()
	if err := s.begin(ctx); err != nil {
		return nil, s.failure(err)
	}
	if err := s.writeBytes(ctx, head.bytes()); err != nil {
		return nil, s.failure(err)
	}
	for {
		c := chunks.Get().(*chunk)
		c.refs.Store(1)
		n, readErr := readFull(x.Body(), c.buf[:])
		c.n = n
		if s.total+int64(n) > store.MaxObjectSize {
			c.release()
			return nil, failf(http.StatusRequestEntityTooLarge, "the body is longer than %d bytes", int64(store.MaxObjectSize))
		}
		err := s.write(ctx, c)
		c.release()
		if err != nil {
			return nil, s.failure(err)
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return nil, readFailure(readErr, p.t)
		}
	}
	if p.size >= 0 && s.total != p.size {
		return nil, readFailure(io.ErrUnexpectedEOF, p.t)
	}
	etag, f := p.digest.sum()
	if f != nil {
		return nil, f
	}
	return s.finish(ctx, etag)
}

// readFull fills buf unless the body ends before; then the error is io.EOF, or what went wrong.
func readFull(r io.Reader, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// stream is a large upload under way.
type stream struct {
	d        *Dispatcher
	p        *upload
	total    int64
	spool    *spool // nil where no other cluster could take over
	clusters []store.ClusterID
	try      int // index into clusters

	id      store.ObjectID
	settled func()
	owed    []store.StorageID
	lanes   []*lane
	results chan putResult
	cause   error // why the last cluster was given up
}

var errNoCluster = errors.New("no cluster is read-write and has enough writable storages")

// begin finds the clusters and opens the entities on the storages of the first.
func (s *stream) begin(ctx context.Context) error {
	id, settled, err := s.d.ids.take(ctx)
	if err != nil {
		return err
	}
	s.clusters = s.p.order(id)
	s.id, s.settled = id, settled
	s.cause = errNoCluster
	if len(s.clusters) > 1 {
		if s.spool, err = newSpool(s.d.opt.SpoolDir); err != nil {
			return err
		}
		s.d.metrics.SpooledBodies.Add(1)
	}
	return s.open(ctx)
}

// open begins the entity on the storages of the current cluster, or of the next one that can take it, and catches up with
// what has come so far.
func (s *stream) open(ctx context.Context) error {
	for ; s.try < len(s.clusters); s.try++ {
		if s.settled == nil {
			var err error
			if s.id, s.settled, err = s.d.ids.take(ctx); err != nil {
				return err
			}
		}
		err := s.openCluster(ctx, s.clusters[s.try])
		if err == nil && s.total > 0 {
			err = s.replay(ctx)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.giveUp(err)
	}
	return fmt.Errorf("%w: %w", store.ErrNoWritable, s.cause)
}

func (s *stream) openCluster(ctx context.Context, c store.ClusterID) error {
	writers, owed := s.p.view.writersOf(c, s.p.durable, s.d.opt.Now())
	results := make(chan putResult, len(writers))
	s.owed, s.lanes, s.results = owed, nil, results
	info := s.p.info(s.id)
	for _, m := range writers {
		l := &lane{m: m, queue: make(chan *chunk, laneChunks), failed: make(chan struct{})}
		var laneCtx context.Context
		laneCtx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
		w, err := m.dev.Create(laneCtx, info)
		if err != nil {
			l.cancel()
			m.sus.note(err, s.d.opt.Now())
			s.d.opt.Log.Warn("a storage did not take an entity", "object", uint64(s.id), "storage", uint32(m.ID), "err", err)
			s.owed = append(s.owed, m.ID)
			continue
		}
		s.lanes = append(s.lanes, l)
		s.d.late.add()
		go func() {
			defer s.d.late.done()
			l.run(laneCtx, w, results)
		}()
	}
	if len(s.lanes) < s.p.durable {
		return fmt.Errorf("cluster %d: %d storages take the entity, %d are needed", c, len(s.lanes), s.p.durable)
	}
	return nil
}

// replay sends what has come so far to the lanes of another cluster.
func (s *stream) replay(ctx context.Context) error {
	for off := int64(0); off < s.total; {
		c := chunks.Get().(*chunk)
		c.refs.Store(1)
		n, err := s.spool.readAt(c.buf[:min(chunkSize, s.total-off)], off)
		c.n = n
		off += int64(n)
		if err == nil {
			err = s.send(ctx, c)
		}
		c.release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) writeBytes(ctx context.Context, b []byte) error {
	for len(b) > 0 {
		c := chunks.Get().(*chunk)
		c.refs.Store(1)
		c.n = copy(c.buf[:], b)
		b = b[c.n:]
		err := s.write(ctx, c)
		c.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// write takes in the next part of the body.
func (s *stream) write(ctx context.Context, c *chunk) error {
	if c.n == 0 {
		return nil
	}
	_, _ = s.p.digest.Write(c.buf[:c.n])
	if s.spool != nil {
		if err := s.spool.write(c.buf[:c.n]); err != nil {
			// Without the spool this cluster has to do; the upload goes on.
			s.d.opt.Log.Warn("an upload is no longer spooled", "object", uint64(s.id), "err", err)
			s.spool.close()
			s.spool, s.clusters = nil, s.clusters[:s.try+1]
		}
	}
	s.total += int64(c.n)
	err := s.send(ctx, c)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return s.next(ctx, err)
}

// next gives the current cluster up and opens another; the chunk that failed is in the spool with the rest.
func (s *stream) next(ctx context.Context, err error) error {
	s.giveUp(err)
	s.try++
	return s.open(ctx)
}

// send hands a chunk to all lanes. One that has failed, or lags too far behind, is dropped, as long as enough remain.
func (s *stream) send(ctx context.Context, c *chunk) error {
	for i := 0; i < len(s.lanes); {
		l := s.lanes[i]
		if err := s.push(ctx, l, c); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			l.abandon()
			s.lanes = append(s.lanes[:i], s.lanes[i+1:]...)
			l.m.sus.note(err, s.d.opt.Now())
			s.owed = append(s.owed, l.m.ID)
			s.d.opt.Log.Warn("a storage was dropped from an upload", "object", uint64(s.id), "storage", uint32(l.m.ID), "err", err)
			if len(s.lanes) < s.p.durable {
				return fmt.Errorf("storage %d: %w", l.m.ID, err)
			}
			continue
		}
		i++
	}
	return nil
}

// push hands a chunk to one lane. It gives up on a storage that holds the upload up while enough others do not, and on any
// that is silent for PutTimeout.
func (s *stream) push(ctx context.Context, l *lane, c *chunk) error {
	const look = 50 * time.Millisecond
	begun := time.Now()
	for {
		err := l.push(ctx, c, look)
		waited := time.Since(begun)
		switch {
		case err != nil && !errors.Is(err, errStalled):
			return err
		case l.waited+waited >= lagLimit && s.ahead(l) >= s.p.durable:
			return errStalled // a chunk that it did take goes with it
		case err == nil:
			l.waited += waited
			return nil
		case waited >= s.d.opt.PutTimeout:
			return errStalled
		}
	}
}

// ahead counts the other lanes that keep up with the client.
func (s *stream) ahead(than *lane) (n int) {
	for _, l := range s.lanes {
		if l != than && len(l.queue) <= laneChunks/2 {
			n++
		}
	}
	return n
}

// finish makes the entity durable on all lanes, in this cluster or, failing that, in the next.
func (s *stream) finish(ctx context.Context, etag [16]byte) (*placed, *failure) {
	for {
		members := make([]*member, len(s.lanes))
		for i, l := range s.lanes {
			members[i] = l.m
			l.etag = etag
			close(l.queue) // the lane commits when it has written what it was given
		}
		wait := time.Duration(s.total / slowestSync * int64(time.Second))
		owed, err := s.d.collect(ctx, members, s.results, s.owed,
			patience{s.p.durable, s.d.opt.TailWait + min(wait/4, slowestTail), s.d.opt.PutTimeout + wait})
		if err == nil {
			for _, l := range s.lanes { // one that lags behind is not waited for without end
				time.AfterFunc(s.d.opt.PutTimeout+wait, l.cancel)
			}
			done := &placed{id: s.id, settled: s.settled, cluster: s.clusters[s.try], size: s.total, etag: etag, owed: owed}
			s.settled, s.lanes = nil, nil
			return done, nil
		}
		for _, l := range s.lanes {
			l.cancel()
		}
		s.lanes = nil
		if ctx.Err() != nil {
			return nil, s.failure(ctx.Err())
		}
		if s.spool == nil {
			return nil, s.failure(fmt.Errorf("%w: %w", store.ErrNoWritable, err))
		}
		if err := s.next(ctx, err); err != nil {
			return nil, s.failure(err)
		}
	}
}

// giveUp leaves the current cluster.
func (s *stream) giveUp(err error) {
	for _, l := range s.lanes {
		l.abandon()
	}
	s.lanes, s.cause = nil, err
	if s.settled != nil {
		s.settled()
		s.settled = nil
	}
}

func (s *stream) close() {
	s.giveUp(s.cause)
	if s.spool != nil {
		s.spool.close()
	}
}

func (s *stream) failure(err error) *failure {
	f := fail(err, s.p.t)
	if f.status >= 500 {
		f.cause = err
	}
	return f
}
