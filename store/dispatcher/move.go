package dispatcher

import (
	"net/http"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// moveObject answers MOVE of an object: it gets another name, perhaps in another bucket; nothing is copied.
func (d *Dispatcher) moveObject(x http1.Exchange, t *target) *failure {
	from, f := d.bucketFor(x, t, store.RoleWrite)
	if f != nil {
		return f
	}
	for _, name := range []string{"If-Match", "If-None-Match", "If-Unmodified-Since"} { // who sends one relies on it
		if x.Request().Header.Has(name) {
			return failf(http.StatusBadRequest, "%s is not supported with MOVE", name)
		}
	}
	dest, f := destination(x)
	if f != nil {
		return f
	}
	if len(dest.name) == 0 {
		return failf(http.StatusBadRequest, "%s names a bucket and no object: %s", headerDestination, dest)
	}
	to, f := d.bucketFor(x, dest, store.RoleWrite)
	if f != nil {
		return f
	}
	if err := d.cat.Rename(x.Context(), from.ID, string(t.name), to.ID, string(dest.name)); err != nil {
		if f := fail(err, t); f.status != http.StatusConflict {
			return f
		}
		return fail(err, dest)
	}
	return created(x, "Created "+t.String())
}

// moveBucket answers MOVE of a bucket.
func (d *Dispatcher) moveBucket(x http1.Exchange, t *target) *failure {
	if _, f := d.bucketFor(x, t, store.RoleWrite); f != nil {
		return f
	}
	dest, f := destination(x)
	if f != nil {
		return f
	}
	if len(dest.name) > 0 {
		return failf(http.StatusBadRequest, "%s contains an object name: %s", headerDestination, dest)
	}
	if isReserved(dest.bucket) {
		return failf(http.StatusBadRequest, "%s: the bucket name %q is reserved", headerDestination, dest.bucket)
	}
	if err := d.cat.RenameBucket(x.Context(), string(t.bucket), string(dest.bucket)); err != nil {
		if f := fail(err, t); f.status != http.StatusConflict {
			return f
		}
		return fail(err, dest)
	}
	return created(x, "Moved")
}

// destination reads the header that says where to.
func destination(x http1.Exchange) (*target, *failure) {
	v := x.Request().Header.Bytes(headerDestination)
	if v == nil {
		return nil, failf(http.StatusBadRequest, "%s was not specified", headerDestination)
	}
	dest, f := parsePath(v)
	if f == nil {
		f = dest.check()
	}
	if f != nil {
		f.reason = headerDestination + ": " + f.reason
		return nil, f
	}
	return &dest, nil
}

func created(x http1.Exchange, text string) *failure {
	x.Header().Set("Content-Type", "text/plain; charset=utf-8")
	x.Header().Set("X-Content-Type-Options", "nosniff")
	_ = x.Reply(http.StatusCreated, []byte(text+"\n"))
	return nil
}
