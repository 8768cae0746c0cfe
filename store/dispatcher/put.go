package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
	"wheelhouse/store/placement"
)

// put answers PUT of an object: the bytes go to all writable storages of one cluster at once; when enough of them have it
// durable, the catalog's row is committed, and only then is the client told 201.
func (d *Dispatcher) put(x http1.Exchange, t *target) *failure {
	p, f := d.preparePut(x, t)
	if f != nil {
		return f
	}
	size := x.Request().ContentLength
	body, full, err := d.buffers.read(x.Body(), size, d.opt.BufferLimit)
	if body != nil {
		defer body.release()
	}
	if err != nil {
		return readFailure(err, t)
	}
	var stored *placed
	if full {
		stored, f = d.storeStream(x, p, body)
	} else {
		stored, f = d.storeSmall(x.Context(), p, body)
	}
	if f != nil {
		return f
	}
	d.metrics.BytesIn.Add(stored.size)
	f = d.commit(x, p, stored)
	stored.settled()
	if f == nil || full || !errors.Is(f.cause, store.ErrLease) && !errors.Is(f.cause, store.ErrNoWritable) {
		return f
	}
	// This process was taken for dead, as after it was stopped, or the time of day jumped; or the storages that took the object have been
	// removed meanwhile. The body is still here.
	v, err := d.views.now(x.Context(), d.cat)
	if err != nil {
		return fail(err, t)
	}
	p.view, p.class = v, v.class(p.bucket.Class)
	if stored, f = d.storeBuffered(x.Context(), p, body, stored.etag); f != nil {
		return f
	}
	defer stored.settled()
	return d.commit(x, p, stored)
}

// upload is a PUT whose head has been read and found good.
type upload struct {
	t       *target
	bucket  store.Bucket
	attrs   attributes
	cond    store.Condition
	digest  *digester
	view    *view
	class   *store.Class
	durable int // entities that must be durable before the answer
	size    int64
	created time.Time
}

// placed is an object whose entities are durable and which the catalog does not know yet.
type placed struct {
	id      store.ObjectID
	settled func() // to be called when the catalog's answer is in
	cluster store.ClusterID
	size    int64
	etag    [16]byte
	written []store.StorageID
	owed    int // storages of the cluster that do not have it, as far as this process knows
}

// preparePut checks all that can be checked before the body is read.
func (d *Dispatcher) preparePut(x http1.Exchange, t *target) (*upload, *failure) {
	r := x.Request()
	b, err := d.cat.Bucket(x.Context(), string(t.bucket))
	if err != nil {
		return nil, fail(err, t)
	}
	if f := d.who(x, t, &b, store.RoleWrite); f != nil {
		return nil, f
	}
	p := &upload{t: t, bucket: b, size: r.ContentLength, created: d.opt.Now()}
	if p.size > store.MaxObjectSize {
		return nil, failf(http.StatusRequestEntityTooLarge, "the body is %d bytes long; at most %d are allowed", p.size, int64(store.MaxObjectSize))
	}
	if r.Header.Has("Content-Range") { // RFC 9110 §14.5: a partial PUT must not be taken for a whole one
		return nil, failf(http.StatusBadRequest, "a PUT with Content-Range is not supported: send the whole object")
	}
	// A coding that is not kept would have every reader take coded bytes for the content (RFC 9110 §8.4).
	if c := r.Header.Joined("Content-Encoding"); c != "" && !strings.EqualFold(c, "identity") {
		return nil, failf(http.StatusUnsupportedMediaType, "Content-Encoding %s is not kept: store the content itself, or name the coded form in Content-Type",
			quoteSome([]byte(c))).with("Accept-Encoding", "identity")
	}
	var f *failure
	if p.attrs, f = parseAttributes(&r.Header, t.name); f != nil {
		return nil, f
	}
	cond, f := parseConditions(&r.Header)
	if f != nil {
		return nil, f
	}
	if cond != nil {
		p.cond = cond.forWrite()
		if f := d.checkCondition(x, p); f != nil {
			return nil, f
		}
	}
	if p.digest, f = newDigester(&r.Header); f != nil {
		return nil, f
	}
	return p, d.place(x, p)
}

