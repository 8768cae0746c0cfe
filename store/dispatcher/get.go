package dispatcher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// smallRead is up to where an object is read into memory and sent with its head in one write; above, it is streamed.
const smallRead = 64 << 10

var smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallRead); return &b }}

// get answers GET and HEAD of an object.
func (d *Dispatcher) get(x http1.Exchange, t *target) *failure {
	b, o, f := d.find(x, t)
	if f != nil {
		return f
	}
	r := x.Request()
	private := b.Access != store.PublicRead && d.auth.mode != AuthNone
	if private {
		if f := d.who(x, t, b, store.RoleRead); f != nil {
			return f
		}
	}
	if o == nil {
		return fail(store.ErrNoObject, t)
	}
	if r.Query != nil && d.opt.Deriver != nil {
		if o, f = d.derived(x, t, o); f != nil {
			return f
		}
	}
	describe(x.Header(), b, o)
	if private {
		keepPrivate(x.Header())
	}
	cond, f := parseConditions(&r.Header)
	if f != nil {
		return f
	}
	if cond != nil {
		switch cond.evaluate(o) {
		case http.StatusNotModified:
			_ = x.Reply(http.StatusNotModified, nil)
			return nil
		case http.StatusPreconditionFailed:
			return fail(store.ErrPrecondition, t)
		}
	}
	if r.Method == http.MethodHead {
		_ = x.Start(http.StatusOK, o.Size)
		return nil
	}
	if d.mayReproxy(x, o.Size) && o.Size > 0 {
		done, f := d.reproxy(x, o)
		if done || f != nil {
			return f
		}
	}
	ranges, f := requestedRanges(&r.Header, o)
	if f != nil {
		return f
	}
	return d.sendRanges(x, o, ranges, t)
}

// find looks the target up: in memory where that is possible, else in the catalog. The object is nil where there is none.
func (d *Dispatcher) find(x http1.Exchange, t *target) (*store.Bucket, *store.Object, *failure) {
	if d.finder != nil {
		if b, o, ok := d.finder.Lookup(t.bucket, t.name); ok {
			if b == nil {
				return nil, nil, fail(store.ErrNoBucket, t)
			}
			return b, o, nil
		}
	}
	b, o, err := d.cat.Find(x.Context(), string(t.bucket), string(t.name))
	if errors.Is(err, store.ErrNoObject) {
		return &b, nil, nil
	}
	if err != nil {
		return nil, nil, fail(err, t)
	}
	return &b, &o, nil
}

// describe sets the headers that say what an object is.
func describe(h *http1.Header, b *store.Bucket, o *store.Object) {
	var buf [64]byte
	h.Set("Content-Type", o.ContentType)
	h.SetBytes("ETag", appendETag(buf[:0], o.ETag))
	h.SetBytes("Last-Modified", appendDate(buf[:0], o.Created))
	h.Set("Accept-Ranges", "bytes")
	h.Set("X-Content-Type-Options", "nosniff")
	if o.CacheControl != "" {
		h.Set("Cache-Control", o.CacheControl)
	} else if b.CacheControl != "" {
		h.Set("Cache-Control", b.CacheControl)
	}
	for _, m := range o.Meta {
		h.Add(metaPrefix+m.Name, m.Value)
	}
}

// keepPrivate keeps shared caches from giving an answer to others than the one that was let in (RFC 9111 §5.2.2.7).
func keepPrivate(h *http1.Header) {
	rest := ""
	for part := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		part = strings.TrimSpace(part)
		switch name, _, _ := strings.Cut(strings.ToLower(part), "="); name {
		case "", "public", "private", "s-maxage":
		default:
			rest += ", " + part
		}
	}
	h.Set("Cache-Control", "private"+rest)
}

