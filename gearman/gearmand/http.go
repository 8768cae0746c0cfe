package gearmand

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"wheelhouse/gearman/packet"
)

// Fields of the HTTP front.
const (
	fieldHandle     = "X-Gearman-Job-Handle"
	fieldCommand    = "X-Gearman-Command"
	fieldUnique     = "X-Gearman-Unique"
	fieldBackground = "X-Gearman-Background"
	fieldPriority   = "X-Gearman-Priority"
)

// HTTPHandler lets HTTP clients submit jobs: GET, POST or PUT /FUNCTION with the workload as body is answered with the result;
// with "Accept: text/event-stream", by events as they come. A client that goes away takes its job with it, unless that runs
// already or is a background job.
func (s *Server) HTTPHandler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "Gearman/"+Version)
	switch r.Method {
	case http.MethodGet, http.MethodPost, http.MethodPut:
	default:
		w.Header().Set("Allow", "GET, POST, PUT")
		http.Error(w, "method "+r.Method+" is not known here", http.StatusMethodNotAllowed)
		return
	}
	u, status, err := s.readHTTP(w, r)
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	c, err := s.enterHTTP()
	if err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer s.leaveHTTP(c)
	streams := strings.Contains(r.Header.Get("Accept"), "text/event-stream")
	s.mu.Lock()
	c.collects = !streams
	s.lasting = true // nobody else has the body
	s.submit(c, u)
	s.lasting = false
	u.data = nil
	s.unlock(nil)
	call := &httpCall{c: c, w: w, r: r, background: u.background}
	if streams {
		call.stream()
	} else {
		call.answer()
	}
}

// readHTTP makes a submission of a request.
func (s *Server) readHTTP(w http.ResponseWriter, r *http.Request) (*submission, int, error) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" {
		return nil, http.StatusNotFound, errors.New("no function: the path names it, as in /reverse")
	}
	u := &submission{fn: []byte(name), unique: []byte(r.Header.Get(fieldUnique)), prio: Normal}
	if refused := u.check(); refused != nil {
		return nil, http.StatusBadRequest, errors.New(refused.text)
	}
	if strings.ContainsRune(name, 0) || strings.ContainsRune(string(u.unique), 0) {
		return nil, http.StatusBadRequest, errors.New("the function or the unique has a NUL")
	}
	switch p := strings.ToLower(r.Header.Get(fieldPriority)); p {
	case "", "normal":
	case "high":
		u.prio = High
	case "low":
		u.prio = Low
	default:
		return nil, http.StatusBadRequest, fmt.Errorf("%s is %.20q; want high, normal or low", fieldPriority, p)
	}
	switch b := strings.ToLower(r.Header.Get(fieldBackground)); b {
	case "", "false", "0":
	case "true", "1":
		u.background = true
	default:
		return nil, http.StatusBadRequest, fmt.Errorf("%s is %.20q; want true or false", fieldBackground, b)
	}
	data, status, err := s.readBody(w, r)
	u.data = data
	return u, status, err
}

// readBody reads a workload, in memory that is counted while it is being read. It grows with what has arrived.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (data []byte, status int, err error) {
	body := http.MaxBytesReader(w, r.Body, int64(s.opts.MaxPacket))
	var counted int64
	defer func() { s.memory.Add(-counted) }()
	for {
		if len(data) == cap(data) {
			size := max(4<<10, 2*cap(data))
			if !s.reserve(int64(size) - counted) {
				return nil, http.StatusServiceUnavailable, errors.New(errMemory.text)
			}
			counted = int64(size)
			data = append(make([]byte, 0, size), data...)
		}
		n, err := body.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch _, big := errors.AsType[*http.MaxBytesError](err); {
		case err == io.EOF:
			return data, 0, nil
		case big:
			return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("a workload has at most %d bytes here", s.opts.MaxPacket)
		case err != nil:
			return nil, http.StatusBadRequest, fmt.Errorf("the body cannot be read: %w", err)
		}
	}
}

// enterHTTP makes a connection that stands for a request.
func (s *Server) enterHTTP() (*conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, errors.New(errStopping.text)
	}
	if len(s.conns) >= s.opts.MaxConns {
		s.counts.turnedAway.Add(1)
		return nil, errors.New("too many connections")
	}
	c := s.newConn(nil)
	c.exceptions = true
	s.conns[c] = struct{}{}
	return c, nil
}

func (s *Server) leaveHTTP(c *conn) {
	s.mu.Lock()
	s.leave(c)
	delete(s.conns, c)
	s.unlock(nil)
	c.shut()
}

// httpCall is one request that waits for its job.
type httpCall struct {
	c          *conn
	w          http.ResponseWriter
	r          *http.Request
	background bool
	handle     string
	result     []byte
	counted    int // of it, in Server.memory
}

