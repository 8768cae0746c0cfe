package dispatcher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// failure is an answer that is not what the client asked for: a status and one plain sentence that names what was wrong.
type failure struct {
	status int
	reason string
	header []headerField // sent along: Retry-After, WWW-Authenticate, Content-Range
	cause  error         // for the log, where it is ours; nil where it is the client's
}

type headerField struct{ name, value string }

func (f *failure) Error() string { return f.reason }

func failf(status int, format string, args ...any) *failure {
	return &failure{status: status, reason: fmt.Sprintf(format, args...)}
}

func (f *failure) with(name, value string) *failure {
	f.header = append(f.header, headerField{name, value})
	return f
}

// statuses translates the store's errors. Every sentinel that a request can meet stands here; the others are 500.
var statuses = []struct {
	err    error
	status int
	reason string
}{
	{store.ErrNoBucket, http.StatusNotFound, "no such bucket"},
	{store.ErrNoObject, http.StatusNotFound, "no such object"},
	{store.ErrNoEntity, http.StatusServiceUnavailable, "no storage has the object's bytes at the moment"},
	{store.ErrCorrupt, http.StatusServiceUnavailable, "no storage has good bytes of the object at the moment"},
	{store.ErrExists, http.StatusConflict, "something has that name already"},
	{store.ErrNotEmpty, http.StatusForbidden, "the bucket is not empty: send X-STF-Recursive-Delete: true to delete its objects too"},
	{store.ErrPrecondition, http.StatusPreconditionFailed, "the object is not in the state that the request's conditions demand"},
	{store.ErrLease, http.StatusServiceUnavailable, "the upload was taken for abandoned; send it again"},
	{store.ErrNoWritable, http.StatusServiceUnavailable, "no cluster can take the object at the moment"},
	{store.ErrFull, http.StatusInsufficientStorage, "the storages are full"},
	{store.ErrNoChanges, http.StatusServiceUnavailable, "the catalog takes no changes at the moment"},
	{store.ErrReadOnly, http.StatusServiceUnavailable, "the storages take no writes at the moment"},
	{store.ErrNoAccount, http.StatusUnauthorized, "no such access key"},
	{store.ErrSignature, http.StatusForbidden, "the URL's signature is not valid"},
	{store.ErrInUse, http.StatusConflict, "it is still in use"},
	{store.ErrNoStorage, http.StatusNotFound, "no such storage"},
	{store.ErrNoCluster, http.StatusNotFound, "no such cluster"},
}

// fail turns an error of the catalog or a device into a failure about what.
func fail(err error, what *target) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*http1.Error](err); ok { // the client broke the protocol or a limit in mid-body
		return failf(e.Status, "%s", e.Reason)
	}
	for _, s := range statuses {
		if !errors.Is(err, s.err) {
			continue
		}
		f := failf(s.status, "%s: %s", s.reason, what.String()) // a *target here would make every request's escape
		if s.status >= 500 {
			f.cause = err
			if s.status != http.StatusInsufficientStorage { // nobody gets room in two seconds
				f.with("Retry-After", "2")
			}
		}
		return f
	}
	return &failure{status: http.StatusInternalServerError, reason: "internal error; the server's log says more", cause: err}
}

// send answers with f, as JSON where the client accepts that, else as text.
func (f *failure) send(x http1.Exchange) {
	h := x.Header()
	h.Reset()
	for _, field := range f.header {
		h.Set(field.name, field.value)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	if bytes.Contains(x.Request().Header.Bytes("Accept"), []byte("application/json")) {
		h.Set("Content-Type", "application/json")
		body, err := json.Marshal(struct {
			Status int    `json:"status"`
			Error  string `json:"error"`
		}{f.status, f.reason})
		if err == nil {
			_ = x.Reply(f.status, append(body, '\n')) // a client that is gone needs no answer
			return
		}
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	_ = x.Reply(f.status, []byte(f.reason+"\n"))
}