// sendRanges sends the whole object, one part of it, or several as multipart/byteranges (RFC 9110 §14.6).
func (d *Dispatcher) sendRanges(x http1.Exchange, o *store.Object, ranges []byteRange, t *target) *failure {
	switch len(ranges) {
	case 0:
		return d.sendWhole(x, o, t)
	case 1:
		r := ranges[0]
		x.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", r.off, r.off+r.n-1, o.Size))
		return d.stream(x, o, http.StatusPartialContent, r.n, []piece{{r, nil}}, nil, t)
	}
	boundary := rand.Text() // what is in the object was there before: it cannot look like it (RFC 2046 §5.1.1)
	contentType := x.Header().Get("Content-Type")
	x.Header().Set("Content-Type", "multipart/byteranges; boundary="+boundary)
	pieces, size := make([]piece, len(ranges)), int64(0)
	for i, r := range ranges {
		pieces[i] = piece{r, fmt.Appendf(nil, "\r\n--%s\r\nContent-Type: %s\r\nContent-Range: bytes %d-%d/%d\r\n\r\n",
			boundary, contentType, r.off, r.off+r.n-1, o.Size)}
		size += int64(len(pieces[i].before)) + r.n
	}
	end := []byte("\r\n--" + boundary + "--\r\n")
	return d.stream(x, o, http.StatusPartialContent, size+int64(len(end)), pieces, end, t)
}

// piece is a part of an object and what is sent before it.
type piece struct {
	byteRange
	before []byte
}

func (d *Dispatcher) sendWhole(x http1.Exchange, o *store.Object, t *target) *failure {
	if o.Size == 0 {
		_ = x.Reply(http.StatusOK, nil)
		return nil
	}
	if o.Size > smallRead {
		return d.stream(x, o, http.StatusOK, o.Size, []piece{{byteRange{0, o.Size}, nil}}, nil, t)
	}
	if d.hot != nil {
		if data := d.hot.get(o.ID); data != nil {
			d.metrics.HotReads.Add(1)
			d.metrics.BytesOut.Add(o.Size)
			_ = x.Reply(http.StatusOK, data) // a client that is gone needs no answer
			return nil
		}
	}
	defer d.waited(time.Now())
	v, err := d.views.holding(x.Context(), d.cat, o)
	if err != nil {
		return fail(err, t)
	}
	readers := v.readersOf(o, d.opt.Now())
	i := 0
	for ; i < readers.n && readers.list[i].local; i++ {
		if d.sendLocal(x, o, readers.list[i], i) {
			return nil
		}
	}
	if i < readers.n && d.sendRaced(x, o, readers, i) {
		return nil
	}
	return d.unreadable(x.Context(), o, t)
}

// sendLocal sends a small object from a disk of this process, the i-th that is asked. It reports false when that cannot give it.
func (d *Dispatcher) sendLocal(x http1.Exchange, o *store.Object, m *member, i int) bool {
	buf := smallBuffers.Get().(*[]byte)
	defer smallBuffers.Put(buf)
	m.sus.reading.Add(1)
	data, err := m.dev.Get(x.Context(), o.ID, o.Size, *buf)
	m.sus.finished.Add(1)
	if d.readFailed(x.Context(), o, m, i, err) {
		return false
	}
	d.sendSmall(x, o, data)
	return true
}

// sendRaced sends a small object from the first storage, from the i-th on, that gives it. The readers are a copy, so that those
// of a read from a disk of this process stay on its stack.
func (d *Dispatcher) sendRaced(x http1.Exchange, o *store.Object, readers readers, i int) bool {
	list := readers.list[i:readers.n]
	type small struct {
		buf  *[]byte
		data []byte
	}
	got, _, cancel, ok := race(x.Context(), d, o, list, wholeSmall, func(ctx context.Context, m *member) (small, error) {
		s := small{buf: smallBuffers.Get().(*[]byte)}
		var err error
		if s.data, err = m.dev.Get(ctx, o.ID, o.Size, *s.buf); err != nil {
			smallBuffers.Put(s.buf)
		}
		return s, err
	}, func(s small) { smallBuffers.Put(s.buf) })
	if !ok {
		return false
	}
	defer cancel()
	defer smallBuffers.Put(got.buf)
	d.sendSmall(x, o, got.data)
	return true
}

