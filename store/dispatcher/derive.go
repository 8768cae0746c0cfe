package dispatcher

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// Deriver makes other forms of objects: photos in other sizes. Safe for concurrent use.
type Deriver interface {
	// Variant reads from a query which form of an object of a content type is asked for, as a name that is the same for
	// all queries that mean the same. asked is false when the object itself is meant. err says what is wrong with the query.
	Variant(query url.Values, contentType string) (variant string, asked bool, err error)
	// Derive makes the variant. key is the same for all who want the same of the same bytes. ErrNotDerivable when it is
	// the original's fault, ErrDeriverBusy.
	Derive(ctx context.Context, key, variant string, original []byte) (data []byte, contentType string, err error)
}

var (
	// ErrNotDerivable says that what was asked for cannot be made of this original, and why.
	ErrNotDerivable = errors.New("dispatcher: not derivable")
	// ErrDeriverBusy says that there is too much to do at the moment.
	ErrDeriverBusy = errors.New("dispatcher: no derivation possible at the moment")
)

// failureKept is how long a failure that is the original's fault answers further requests, so that asking again and again for
// what cannot be made costs nothing.
const failureKept = 10 * time.Second

// derivation is one that is under way, for all who wait for it, or that has failed a moment ago.
type derivation struct {
	done chan struct{}
	o    store.Object
	f    *failure
}

// derivations are those of this process, by the names of what they make.
type derivations struct {
	mu   sync.Mutex // guards list
	list map[string]*derivation
}

// join returns the derivation under a name, and whether the caller is the one to do it.
func (ds *derivations) join(name string) (dv *derivation, first bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if dv := ds.list[name]; dv != nil {
		return dv, false
	}
	if ds.list == nil {
		ds.list = map[string]*derivation{}
	}
	dv = &derivation{done: make(chan struct{})}
	ds.list[name] = dv
	return dv, true
}

func (ds *derivations) forget(name string) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	delete(ds.list, name)
}

// derived returns what stands for o in the answer to a request: o itself, or the form of it that the query asks for, which is
// made and kept when it is asked for the first time.
func (d *Dispatcher) derived(x http1.Exchange, t *target, o *store.Object) (*store.Object, *failure) {
	query, f := parseQuery(x)
	if f != nil {
		return nil, f
	}
	variant, asked, err := d.opt.Deriver.Variant(query, o.ContentType)
	if err != nil {
		return nil, failf(http.StatusBadRequest, "the query asks for what cannot be: %v", err)
	}
	if !asked {
		return o, nil
	}
	name := store.DerivedPrefix(o.ID) + variant
	v, f := d.findDerived(x.Context(), name)
	if f != nil {
		return nil, f
	}
	if v == nil {
		if v, f = d.derive(x, t, o, name, variant); f != nil {
			return nil, f
		}
	}
	shown := *v
	shown.CacheControl = o.CacheControl // the original's, as it is now
	return &shown, nil
}

// findDerived returns what was made before, or nil.
func (d *Dispatcher) findDerived(ctx context.Context, name string) (*store.Object, *failure) {
	_, v, err := d.cat.Find(ctx, store.DerivedBucket, name)
	switch {
	case errors.Is(err, store.ErrNoObject), errors.Is(err, store.ErrNoBucket):
		return nil, nil
	case err != nil:
		return nil, fail(err, &target{bucket: []byte(store.DerivedBucket), name: []byte(name)})
	}
	return &v, nil
}

// derive makes a variant, once for all requests of this process that want it at the same time. It goes on when the request
// that began it ends: others may wait for it too.
func (d *Dispatcher) derive(x http1.Exchange, t *target, o *store.Object, name, variant string) (*store.Object, *failure) {
	dv, first := d.deriving.join(name)
	if first {
		d.late.add()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Context()), d.opt.DeriveTimeout)
		original, what := *o, target{bucket: bytes.Clone(t.bucket), name: bytes.Clone(t.name)}
		go func() {
			defer d.late.done()
			defer cancel()
			d.finish(dv, name, func() (store.Object, *failure) {
				v, f := d.makeDerived(ctx, &what, &original, name, variant)
				if f != nil && errors.Is(f.cause, context.DeadlineExceeded) { // of whichever step
					f = notNow(&what, f.cause)
				}
				return v, f
			})
		}()
	}
	select {
	case <-dv.done:
		return &dv.o, dv.f
	case <-x.Context().Done():
		return nil, fail(x.Context().Err(), t)
	}
}

// finish does a derivation and tells those who wait, whatever becomes of it.
func (d *Dispatcher) finish(dv *derivation, name string, do func() (store.Object, *failure)) {
	dv.f = failf(http.StatusInternalServerError, "internal error; the server's log says more")
	defer func() {
		if v := recover(); v != nil {
			d.opt.Log.Error("a derivation panicked", "object", name, "err", v)
		}
		if dv.f != nil && dv.f.status < 500 {
			time.AfterFunc(failureKept, func() { d.deriving.forget(name) })
		} else {
			d.deriving.forget(name)
		}
		close(dv.done)
	}()
	dv.o, dv.f = do()
}

