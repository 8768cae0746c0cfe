package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// reproxyDrain is how much of the body of a response that is replaced is read, so that its connection can be used again.
const reproxyDrain = 64 << 10

// maxURLs is how many URLs of X-REPROXY-URL are looked at.
const maxURLs = 32

// reproxied reports whether a response has fields that are between backend and balancer.
func reproxied(h *http1.Header) bool {
	for name := range h.All() {
		if len(name) > len("X-REPROXY-") && is(name[:len("X-REPROXY-")], "x-reproxy-") {
			return true
		}
	}
	return false
}

// order is what a response says to answer with.
type order struct {
	file, service string
	urls          []string
	expected      int64 // size, -1: any
	cacheFor      string
}

func orderOf(h *http1.Header) (order, error) {
	o := order{file: h.Get("X-REPROXY-FILE"), service: h.Get("X-REPROXY-SERVICE"), cacheFor: h.Get("X-REPROXY-CACHE-FOR"), expected: -1}
	o.urls = strings.Fields(h.Joined("X-REPROXY-URL"))
	if v := h.Get("X-REPROXY-EXPECTED-SIZE"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return o, fmt.Errorf("X-REPROXY-EXPECTED-SIZE: %q is no size", v)
		}
		o.expected = n
	}
	return o, nil
}

// stripReproxy removes the fields that are between backend and balancer.
func stripReproxy(h *http1.Header) {
	for _, name := range []string{
		"X-REPROXY-FILE", "X-REPROXY-URL", "X-REPROXY-SERVICE", "X-REPROXY-EXPECTED-SIZE", "X-REPROXY-CACHE-FOR",
	} {
		h.Del(name)
	}
}

// reproxy answers with what a response names. The backend is free before that begins.
func (c *call) reproxy(res *http1.Response) {
	if h := &res.Header; !h.Has("X-REPROXY-FILE") && !h.Has("X-REPROXY-URL") && !h.Has("X-REPROXY-SERVICE") {
		stripReproxy(h) // X-REPROXY-CACHE-FOR of an application that says it each time
		c.relay(res)
		return
	}
	o, err := orderOf(&res.Header)
	status := res.Status
	h := c.x.Header()
	h.Reset()
	copyFields(h, &res.Header, nil)
	stripReproxy(h)
	persist(c.r, h)
	drain(res)
	if status == 204 {
		status = 200
	}
	switch {
	case err != nil:
		c.r.Error(502, "", err.Error())
	case o.file != "":
		c.p.File(c.r, o.file, status, o.expected)
	case len(o.urls) > 0:
		if o.cacheFor != "" {
			c.remember(o, h)
		}
		c.fromURLs(o, status)
	case o.service != "":
		h.Reset()
		if c.x.Request().HasBody() && c.body.rest != nil {
			c.r.Error(502, "", "X-REPROXY-SERVICE: the request's body went to the first service as it came (see buffer_uploads)")
			return
		}
		if c.x.Request().HasBody() {
			c.r.Replay = c.body.reader
		}
		if err := c.r.HandTo(o.service); err != nil {
			c.r.Error(404, "", "X-REPROXY-SERVICE: "+err.Error())
		}
	default:
		c.r.Error(502, "", "the backend's X-REPROXY fields name nothing to answer with")
	}
}

// drain reads what is left of a small body, so that the connection can carry another request, and closes it.
func drain(res *http1.Response) {
	if taken, ok := res.Body.Take(); ok {
		taken.Release()
		return
	}
	if res.ContentLength >= 0 && res.ContentLength <= reproxyDrain || res.ContentLength < 0 {
		// An error only means that the connection is not used again.
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, reproxyDrain+1))
	}
	res.Body.Close()
}

// fromURLs answers with the first of several URLs that can be had. When one breaks off, the next goes on where it stopped.
func (c *call) fromURLs(o order, status int) {
	if err := c.tryURLs(o, status); err != nil {
		c.r.Error(503, "", "none of the URLs could be fetched: "+err.Error())
	}
}

// tryURLs is fromURLs that does not answer, and says why, if none can be had.
func (c *call) tryURLs(o order, status int) error {
	s := stream{c: c, urls: o.urls[:min(len(o.urls), maxURLs)], expected: o.expected, method: "GET"}
	if c.ctx == nil {
		s.c.ctx = c.x.Context()
	}
	q := c.x.Request()
	if q.Method == "HEAD" {
		s.method = "HEAD"
	}
	rng := q.Header.Bytes("Range")
	if bytes.IndexByte(rng, ',') >= 0 || s.method == "HEAD" {
		// An answer of several parts has a Content-Type of its own, where the application's stands. RFC 9110 §14.2: it may be ignored.
		rng = nil
	}
	if h := c.x.Header(); !balancer.IfRange(&q.Header, h.Get("ETag"), h.Get("Last-Modified")) {
		rng = nil
	}
	res := s.open(rng)
	if res == nil {
		return errors.Join(s.errs...)
	}
	h := c.x.Header()
	if res.Status == 206 || res.Status == 416 {
		status = res.Status
		copyOne(h, &res.Header, "Content-Range")
	}
	copyOne(h, &res.Header, "Accept-Ranges")
	s.noteRange(&res.Header, res.Status)
	goOn, err := c.r.Begin(status, res.ContentLength)
	if !goOn || err != nil || bodiless(s.method, status) {
		s.close(res)
		return nil
	}
	c.finish(s.copyAll(res))
	return nil
}