func (d *Dispatcher) sendSmall(x http1.Exchange, o *store.Object, data []byte) {
	d.metrics.BytesOut.Add(o.Size)
	_ = x.Reply(http.StatusOK, data) // a client that is gone needs no answer
	if d.hot != nil {
		d.hot.offer(o.ID, data)
	}
}

// stream sends pieces, each from the first storage that gives it, and from the next one where that breaks off, also in
// the middle: the client sees one unbroken body.
func (d *Dispatcher) stream(x http1.Exchange, o *store.Object, status int, size int64, pieces []piece, end []byte, t *target) *failure {
	v, err := d.views.holding(x.Context(), d.cat, o)
	if err != nil {
		return fail(err, t)
	}
	s := &sender{d: d, x: x, o: o, status: status, size: size, readers: v.readersOf(o, d.opt.Now())}
	s.list = s.readers.list[:s.readers.n]
	for _, p := range pieces {
		if ok, f := s.send(p, t); !ok {
			return f
		}
	}
	if len(end) > 0 {
		_, _ = x.Write(end)
	}
	return nil
}

type sender struct {
	d       *Dispatcher
	x       http1.Exchange
	o       *store.Object
	status  int
	size    int64
	started bool
	readers readers
	list    []*member // those that have not been given up, best first; it lies in readers
	slow    []*member // those that are asked again when nobody else is left, and then without haste
	patient bool
}

// send sends one piece. It reports false when the answer cannot go on: with a failure where the store is at fault, with
// none where the client has gone.
func (s *sender) send(p piece, t *target) (bool, *failure) {
	ctx, sent := s.x.Context(), int64(0)
	for s.more() {
		r, cancel, ok := s.open(ctx, p.off+sent, p.n-sent)
		if !ok {
			continue
		}
		m := s.list[0]
		if !s.begin(p.before) {
			_ = r.Close()
			cancel()
			return false, nil
		}
		p.before = nil // it has been sent, whatever becomes of the bytes
		came := s.watch(r, m)
		n, err := r.WriteTo(s.x)
		_ = r.Close()
		cancel()
		m.sus.pace.note(came.n, came.waited)
		sent += n
		s.d.metrics.BytesOut.Add(n)
		if err == nil && sent < p.n {
			err = &store.ReadError{Err: fmt.Errorf("%w: %d bytes of %d came", store.ErrCorrupt, sent, p.n)}
		}
		if err == nil {
			return true, nil
		}
		if !store.IsReadError(err) || ctx.Err() != nil { // the client has gone
			s.x.Abort()
			return false, nil
		}
		s.giveUp(m, err)
	}
	return false, s.d.unreadable(ctx, s.o, t)
}

// more reports whether there is a storage to ask. Those that were only slow get a second chance in the end.
func (s *sender) more() bool {
	if len(s.list) == 0 && len(s.slow) > 0 {
		s.list, s.slow, s.patient = s.slow, nil, true
	}
	return len(s.list) > 0 && s.x.Context().Err() == nil
}

// open opens the entity on the first storage that gives it, which is then the first in the list. When it reports false, the
// list is shorter by at least one.
func (s *sender) open(ctx context.Context, off, n int64) (store.EntityReader, context.CancelFunc, bool) {
	if m := s.list[0]; m.local {
		m.sus.reading.Add(1)
		r, err := m.dev.Open(ctx, s.o.ID, off, n)
		m.sus.finished.Add(1)
		if s.d.readFailed(ctx, s.o, m, s.readers.n-len(s.list), err) {
			s.list = s.list[1:]
			return nil, nil, false
		}
		return r, func() {}, true
	}
	r, i, cancel, ok := race(ctx, s.d, s.o, s.list, firstByte, func(ctx context.Context, m *member) (store.EntityReader, error) {
		return m.dev.Open(ctx, s.o.ID, off, n)
	}, func(r store.EntityReader) { _ = r.Close() })
	if !ok {
		s.list = nil
		return nil, nil, false
	}
	m := s.list[i]
	copy(s.list[1:i+1], s.list[:i])
	s.list[0] = m
	return r, cancel, true
}

// arrival is what has come of a body, and the time spent waiting for it.
type arrival struct {
	n      int64
	waited time.Duration
}

