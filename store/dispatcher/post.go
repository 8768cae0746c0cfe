package dispatcher

import (
	"net/http"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
	"wheelhouse/store/placement"
)

// post answers POST of an object: it changes what is said of the object, and not its bytes. What the request does not
// name stays as it is; user metadata is replaced as a whole when any is given.
func (d *Dispatcher) post(x http1.Exchange, t *target) *failure {
	b, o, err := d.cat.Find(x.Context(), string(t.bucket), string(t.name))
	if b.ID == 0 {
		return fail(err, t)
	}
	if f := d.who(x, t, &b, store.RoleWrite); f != nil {
		return f
	}
	if err != nil {
		return fail(err, t)
	}
	h := &x.Request().Header
	cond, f := parseConditions(h)
	if f != nil {
		return f
	}
	if !cond.forWrite().Holds(&o) {
		return fail(store.ErrPrecondition, t)
	}
	attrs, f := parseAttributes(h, t.name)
	if f != nil {
		return f
	}
	if attrs.replicas > 0 {
		if f := d.checkReplicas(x, &o, int(attrs.replicas), t); f != nil {
			return f
		}
		o.Replicas = attrs.replicas
	}
	if v := h.Get("Content-Type"); v != "" && v != formContentType {
		o.ContentType = attrs.contentType
	}
	if h.Has("Cache-Control") {
		o.CacheControl = attrs.cacheControl
	}
	if attrs.meta != nil {
		o.Meta = attrs.meta
	}
	if err := d.cat.Update(x.Context(), o); err != nil {
		return fail(err, t)
	}
	_ = x.Reply(http.StatusNoContent, nil)
	return nil
}

// checkReplicas refuses to promise more copies than the object's cluster has storages.
func (d *Dispatcher) checkReplicas(x http1.Exchange, o *store.Object, n int, t *target) *failure {
	top, err := d.cat.Topology(x.Context())
	if err != nil {
		return fail(err, t)
	}
	if has := placement.Largest(top, &store.Class{Clusters: []store.ClusterID{o.Cluster}}); n > has {
		return failf(http.StatusBadRequest, "%s: %d, but the object's cluster has %d storages", headerReplicas, n, has)
	}
	return nil
}
