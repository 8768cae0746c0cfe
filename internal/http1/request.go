package http1

import "bytes"

// Request is a parsed request head. Its slices point into the connection's buffer: they are valid until the exchange
// ends, and must not be written to.
type Request struct {
	// Method is the method as sent; RFC 9110 §9.1: it is case-sensitive.
	Method string
	// Target is the request target as sent.
	Target []byte
	// Path is the raw path: undecoded, and for absolute-form the part after the authority. "*" for asterisk-form, nil for
	// authority-form (CONNECT).
	Path []byte
	// Query is what follows the '?', raw; nil when there is none.
	Query []byte
	// Host is the authority of an absolute-form target, else the value of Host (RFC 9112 §3.2.2).
	Host []byte
	// Minor is x of HTTP/1.x.
	Minor int
	// HTTP2 says that the request came over HTTP/2, whatever Minor is: see [NetHTTP].
	HTTP2 bool
	// Header is all fields, as sent.
	Header Header
	// ContentLength is the body's length: -1 when it is chunked, 0 when there is none.
	ContentLength int64
	// ExpectContinue is true when the client waits for 100 Continue before it sends a body.
	ExpectContinue bool
	// ID numbers the requests of this process (see [Options].Sequence).
	ID uint64

	close bool
}

// WantsClose reports whether the client asked for the connection to be closed after this request (RFC 9112 §9.3).
func (r *Request) WantsClose() bool { return r.close }

// HasBody reports whether a body follows the head.
func (r *Request) HasBody() bool { return r.ContentLength != 0 }

// WithHeader is a copy of the request whose header can be changed. Its other slices are r's.
func (r *Request) WithHeader() *Request {
	c := &Request{
		Method: r.Method, Target: r.Target, Path: r.Path, Query: r.Query, Host: r.Host, Minor: r.Minor, HTTP2: r.HTTP2, ContentLength: r.ContentLength,
		ExpectContinue: r.ExpectContinue, ID: r.ID, close: r.close,
	}
	c.Header.AddAll(&r.Header)
	return c
}

func (r *Request) reset() {
	h := r.Header
	h.Reset()
	*r = Request{Header: h}
}

// parseRequestHead parses the head at the start of buf into r, whose slices then point into buf, and returns the head's
// length. 0 without an error means that the head is not complete. The error is an *Error.
func parseRequestHead(buf []byte, lim *Limits, r *Request) (int, error) {
	r.reset()
	n, err := parseRequestLine(buf, lim, r)
	if n == 0 || err != nil {
		return 0, err
	}
	f := framing{length: -1}
	end, err := parseFields(buf, n, lim, &r.Header, &f)
	if end == 0 || err != nil {
		return 0, err
	}
	if err := r.settle(&f, lim); err != nil {
		return 0, err
	}
	return end, nil
}

// parseRequestLine parses the first line (RFC 9112 §3) and returns its length.
func parseRequestLine(buf []byte, lim *Limits, r *Request) (int, error) {
	lf := bytes.IndexByte(buf, '\n')
	if lf >= lim.Line || lf < 0 && len(buf) >= lim.Line {
		return 0, errLineLong
	}
	if lf < 0 {
		return 0, checkMethodSoFar(buf)
	}
	if lf == 0 || buf[lf-1] != '\r' {
		return 0, errBareLF // RFC 9112 §2.2: a lone LF may be taken for a line end; who does disagrees with who does not
	}
	line := buf[:lf-1]

	sp := bytes.IndexByte(line, ' ')
	if sp < 0 {
		return 0, lineFault(line, errRequestLine)
	}
	if !isToken(line[:sp]) {
		return 0, lineFault(line[:sp], errMethod)
	}
	if sp > maxMethod {
		return 0, errMethodLong
	}
	r.Method = internMethod(line[:sp])
	line = line[sp+1:]

	sp = bytes.IndexByte(line, ' ')
	if sp <= 0 {
		return 0, lineFault(line, errRequestLine) // no version (HTTP/0.9), an empty target or more than one SP
	}
	r.Target = line[:sp:sp]
	minor, err := parseVersion(line[sp+1:]) // first, so that HTTP/2's preface (RFC 9113 §3.4) is told what it is
	if err != nil {
		return 0, err
	}
	r.Minor = minor
	if err := r.splitTarget(); err != nil {
		return 0, err
	}
	return lf + 1, nil
}

// checkMethodSoFar refuses at once what cannot become a request line, for instance a TLS handshake on a plain port,
// which would else be waited for until the head's time is over.
func checkMethodSoFar(buf []byte) error {
	for i, c := range buf {
		if c == ' ' && i > 0 || c == '\r' && i == len(buf)-1 {
			return nil
		}
		if class[c]&inToken == 0 {
			return errMethod
		}
		if i >= maxMethod {
			return errMethodLong
		}
	}
	return nil
}

// lineFault is err, unless a bare CR explains it better.
func lineFault(line []byte, err error) error {
	if bytes.IndexByte(line, '\r') >= 0 {
		return errBareCR
	}
	return err
}

// parseVersion returns x of HTTP/1.x (RFC 9112 §2.3). A higher minor version is taken as 1.1 (RFC 9110 §2.5).
func parseVersion(v []byte) (int, error) {
	if len(v) != len("HTTP/1.1") || string(v[:5]) != "HTTP/" || v[6] != '.' || !digit(v[5]) || !digit(v[7]) {
		if bytes.IndexByte(v, ' ') >= 0 {
			return 0, errRequestLine
		}
		return 0, lineFault(v, errVersion)
	}
	if v[5] != '1' {
		return 0, errVersionOther
	}
	return int(v[7] - '0'), nil
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// settle decides on what the fields say together: host, framing, expectation, persistence.
func (r *Request) settle(f *framing, lim *Limits) error {
	if f.hosts > 1 {
		return errHosts // RFC 9112 §3.2
	}
	if f.hosts == 0 && r.Minor >= 1 {
		return errNoHost
	}
	if f.hosts == 1 && len(f.host) > 0 && !validAuthority(f.host) {
		return errHost
	}
	if r.Host == nil {
		r.Host = f.host // RFC 9112 §3.2.2: the authority of an absolute-form target wins
	}
	r.close = f.close || r.Minor == 0 && !f.keepAlive

	switch {
	case f.codings > 0:
		if err := f.checkCodings(r.Minor); err != nil {
			return err
		}
		r.ContentLength = -1
	case f.length > lim.Body:
		return errBodyLong
	case f.length > 0:
		r.ContentLength = f.length
	}

	if f.expect && r.Minor >= 1 { // RFC 9110 §10.1.1: an expectation in HTTP/1.0 is ignored
		if f.expectOther {
			return errExpect
		}
		r.ExpectContinue = r.HasBody()
	}
	return nil
}

// internMethod makes a string of a method without allocation, if it is known.
func internMethod(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "HEAD":
		return "HEAD"
	case "PUT":
		return "PUT"
	case "POST":
		return "POST"
	case "DELETE":
		return "DELETE"
	case "OPTIONS":
		return "OPTIONS"
	case "PATCH":
		return "PATCH"
	case "MOVE":
		return "MOVE"
	case "COPY":
		return "COPY"
	case "MKCOL":
		return "MKCOL"
	case "PROPFIND":
		return "PROPFIND"
	case "CONNECT":
		return "CONNECT"
	case "TRACE":
		return "TRACE"
	}
	return string(b)
}
