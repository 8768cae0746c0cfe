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
	// lagLimit is how long one storage may hold up an upload, in all, while the others keep up with the client; TailWait, where that is more.
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
// bytes go to all storages of a cluster as they come. Where another cluster could take over, or this one has no storage to lose,
// they are spooled too, so that the body need not be sent again when that fails under way.
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
	spool    *spool // nil where nothing is gained by it
	clusters []store.ClusterID
	try      int       // index into clusters
	round    int       // how often all of them have been tried
	failed   time.Time // when one was first given up

	id      store.ObjectID
	lastID  store.ObjectID // the order of the clusters goes by it
	settled func()
	crew    crew
	lanes   []*lane
	results chan putResult
	no      refusals
}

var errNoCluster = errors.New("no cluster is read-write and has enough writable storages")

// begin finds the clusters and opens the entities on the storages of the first.
func (s *stream) begin(ctx context.Context) error {
	id, settled, err := s.d.ids.take(ctx)
	if err != nil {
		return err
	}
	s.clusters = s.p.order(id, s.d.opt.Now())
	s.id, s.settled = id, settled
	if s.worthSpooling() {
		if s.spool, err = newSpool(s.d.opt.SpoolDir); err != nil {
			s.d.opt.Log.Warn("an upload is not spooled", "object", uint64(s.id), "err", err)
			s.spool = nil
		} else {
			s.d.metrics.SpooledBodies.Add(1)
		}
	}
	return s.open(ctx)
}

// worthSpooling reports whether the loss of one storage may mean that the body is needed again.
func (s *stream) worthSpooling() bool {
	if len(s.clusters) != 1 {
		return len(s.clusters) > 1
	}
	crew := s.p.view.writersOf(s.clusters[0], s.p.durable, s.d.opt.Now())
	return len(crew.writers) <= s.p.durable
}

// open begins the entity on the storages of the current cluster, or of the next one that can take it, and catches up with
// what has come so far. When none can, all are tried again for a while, if what has come can be sent again: a client cannot repeat
// a large upload as easily as a small one, and a node that has crashed may be back in a second.
func (s *stream) open(ctx context.Context) error {
	for {
		done, err := s.openAny(ctx)
		if done || err != nil {
			return err
		}
		if err := s.again(ctx); err != nil {
			return err
		}
	}
}

// retryEvery is how long an upload waits between two rounds through the clusters.
const retryEvery = 200 * time.Millisecond

// again prepares for another round through the clusters.
func (s *stream) again(ctx context.Context) error {
	hopeless := s.no.err(s.p)
	switch {
	case s.spool == nil && (s.total > 0 || s.round > 0), time.Since(s.failed) > s.d.opt.PutTimeout,
		s.round > 0 && errors.Is(hopeless, store.ErrFull):
		return hopeless
	case s.round > 0: // the first time those that were spared are asked, at once
		select {
		case <-time.After(retryEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	v, err := s.d.views.get(ctx, s.d.cat)
	if err != nil {
		return err
	}
	s.p.view = v
	if s.clusters = s.p.order(s.lastID, s.d.opt.Now()); len(s.clusters) == 0 && s.round == 0 && s.total == 0 {
		return hopeless
	}
	s.try = 0
	s.round++
	return nil
}

// openAny tries what is left of this round. It reports false when that was in vain.
func (s *stream) openAny(ctx context.Context) (done bool, err error) {
	for ; s.try < len(s.clusters); s.try++ {
		if s.settled == nil {
			var err error
			if s.id, s.settled, err = s.d.ids.take(ctx); err != nil {
				return false, err
			}
		}
		s.lastID = s.id
		err := s.openCluster(ctx, s.clusters[s.try])
		if err == nil && s.total > 0 {
			err = s.replay(ctx)
		}
		if err == nil {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		s.giveUp(err)
	}
	return false, nil
}

func (s *stream) openCluster(ctx context.Context, c store.ClusterID) error {
	s.crew = s.p.view.writersOf(c, s.p.durable, s.d.opt.Now())
	results := make(chan putResult, len(s.crew.writers))
	s.lanes, s.results = nil, results
	var problems []error
	info := s.p.info(s.id)
	for _, m := range s.crew.writers {
		l := &lane{m: m, queue: make(chan *chunk, laneChunks), failed: make(chan struct{})}
		var laneCtx context.Context
		laneCtx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
		w, err := m.dev.Create(laneCtx, info)
		if err != nil {
			l.cancel()
			m.sus.note(err, s.d.opt.Now())
			problems = append(problems, fmt.Errorf("storage %d: %w", m.ID, err))
			s.d.opt.Log.Warn("a storage did not take an entity", "object", uint64(s.id), "storage", uint32(m.ID), "err", err)
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
		return fmt.Errorf("cluster %d: %d storages take the entity, %d are needed: %w", c, len(s.lanes), s.p.durable, errors.Join(problems...))
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
			// Without the spool these storages have to do; the upload goes on.
			s.d.opt.Log.Warn("an upload is no longer spooled", "object", uint64(s.id), "err", err)
			s.spool.close()
			s.spool = nil
		}
	}
	s.total += int64(c.n)
	err := s.send(ctx, c)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return s.next(ctx, err)
}

// next gives the current cluster up and opens another, or the same with other storages; the chunk that failed is in the spool
// with the rest.
func (s *stream) next(ctx context.Context, err error) error {
	s.giveUp(err)
	if s.spool == nil {
		return s.no.err(s.p)
	}
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
		case l.waited+waited >= max(lagLimit, s.d.opt.TailWait) && s.ahead(l) >= s.p.durable:
			return errStalled // a chunk that it did take goes with it
		case err == nil:
			l.waited += waited
			return nil
		case waited >= s.silence():
			return errStalled
		}
	}
}

// silence is how long a storage that cannot be done without may say nothing. Where there are others to go to, that is not long.
func (s *stream) silence() time.Duration {
	if s.spool != nil && s.round == 0 && (s.try+1 < len(s.clusters) || len(s.crew.reserve) > 0) {
		return min(leaveAfter, s.d.opt.PutTimeout)
	}
	return s.d.opt.PutTimeout
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
		written, err := s.d.collect(ctx, members, s.results,
			patience{s.p.durable, s.d.opt.TailWait + min(wait/4, slowestTail), s.silence() + wait, nil})
		if err == nil {
			for _, l := range s.lanes { // one that lags behind is not waited for without end
				time.AfterFunc(s.d.opt.PutTimeout+wait, l.cancel)
			}
			done := &placed{id: s.id, settled: s.settled, cluster: s.clusters[s.try], size: s.total, etag: etag, written: written, owed: s.crew.size() - len(written)}
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
	s.lanes = nil
	if err != nil {
		s.no.note(err)
	}
	if s.failed.IsZero() {
		s.failed = time.Now()
	}
	if s.settled != nil {
		s.settled()
		s.settled = nil
	}
}

func (s *stream) close() {
	s.giveUp(nil)
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