func copyOne(dst, src *http1.Header, name string) {
	if v := src.Bytes(name); v != nil {
		dst.SetBytes(name, v)
	}
}

// stream is a body that is fetched from one URL after another.
type stream struct {
	c        *call
	urls     []string
	next     int
	expected int64
	method   string
	errs     []error
	done     func()

	first, total int64 // of the client's range: its first byte, and the size of the whole; total -1: not known
	size         int64 // of what the client gets
}

// open asks the next URLs until one answers as it should; nil when there is none left.
func (s *stream) open(rng []byte) *http1.Response {
	for s.next < len(s.urls) {
		u := s.urls[s.next]
		s.next++
		res, err := s.ask(u, rng)
		if err == nil {
			return res
		}
		s.errs = append(s.errs, fmt.Errorf("%s: %w", u, err))
		s.c.p.Log.Debug("URL could not be fetched", "url", u, "err", err)
		if s.c.ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

func (s *stream) ask(u string, rng []byte) (*http1.Response, error) {
	l, err := parseLocation(u)
	if err == nil && !l.allowed(s.c.set.ReproxyNetworks) {
		err = errors.New("not in reproxy_url_networks")
	}
	if err != nil {
		return nil, err
	}
	res, done, err := s.c.p.Fetcher.fetch(s.c.ctx, l, s.method, string(s.c.r.Host), rng, s.c.loop())
	if err != nil {
		return nil, err
	}
	s.done = done
	s.c.r.Backend = l.addr
	if (res.Status < 200 || res.Status > 299) && res.Status != 416 {
		err = fmt.Errorf("answered with %d", res.Status)
	} else if n := wholeSize(res); s.expected >= 0 && res.Status != 416 && n != s.expected {
		err = fmt.Errorf("has %d bytes where %d are expected", n, s.expected)
	}
	if err != nil {
		drain(res)
		done()
		return nil, err
	}
	return res, nil
}

// wholeSize is the size of all that a server has a part of, or all, in its answer; -1 when that is not known.
func wholeSize(res *http1.Response) int64 {
	if res.Status != 206 {
		return res.ContentLength
	}
	if _, _, total, ok := parseContentRange(res.Header.Get("Content-Range")); ok {
		return total
	}
	return -1
}

func (s *stream) close(res *http1.Response) {
	res.Body.Close()
	s.done()
}

// noteRange remembers what part of the whole the client gets, so that another URL can go on with it.
func (s *stream) noteRange(h *http1.Header, status int) {
	s.first, s.total = 0, -1
	if status == 206 {
		first, _, total, ok := parseContentRange(h.Get("Content-Range"))
		if ok {
			s.first, s.total = first, total
		}
		return
	}
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil {
		s.total = n
	}
}

// parseContentRange reads bytes FIRST-LAST/TOTAL (RFC 9110 §14.4).
func parseContentRange(v string) (first, last, total int64, ok bool) {
	_, err := fmt.Sscanf(v, "bytes %d-%d/%d", &first, &last, &total)
	return first, last, total, err == nil && first >= 0 && last >= first && total > last
}

// copyAll sends the body; where a server breaks off, the next goes on from there by a range request.
func (s *stream) copyAll(res *http1.Response) error {
	s.size = res.ContentLength
	sent := s.c.r.Sent
	for {
		err := s.c.copyBody(res, s.c.set.BufferSizeReproxyURL)
		s.done()
		var read *http1.BodyReadError
		if err == nil || !errors.As(err, &read) || s.c.clientGone(err) || s.total < 0 || s.size < 0 {
			return err
		}
		got := s.c.r.Sent - sent
		s.c.p.Log.Info("server broke off, the next goes on", "addr", s.c.r.Backend, "sent", got, "err", read.Err)
		res = s.resume(s.first+got, s.first+s.size-1)
		if res == nil {
			return err
		}
	}
}

// resume asks the next URLs for what is missing, and takes only what fits exactly.
func (s *stream) resume(from, last int64) *http1.Response {
	for {
		res := s.open(fmt.Appendf(nil, "bytes=%d-%d", from, last))
		if res == nil {
			return nil
		}
		first, end, total, ok := parseContentRange(res.Header.Get("Content-Range"))
		if ok && res.Status == 206 && first == from && end == last && total == s.total && res.ContentLength == last-from+1 {
			return res
		}
		s.errs = append(s.errs, fmt.Errorf("%s cannot go on at byte %d", s.c.r.Backend, from))
		drain(res)
		s.done()
	}
}
