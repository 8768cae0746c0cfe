package dispatcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

const bucketMethods = "GET, HEAD, PUT, DELETE, POST, MOVE, OPTIONS"

// serveBucket answers requests whose path names a bucket and no object.
func (d *Dispatcher) serveBucket(x http1.Exchange, t *target) *failure {
	switch x.Request().Method {
	case http.MethodGet, http.MethodHead:
		return d.getBucket(x, t)
	case http.MethodPut:
		return d.putBucket(x, t)
	case http.MethodPost:
		return d.postBucket(x, t)
	case http.MethodDelete:
		return d.deleteBucket(x, t)
	case methodMove:
		return d.moveBucket(x, t)
	case http.MethodOptions:
		return options(x, bucketMethods)
	}
	return notAllowed(x, bucketMethods)
}

// putBucket creates a bucket: 201, or 204 when the account has it already.
func (d *Dispatcher) putBucket(x http1.Exchange, t *target) *failure {
	r := x.Request()
	if r.ContentLength != 0 {
		return failf(http.StatusBadRequest, "a bucket has no body: could not extract an object name from %s", t)
	}
	p, err := d.auth.Authenticate(x, t.String())
	if err != nil {
		return fail(err, t)
	}
	if p.Role < store.RoleWrite || r.Query != nil && strings.Contains(string(r.Query), store.ParamSignature+"=") {
		return forbid(p, t)
	}
	if isReserved(t.bucket) {
		return failf(http.StatusBadRequest, "the bucket name %q is reserved", t.bucket)
	}
	b := store.Bucket{Name: string(t.bucket), Owner: p.Account}
	if f := d.bucketAttributes(x, t, &b); f != nil {
		return f
	}
	there, err := d.cat.CreateBucket(x.Context(), b)
	if errors.Is(err, store.ErrExists) {
		if !p.May(&there, store.RoleWrite) {
			return failf(http.StatusConflict, "the bucket belongs to another account: %s", t)
		}
		_ = x.Reply(http.StatusNoContent, nil)
		return nil
	}
	if err != nil {
		return fail(err, t)
	}
	return created(x, "Created bucket")
}

// isReserved reports whether the name is one that the store's own paths begin with, or that of a bucket of its own.
func isReserved(bucket []byte) bool {
	return string(bucket) == "-" || string(bucket) == store.DerivedBucket || string(bucket) == store.CatalogBucket
}

// postBucket changes what is said of a bucket.
func (d *Dispatcher) postBucket(x http1.Exchange, t *target) *failure {
	b, f := d.bucketFor(x, t, store.RoleWrite)
	if f != nil {
		return f
	}
	if f := d.bucketAttributes(x, t, &b); f != nil {
		return f
	}
	if err := d.cat.UpdateBucket(x.Context(), b); err != nil {
		return fail(err, t)
	}
	_ = x.Reply(http.StatusNoContent, nil)
	return nil
}

// bucketAttributes takes over what a request says of a bucket.
func (d *Dispatcher) bucketAttributes(x http1.Exchange, t *target, b *store.Bucket) *failure {
	h := &x.Request().Header
	if h.Has(headerBucketOwner) {
		if f := d.setOwner(x, t, b, h.Get(headerBucketOwner)); f != nil {
			return f
		}
	}
	if h.Has(headerBucketAccess) {
		a, err := store.ParseAccess(h.Get(headerBucketAccess))
		if err != nil {
			return failf(http.StatusBadRequest, "%s: %v", headerBucketAccess, err)
		}
		b.Access = a
	}
	if h.Has(headerBucketCache) {
		b.CacheControl = h.Get(headerBucketCache)
		if len(b.CacheControl) > store.MaxContentType {
			return failf(http.StatusBadRequest, "%s is longer than %d bytes", headerBucketCache, store.MaxContentType)
		}
	}
	if !h.Has(headerBucketClass) {
		return nil
	}
	v, err := d.views.get(x.Context(), d.cat)
	if err != nil {
		return fail(err, &target{})
	}
	b.Class = h.Get(headerBucketClass)
	if v.classes[b.Class] == nil && b.Class != store.DefaultClass && b.Class != "" {
		return failf(http.StatusBadRequest, "%s: there is no class %s", headerBucketClass, quoteSome([]byte(b.Class)))
	}
	return nil
}