// watch has a body end that comes too slowly, as long as somebody else can be asked for the rest.
func (s *sender) watch(r store.EntityReader, m *member) *arrival {
	came := &arrival{}
	w, ok := r.(watchable)
	if !ok {
		return came
	}
	silence, least := time.Duration(0), int64(0)
	if !s.patient && len(s.list)+len(s.slow) > 1 {
		silence, least = stallAfter, slowest(s.list[1:])
	}
	w.Watch(silence, func(n int64, waited time.Duration) error {
		came.n, came.waited = n, waited
		if waited >= stallAfter && float64(n) < float64(least)*waited.Seconds() {
			return fmt.Errorf("%w: %d bytes in %v", errSlow, n, waited)
		}
		return nil
	})
	return came
}

// giveUp takes the storage that has broken off out of the list.
func (s *sender) giveUp(m *member, err error) {
	s.list = s.list[1:]
	if !s.patient && (errors.Is(err, errSlow) || errors.Is(err, os.ErrDeadlineExceeded)) {
		s.d.metrics.Stalls.Add(1)
		s.d.opt.Log.Warn("another storage goes on with an entity", "object", uint64(s.o.ID), "storage", uint32(m.ID), "err", err)
		m.sus.note(errSlow, s.d.opt.Now())
		s.slow = append(s.slow, m)
		return
	}
	s.d.readFailed(s.x.Context(), s.o, m, 0, err)
	slow := errors.Is(err, errSlow) || errors.Is(err, os.ErrDeadlineExceeded)
	if !m.local && !slow && !errors.Is(err, store.ErrCorrupt) && s.x.Context().Err() == nil {
		// A node that meets damage in the middle of a body can only break it off.
		s.d.enqueueRepair(s.x.Context(), s.o, m)
	}
}

// begin sends the head before the first byte, and what stands before a piece. It reports false when the client has gone.
func (s *sender) begin(before []byte) bool {
	if !s.started {
		if err := s.x.Start(s.status, s.size); err != nil {
			return false
		}
		s.started = true
	}
	if len(before) == 0 {
		return true
	}
	_, err := s.x.Write(before)
	return err == nil
}

// readFailed takes in how a read from the i-th storage ended, and reports whether another must be asked. A storage that
// should have the entity and does not, or has it damaged, gets it again by a job.
func (d *Dispatcher) readFailed(ctx context.Context, o *store.Object, m *member, i int, err error) bool {
	if err == nil {
		m.sus.cleared()
		if i > 0 {
			d.metrics.Failovers.Add(1)
		}
		return false
	}
	m.sus.note(err, d.opt.Now())
	if ctx.Err() != nil {
		return true
	}
	if errors.Is(err, store.ErrNoEntity) && !m.Mode.Readable() {
		return true // it was a last resort
	}
	d.opt.Log.Warn("a storage could not give an entity", "object", uint64(o.ID), "storage", uint32(m.ID), "err", err)
	if errors.Is(err, store.ErrNoEntity) || errors.Is(err, store.ErrCorrupt) {
		d.enqueueRepair(ctx, o, m)
	}
	return true
}

// enqueueRepair has the entities of an object looked at. The client's going away must not keep that from being noted.
func (d *Dispatcher) enqueueRepair(ctx context.Context, o *store.Object, m *member) {
	d.metrics.Repairs.Add(1)
	enqueue, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := d.cat.EnqueueRepair(enqueue, o.ID, m.ID); err != nil {
		d.opt.Log.Error("a repair could not be enqueued", "object", uint64(o.ID), "storage", uint32(m.ID), "err", err)
	}
}

func (d *Dispatcher) unreadable(ctx context.Context, o *store.Object, t *target) *failure {
	if ctx.Err() != nil {
		return nil
	}
	f := fail(store.ErrNoEntity, t)
	f.cause = fmt.Errorf("no storage of cluster %d gave entity %s: %w", o.Cluster, strconv.FormatUint(uint64(o.ID), 10), store.ErrNoEntity)
	return f
}
