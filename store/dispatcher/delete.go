package dispatcher

import (
	"net/http"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// delete answers DELETE of an object. The object is out of view when the client is told; its entities are deleted by a
// job after the grace time.
func (d *Dispatcher) delete(x http1.Exchange, t *target) *failure {
	b, f := d.bucketFor(x, t, store.RoleWrite)
	if f != nil {
		return f
	}
	cond, f := parseConditions(&x.Request().Header)
	if f != nil {
		return f
	}
	if _, err := d.cat.Delete(x.Context(), b.ID, string(t.name), cond.forWrite()); err != nil {
		return fail(err, t)
	}
	_ = x.Reply(http.StatusNoContent, nil)
	return nil
}

// bucketFor finds the target's bucket and checks that the request may act on it as far as role reaches.
func (d *Dispatcher) bucketFor(x http1.Exchange, t *target, role store.Role) (store.Bucket, *failure) {
	b, err := d.cat.Bucket(x.Context(), string(t.bucket))
	if err != nil {
		return b, fail(err, t)
	}
	return b, d.who(x, t, &b, role)
}