// Why the server has ended a call.
var (
	errEnded   = errors.New(errStopping.text)
	errTooMuch = errors.New("more waits for the client than may wait")
)

// next waits for packets and calls f with each until it returns false. The error says why there will be no more.
func (k *httpCall) next(f func(t packet.Type, data []byte) bool) error {
	for {
		select {
		case <-k.c.ready:
		case <-k.r.Context().Done():
			return k.r.Context().Err()
		}
		b, open := k.c.take()
		for len(b) >= packet.HeaderSize {
			h := packet.ParseHeader(b)
			end := packet.HeaderSize + int(h.Size)
			if !f(h.Type, b[packet.HeaderSize:end]) {
				return nil
			}
			b = b[end:]
		}
		switch {
		case open:
		case k.c.srv.isStopping():
			return errEnded
		default:
			return errTooMuch
		}
	}
}

// take takes what has been sent to an HTTP request.
func (c *conn) take() (b []byte, open bool) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.srv.memory.Add(int64(-c.slow))
	c.slow = 0
	if c.out.head == c.out.tail && c.out.head != nil {
		return c.out.pop().b, !c.closed
	}
	for next := c.out.pop(); next != nil; next = c.out.pop() {
		b = append(b, next.b...)
	}
	return b, !c.closed
}

// cut splits a packet's data at the handle.
func cut(data []byte) (handle string, rest []byte) {
	for i, b := range data {
		if b == 0 {
			return string(data[:i]), data[i+1:]
		}
	}
	return string(data), nil
}

// answer answers once the job has ended; what it sends meanwhile as data comes before the result.
func (k *httpCall) answer() {
	err := k.next(func(t packet.Type, data []byte) bool {
		handle, rest := cut(data)
		switch t {
		case packet.JobCreated:
			k.handle = handle
			if k.background {
				k.reply(http.StatusOK, t, nil)
				return false
			}
		case packet.WorkData:
			if len(k.result)+len(rest) > k.c.srv.opts.MaxPacket || !k.c.srv.reserve(int64(len(rest))) {
				k.tooLarge()
				return false
			}
			k.counted += len(rest)
			k.result = append(k.result, rest...)
		case packet.WorkComplete:
			k.reply(http.StatusOK, t, append(k.result, rest...))
			return false
		case packet.WorkFail:
			k.reply(http.StatusInternalServerError, t, []byte("the job failed\n"))
			return false
		case packet.WorkException:
			k.reply(http.StatusInternalServerError, t, rest)
			return false
		case packet.Error:
			k.w.Header().Set("Retry-After", "1")
			k.reply(http.StatusServiceUnavailable, t, append(rest, '\n'))
			return false
		}
		return true
	})
	k.c.srv.memory.Add(int64(-k.counted))
	switch err {
	case errEnded:
		k.reply(http.StatusServiceUnavailable, packet.Error, []byte(err.Error()+"\n"))
	case errTooMuch:
		k.tooLarge()
	}
}

func (k *httpCall) tooLarge() {
	k.reply(http.StatusInternalServerError, packet.WorkFail, []byte("the result is too large\n"))
}

func (k *httpCall) reply(status int, t packet.Type, body []byte) {
	h := k.w.Header()
	if k.handle != "" {
		h.Set(fieldHandle, k.handle)
	}
	h.Set(fieldCommand, t.String())
	h.Set("Content-Length", fmt.Sprint(len(body)))
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	k.w.WriteHeader(status)
	k.w.Write(body) // a client that has gone does not miss it
}

// events are the packets' names as server-sent events.
var events = map[packet.Type]string{
	packet.JobCreated: "created", packet.WorkStatus: "status", packet.WorkData: "data", packet.WorkWarning: "warning",
	packet.WorkComplete: "complete", packet.WorkFail: "fail", packet.WorkException: "exception", packet.Error: "error",
}

// stream answers with an event for each packet. The data of created is the handle, of status "numerator/denominator".
func (k *httpCall) stream() {
	h := k.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	k.w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(k.w)
	err := k.next(func(t packet.Type, data []byte) bool {
		handle, rest := cut(data)
		switch t {
		case packet.JobCreated:
			rest = []byte(handle)
		case packet.WorkStatus:
			n, d := cut(rest)
			rest = []byte(n + "/" + string(d))
		}
		k.event(events[t], rest)
		if out.Flush() != nil {
			return false
		}
		switch t {
		case packet.WorkComplete, packet.WorkFail, packet.WorkException, packet.Error:
			return false
		}
		return t != packet.JobCreated || !k.background
	})
	if err == errEnded || err == errTooMuch {
		k.event("error", []byte(err.Error()))
	}
}

func (k *httpCall) event(name string, data []byte) {
	var b strings.Builder
	b.WriteString("event: " + name + "\n")
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteString("data: " + line + "\n")
	}
	b.WriteString("\n")
	io.WriteString(k.w, b.String()) // Flush tells when the client has gone
}