// checkCondition refuses an upload whose conditions do not hold now. The catalog decides in the end; this spares the client
// the sending.
func (d *Dispatcher) checkCondition(x http1.Exchange, p *upload) *failure {
	_, current, err := d.cat.Find(x.Context(), p.bucket.Name, string(p.t.name))
	visible := &current
	if errors.Is(err, store.ErrNoObject) {
		visible, err = nil, nil
	}
	if err != nil {
		return fail(err, p.t)
	}
	if !p.cond.Holds(visible) {
		return fail(store.ErrPrecondition, p.t)
	}
	return nil
}

// place looks whether any cluster can take the object, as far as is known: if none can, the client need not send it.
func (d *Dispatcher) place(x http1.Exchange, p *upload) *failure {
	consistency, f := smallNumber(&x.Request().Header, headerConsistency)
	if f != nil {
		return f
	}
	v, err := d.views.get(x.Context(), d.cat)
	if err != nil {
		return fail(err, p.t)
	}
	p.view, p.class = v, v.class(p.bucket.Class)
	p.durable = minDurable(p.class)
	if consistency > 0 {
		p.durable = consistency
	}
	if most := placement.Largest(v.top, p.class); most > 0 {
		if int(p.attrs.replicas) > most {
			return failf(http.StatusBadRequest, "%s: %d, but the largest cluster has %d storages", headerReplicas, p.attrs.replicas, most)
		}
		if consistency > most {
			return failf(http.StatusBadRequest, "%s: %d, but the largest cluster has %d storages", headerConsistency, consistency, most)
		}
	}
	if !placement.Any(v.top, p.class, p.need()) {
		return fail(new(refusals).err(p), p.t)
	}
	return nil
}

func minDurable(c *store.Class) int {
	if c == nil || c.MinDurable <= 0 {
		return store.DefaultMinDurable
	}
	return c.MinDurable
}

// order is the order in which clusters are tried: as they are placed, but first those in which enough storages are without blame.
func (p *upload) order(id store.ObjectID, now time.Time) []store.ClusterID {
	list := placement.Clusters(p.view.top, p.class, id, p.need())
	if len(list) > 1 {
		slices.SortStableFunc(list, func(a, b store.ClusterID) int {
			switch x, y := p.view.blameless(a, now) >= p.durable, p.view.blameless(b, now) >= p.durable; {
			case x && !y:
				return -1
			case y && !x:
				return 1
			}
			return 0
		})
	}
	return list
}

// storeSmall stores a body that is in memory: in the first cluster that gives enough durable entities. Each try has an id
// of its own, so that what a failed one leaves behind is unknown to the catalog, and is removed by the workers.
func (d *Dispatcher) storeSmall(ctx context.Context, p *upload, b *body) (*placed, *failure) {
	_, _ = p.digest.Write(b.bytes())
	etag, f := p.digest.sum()
	if f != nil {
		return nil, f
	}
	return d.storeBuffered(ctx, p, b, etag)
}