// makeDerived reads the original, has the variant made of it, and stores that.
func (d *Dispatcher) makeDerived(ctx context.Context, t *target, o *store.Object, name, variant string) (store.Object, *failure) {
	var none store.Object
	if v, f := d.findDerived(ctx, name); f != nil || v != nil { // another one may have just finished
		if f != nil {
			return none, f
		}
		return *v, nil
	}
	if o.Size > d.opt.DeriveMost {
		return none, failf(http.StatusUnprocessableEntity, "%s has %d bytes; other forms are made of at most %d", t, o.Size, d.opt.DeriveMost)
	}
	bucket, f := d.derivedBucket(ctx, t, o)
	if f != nil {
		return none, f
	}
	original, err := d.readWhole(ctx, o, t)
	if err != nil {
		return none, fail(err, t)
	}
	d.metrics.Derived.Add(1)
	data, contentType, err := d.opt.Deriver.Derive(ctx, name, variant, original.bytes())
	original.release()
	switch {
	case errors.Is(err, ErrNotDerivable):
		return none, failf(http.StatusUnprocessableEntity, "%s: %v", t, err)
	case errors.Is(err, ErrDeriverBusy):
		return none, notNow(t, err)
	case err != nil:
		return none, fail(err, t)
	}
	return d.keepDerived(ctx, bucket, name, contentType, data)
}

// notNow is the failure to make a variant that may succeed another time.
func notNow(t *target, cause error) *failure {
	f := failf(http.StatusServiceUnavailable, "%s cannot be brought into that form at the moment", t).with("Retry-After", "5")
	f.cause = cause
	return f
}

// derivedBucket returns the bucket, which is made when it is needed first, if o may have one more variant.
func (d *Dispatcher) derivedBucket(ctx context.Context, t *target, o *store.Object) (*store.Bucket, *failure) {
	b, err := d.cat.Bucket(ctx, store.DerivedBucket)
	if errors.Is(err, store.ErrNoBucket) {
		b, err = d.cat.CreateBucket(ctx, store.Bucket{Name: store.DerivedBucket})
		if errors.Is(err, store.ErrExists) {
			err = nil
		}
	}
	if err != nil {
		return nil, fail(err, t)
	}
	n, prefix := 0, store.DerivedPrefix(o.ID)
	err = d.cat.Scan(ctx, b.ID, prefix, d.opt.DeriveVariants, func(v *store.Object) bool {
		if !strings.HasPrefix(v.Name, prefix) {
			return false
		}
		n++
		return true
	})
	if err != nil {
		return nil, fail(err, t)
	}
	if n >= d.opt.DeriveVariants {
		return nil, failf(http.StatusForbidden, "%s is kept in %d other forms already, and more are not made", t, n)
	}
	return &b, nil
}

// readWhole reads an object into memory that counts like an upload's. The caller releases it.
func (d *Dispatcher) readWhole(ctx context.Context, o *store.Object, t *target) (*body, error) {
	v, err := d.views.holding(ctx, d.cat, o)
	if err != nil {
		return nil, err
	}
	buf, class, f := d.buffers.get(int(o.Size))
	if f != nil {
		return nil, f
	}
	b := &body{pool: d.buffers, buf: buf, size: class}
	b.refs.Store(1)
	readers := v.readersOf(o, d.opt.Now())
	i := 0
	for ; i < readers.n && readers.list[i].local; i++ {
		data, err := readers.list[i].dev.Get(ctx, o.ID, o.Size, b.buf)
		if !d.readFailed(ctx, o, readers.list[i], i, err) {
			b.n = copy(b.buf, data) // the same memory, as a rule
			return b, nil
		}
	}
	if i < readers.n {
		data, _, cancel, ok := race(ctx, d, o, readers.list[i:readers.n], firstByte, func(ctx context.Context, m *member) ([]byte, error) {
			return m.dev.Get(ctx, o.ID, o.Size, nil) // into memory of its own: another may be at it too
		}, func([]byte) {})
		if ok {
			cancel()
			b.n = copy(b.buf, data)
			return b, nil
		}
	}
	b.release()
	if f := d.unreadable(ctx, o, t); f != nil {
		return nil, f
	}
	return nil, ctx.Err()
}

// keepDerived stores a variant like any other object.
func (d *Dispatcher) keepDerived(ctx context.Context, bucket *store.Bucket, name, contentType string, data []byte) (store.Object, *failure) {
	t := &target{bucket: []byte(bucket.Name), name: []byte(name)}
	v, err := d.views.get(ctx, d.cat)
	if err != nil {
		return store.Object{}, fail(err, t)
	}
	p := &upload{
		t: t, bucket: *bucket, size: int64(len(data)), attrs: attributes{contentType: contentType},
		digest: &digester{md5: md5.New()}, view: v, class: v.class(bucket.Class), created: d.opt.Now(),
	}
	p.durable = minDurable(p.class)
	b, _, err := d.buffers.read(bytes.NewReader(data), p.size, max(1, p.size))
	if b != nil {
		defer b.release()
	}
	if err != nil {
		return store.Object{}, fail(err, t)
	}
	stored, f := d.storeSmall(ctx, p, b)
	if f != nil {
		return store.Object{}, f
	}
	defer stored.settled()
	o := p.object(stored)
	for _, m := range p.view.clusters[stored.cluster] {
		if !slices.Contains(stored.written, m.ID) {
			o.Missing = append(o.Missing, m.ID) // whoever reads it now is not to ask there
		}
	}
	if err := d.commitObject(ctx, p, stored, &o); err != nil {
		return store.Object{}, fail(fmt.Errorf("keep %s: %w", t, err), t)
	}
	return o, nil
}
