package balancer

import (
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"wheelhouse/internal/http1"
)

// Priority is the queue that a request waits in for a backend.
type Priority int8

// The queues, in the order in which they are served.
const (
	High Priority = iota
	Normal
	Low
)

// Service is a service as its requests and plugins see it. All methods are safe for concurrent use.
type Service interface {
	Name() string
	Log() *slog.Logger
	// Queues says how many requests wait for a backend in the queue, and since when the longest does.
	Queues(Priority) (count int, oldest time.Duration)
}

// Request is one request under way. It belongs to the goroutine that serves it, and nothing of it is valid after the service has
// answered.
type Request struct {
	// X is the exchange with the client. Its answer's head is best begun by Begin, so that plugins and logs see it.
	X http1.Exchange
	// Set is the configuration of the service that answers, with which the request began there; Entry that of the service which
	// took the connection.
	Set, Entry *Settings
	Service    Service

	// Path and Query are what is asked for, still encoded; Host is the authority as the client sent it. Plugins may change all
	// three.
	Path, Query, Host []byte

	Client   netip.AddrPort // the peer, or whom the PROXY header names
	Observed netip.Addr     // the client as a trusted upstream reports it, else Client's address
	Trusted  bool
	Priority Priority

	// Standby says that an answer is at hand for when none can be had: where no backend can be used now, none is waited for.
	Standby bool

	// Edits are fields to set (Value) or remove in what goes to the backend, after the client's own.
	Edits []HeaderEdit

	// What logs and metrics want to know.
	ID       string // X-Request-Id
	Began    time.Time
	Queued   time.Duration // waited for a backend
	Head     time.Duration // request sent to response's head
	Backend  string        // address that answered
	Status   int
	Sent     int64  // bytes of body
	Attempts int    // backends asked
	Reason   string // why an answer of the balancer's own is an error
	CacheHit string // "", hit, miss, stale, …

	// Replay gives the request's body from its beginning, after a service has read it and handed the request on; nil: nothing was
	// read, and the body is X's. Use Body.
	Replay func() io.Reader

	// Watch is what the console shows of the request while it is under way.
	Watch Watch

	answer Answer
	chain  *Chain
	past   []*Chain // of the services that have handed the request on
	hand   func(r *Request, service string) error
	values map[any]any
}

// Refusal is a request that a service's listener has answered by itself: it was none, or its head was too large or too slow. No plugin and
// no role has seen it.
type Refusal struct {
	Service Service   // whose listener took the connection
	Set     *Settings // its
	Client  netip.AddrPort
	TLS     bool
	Began   time.Time
	Line    []byte // the request line as far as it came, whatever it is; valid only during the call
	Status  int
	Sent    int64 // bytes of body
	Reason  string
}

// HeaderEdit sets a field, or removes it.
type HeaderEdit struct {
	Name, Value string
	Remove      bool
}

// Answer is the head of an answer that is about to be sent. Plugins may change all of it.
type Answer struct {
	Status int
	Size   int64 // of the body without Prefix, -1: not known
	Header *http1.Header
	Prefix []byte // goes before the body
}

// Reset readies r for an exchange.
func (r *Request) Reset(x http1.Exchange, svc Service, set *Settings, chain *Chain, hand func(*Request, string) error) {
	q := x.Request()
	edits := r.Edits[:0]
	clear(r.past)
	past := r.past[:0]
	clear(r.values)
	*r = Request{
		X: x, Set: set, Entry: set, Service: svc, Path: q.Path, Query: q.Query, Host: q.Host, Priority: Normal,
		Edits: edits, Began: time.Now(), chain: chain, past: past, hand: hand, values: r.values,
	}
}

// Fork is a copy of the request, as far as it has come, on another exchange: for work that outlives the client's own. It shares no
// memory with r that r's exchange may use again.
func (r *Request) Fork(x http1.Exchange) *Request {
	q := x.Request()
	return &Request{
		X: x, Set: r.Set, Entry: r.Entry, Service: r.Service, Path: q.Path, Query: q.Query, Host: q.Host, Client: r.Client,
		Observed: r.Observed, Trusted: r.Trusted, Priority: Low, ID: r.ID, Began: time.Now(), chain: r.chain, hand: r.hand,
	}
}

// Move makes another service answer: its settings and plugins are in force from now on.
func (r *Request) Move(svc Service, set *Settings, chain *Chain) {
	if r.chain != nil {
		r.past = append(r.past, r.chain)
	}
	r.Service, r.Set, r.chain = svc, set, chain
}