// setOwner gives a bucket to an account.
func (d *Dispatcher) setOwner(x http1.Exchange, t *target, b *store.Bucket, v string) *failure {
	p, err := d.auth.Authenticate(x, t.String())
	if err != nil {
		return fail(err, t)
	}
	id, err := strconv.ParseInt(v, 10, 64)
	switch {
	case p.Role != store.RoleAdmin:
		return failf(http.StatusForbidden, "%s: only administrators give buckets away", headerBucketOwner)
	case err != nil || id < 0:
		return failf(http.StatusBadRequest, "%s: %s is no id of an account", headerBucketOwner, quoteSome([]byte(v)))
	case id > 0:
		list, err := d.cat.Accounts(x.Context())
		if err != nil {
			return fail(err, &target{})
		}
		if !slices.ContainsFunc(list, func(a store.Account) bool { return a.ID == store.AccountID(id) }) {
			return failf(http.StatusBadRequest, "%s: there is no account %d", headerBucketOwner, id)
		}
	}
	b.Owner = store.AccountID(id)
	return nil
}

// deleteBucket removes a bucket; one that holds objects only when the request says so.
func (d *Dispatcher) deleteBucket(x http1.Exchange, t *target) *failure {
	if _, f := d.bucketFor(x, t, store.RoleWrite); f != nil {
		return f
	}
	recursive := strings.EqualFold(x.Request().Header.Get(headerRecursiveDelete), "true") ||
		x.Request().Header.Get(headerRecursiveDelete) == "1"
	if err := d.cat.DeleteBucket(x.Context(), string(t.bucket), recursive); err != nil {
		return fail(err, t)
	}
	_ = x.Reply(http.StatusNoContent, nil)
	return nil
}

// bucketJSON is a bucket as clients see it.
type bucketJSON struct {
	Name         string    `json:"name"`
	Access       string    `json:"access"`
	Class        string    `json:"class"`
	Owner        string    `json:"owner,omitempty"`
	CacheControl string    `json:"cache_control,omitempty"`
	Created      time.Time `json:"created"`
}

func toBucketJSON(b *store.Bucket) bucketJSON {
	class := b.Class
	if class == "" {
		class = store.DefaultClass
	}
	owner := ""
	if b.Owner != 0 {
		owner = fmt.Sprint(b.Owner)
	}
	return bucketJSON{b.Name, b.Access.String(), class, owner, b.CacheControl, b.Created.UTC()}
}

// getBucket tells about a bucket, or lists it (?list).
func (d *Dispatcher) getBucket(x http1.Exchange, t *target) *failure {
	b, f := d.bucketFor(x, t, store.RoleRead)
	if f != nil {
		return f
	}
	query, f := parseQuery(x)
	if f != nil {
		return f
	}
	if query.Has("list") {
		return d.list(x, &b, query)
	}
	return replyJSON(x, toBucketJSON(&b))
}

// serveRoot answers requests for "/": the list of buckets.
func (d *Dispatcher) serveRoot(x http1.Exchange) *failure {
	switch x.Request().Method {
	case http.MethodOptions:
		return options(x, "GET, HEAD, OPTIONS")
	case http.MethodGet, http.MethodHead:
	default:
		return failf(http.StatusBadRequest, "the path names no bucket")
	}
	t := &target{}
	p, err := d.auth.Authenticate(x, "/")
	if err != nil {
		return fail(err, t)
	}
	if p.Role < store.RoleRead {
		return forbid(p, t)
	}
	query, f := parseQuery(x)
	if f != nil {
		return f
	}
	limit, f := listLimit(query)
	if f != nil {
		return f
	}
	answer := struct {
		Buckets   []bucketJSON `json:"buckets"`
		NextAfter string       `json:"next_after,omitempty"`
	}{Buckets: []bucketJSON{}}
	buckets, err := d.cat.ListBuckets(x.Context(), query.Get("after"), limit)
	if err != nil {
		return fail(err, t)
	}
	for i := range buckets {
		if p.May(&buckets[i], store.RoleRead) {
			answer.Buckets = append(answer.Buckets, toBucketJSON(&buckets[i]))
		}
	}
	if len(buckets) == limit {
		answer.NextAfter = buckets[len(buckets)-1].Name
	}
	return replyJSON(x, answer)
}

func parseQuery(x http1.Exchange) (url.Values, *failure) {
	query, err := url.ParseQuery(string(x.Request().Query))
	if err != nil {
		return nil, failf(http.StatusBadRequest, "the query cannot be parsed: %s", quoteSome(x.Request().Query))
	}
	return query, nil
}

func replyJSON(x http1.Exchange, v any) *failure {
	body, err := json.Marshal(v)
	if err != nil {
		return fail(err, &target{})
	}
	x.Header().Set("Content-Type", "application/json")
	x.Header().Set("X-Content-Type-Options", "nosniff")
	_ = x.Reply(http.StatusOK, append(body, '\n'))
	return nil
}