// storeBuffered is storeSmall for a body whose digest is known.
func (d *Dispatcher) storeBuffered(ctx context.Context, p *upload, b *body, etag [16]byte) (*placed, *failure) {
	p.size = int64(b.n)
	id, settled, err := d.ids.take(ctx)
	if err != nil {
		return nil, fail(err, p.t)
	}
	var no refusals
	// A second time round, those that have failed are known, and storages that were spared are asked instead. As long as there is
	// another cluster to go to, a storage that says nothing is not waited for long; the last one is.
	order, begun := p.order(id, d.opt.Now()), time.Now()
	for i, cluster := range append(order, order...) {
		limit := d.opt.PutTimeout
		if i < len(order) && len(order) > 1 {
			limit = min(limit, leaveAfter)
		}
		if i >= len(order) && time.Since(begun) > secondTry+time.Duration(len(order))*leaveAfter {
			break
		}
		info := p.info(id)
		info.ETag = etag
		written, owed, err := d.putAll(ctx, p, cluster, info, b, limit)
		if err == nil {
			return &placed{id: id, settled: settled, cluster: cluster, size: p.size, etag: etag, written: written, owed: owed}, nil
		}
		settled()
		no.note(err)
		if ctx.Err() != nil {
			return nil, fail(ctx.Err(), p.t)
		}
		if id, settled, err = d.ids.take(ctx); err != nil {
			return nil, fail(err, p.t)
		}
	}
	settled()
	return nil, fail(no.err(p), p.t)
}

// refusals are why no cluster took an upload.
type refusals struct {
	cause error // the last
	other bool  // one was not for want of space
}

func (r *refusals) note(err error) {
	r.cause = err
	r.other = r.other || !errors.Is(err, store.ErrFull)
}

// err is store.ErrFull when space is all that was wanting, else store.ErrNoWritable.
func (r *refusals) err(p *upload) error {
	switch {
	case r.cause == nil && placement.Full(p.view.top, p.class, p.need()):
		return fmt.Errorf("%w, as far as clusters are read-write and have enough writable storages", store.ErrFull)
	case r.cause == nil:
		return fmt.Errorf("%w: %w", store.ErrNoWritable, errNoCluster)
	case r.other:
		return fmt.Errorf("%w: %w", store.ErrNoWritable, r.cause)
	}
	return r.cause
}

// need is what a cluster must have to take the object.
func (p *upload) need() placement.Need {
	return placement.Need{Storages: int(p.attrs.replicas), Durable: p.durable, Size: p.size}
}

// secondTry is how soon, silences apart, a small upload must have failed everywhere to be tried a second time.
const secondTry = time.Second

func (p *upload) info(id store.ObjectID) store.EntityInfo {
	return store.EntityInfo{
		ID: id, Size: p.size, Bucket: p.bucket.Name, Name: string(p.t.name),
		ContentType: p.attrs.contentType, Created: p.created,
	}
}

// object is the catalog's row for what has been stored.
func (p *upload) object(s *placed) store.Object {
	return store.Object{
		ID: s.id, Bucket: p.bucket.ID, Name: string(p.t.name), Cluster: s.cluster, Size: s.size, ETag: s.etag,
		ContentType: p.attrs.contentType, CacheControl: p.attrs.cacheControl, Created: p.created,
		Meta: p.attrs.meta, Replicas: p.attrs.replicas,
	}
}

// commitObject makes the object visible. If it fails, the entities are unknown to the catalog and are removed by the workers.
func (d *Dispatcher) commitObject(ctx context.Context, p *upload, s *placed, o *store.Object) error {
	// The bytes are durable: a client that goes away now must not turn a good write into an orphan.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	_, err := d.cat.Commit(ctx, store.Commit{Object: *o, Written: &store.Written{On: s.written, Topology: p.view.top.Version, Durable: p.durable}, Condition: p.cond})
	if errors.Is(err, store.ErrLease) {
		d.ids.discard()
	}
	return err
}

// commit makes the object visible and answers.
func (d *Dispatcher) commit(x http1.Exchange, p *upload, s *placed) *failure {
	o := p.object(s)
	if err := d.commitObject(x.Context(), p, s, &o); err != nil {
		return fail(err, p.t)
	}
	if s.owed > 0 {
		d.metrics.Degraded.Add(1)
	}
	h := x.Header()
	var buf [40]byte
	h.SetBytes("ETag", appendETag(buf[:0], s.etag))
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	_ = x.Reply(http.StatusCreated, []byte("Created "+p.t.String()+"\n")) // it is stored, whether the client hears it or not
	return nil
}

// commitTimeout is how long a commit may wait for the catalog.
const commitTimeout = 30 * time.Second