// End tells the plugins of all services that have had to do with the request that it is over, the first service's last.
func (r *Request) End() {
	if r.chain != nil {
		r.chain.End(r)
	}
	for _, c := range slices.Backward(r.past) {
		c.End(r)
	}
}

// Chain is the plugins of the service that answers.
func (r *Request) Chain() *Chain { return r.chain }

// Body is the request's body, from its beginning.
func (r *Request) Body() io.Reader {
	if r.Replay != nil {
		return r.Replay()
	}
	return r.X.Body()
}

// HandTo has another service answer the request from the beginning. It returns when that is done, or with an error, before
// anything was answered, when there is no such service, its role cannot take requests, or requests go round in a circle.
func (r *Request) HandTo(service string) error { return r.hand(r, service) }

// Value is what a plugin has kept with the request under key; keys are of types of the plugin's own.
func (r *Request) Value(key any) any { return r.values[key] }

// SetValue keeps a value with the request.
func (r *Request) SetValue(key, v any) {
	if r.values == nil {
		r.values = map[any]any{}
	}
	r.values[key] = v
}

// Fields are the request's, with Edits made: what a role that answers by itself goes by, since a cache in front of it has conditions of its
// own. Without Edits they are the client's, so they must not be changed.
func (r *Request) Fields() *http1.Header {
	q := r.X.Request()
	if len(r.Edits) == 0 {
		return &q.Header
	}
	h := &q.WithHeader().Header
	r.Edit(h)
	return h
}

// Edit makes Edits in fields.
func (r *Request) Edit(h *http1.Header) {
	for _, e := range r.Edits {
		if e.Remove {
			h.Del(e.Name)
		} else {
			h.Set(e.Name, e.Value)
		}
	}
}

// Begin has the plugins look at an answer's head, and sends it. The fields are those of X.Header(). What it returns besides an
// error is whether a body follows from the caller: a plugin may have answered instead.
func (r *Request) Begin(status int, size int64) (goOn bool, err error) {
	a := &r.answer
	*a = Answer{Status: status, Size: size, Header: r.X.Header()}
	if r.chain != nil {
		for _, h := range r.chain.answer {
			if h.Answer(r, a) {
				return false, nil
			}
		}
	}
	r.Status = a.Status
	total := a.Size
	if total >= 0 {
		total += int64(len(a.Prefix))
	}
	if err := r.X.Start(a.Status, total); err != nil {
		return false, err
	}
	if len(a.Prefix) > 0 {
		_, err = r.X.Write(a.Prefix)
	}
	return true, err
}

// Reply sends a whole answer. The fields are those of X.Header().
func (r *Request) Reply(status int, body []byte) {
	if goOn, err := r.Begin(status, int64(len(body))); err != nil || !goOn || len(body) == 0 {
		return
	}
	n, _ := r.X.Write(body) // a client that is gone needs no answer
	r.Sent += int64(n)
}

// Error answers with one of the balancer's own pages. text is shown to the client, reason is for the log; both may be empty.
func (r *Request) Error(status int, text, reason string) {
	r.ErrorAfter(status, 0, text, reason)
}

// ErrorAfter is Error that tells the client when to try again: Retry-After, in whole seconds.
func (r *Request) ErrorAfter(status int, wait time.Duration, text, reason string) {
	r.Reason = reason
	if r.X.Started() {
		r.X.Abort()
		return
	}
	h := r.X.Header()
	h.Reset()
	h.Set("Content-Type", "text/html")
	if wait > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	if !r.Entry.PersistClient {
		h.Set("Connection", "close")
	}
	if r.Set.ServerTokens {
		h.Set("Server", ServerToken)
	}
	r.Reply(status, Page(status, text))
}

// ServerToken is the Server field of answers of the balancer's own.
const ServerToken = "Perlbal"

// Page is the body of an answer of the balancer's own.
func Page(status int, text string) []byte {
	b := append([]byte("<h1>"), strconv.Itoa(status)...)
	b = append(b, " - "...)
	b = append(b, StatusText(status)...)
	b = append(b, "</h1>\n"...)
	return append(b, html.EscapeString(text)...)
}

// StatusText is the phrase of a status, as Perlbal's pages have it where they have one.
func StatusText(status int) string {
	switch status {
	case 301:
		return "Permanent Redirect"
	case 400:
		return "Bad request"
	case 416:
		return "Request range not satisfiable"
	case 500:
		return "Internal server error"
	}
	return http.StatusText(status)
}

// URI is path and query as they go to a backend.
func (r *Request) URI() string {
	if r.Query == nil {
		return string(r.Path)
	}
	return string(r.Path) + "?" + string(r.Query)
}
