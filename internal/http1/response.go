package http1

import "bytes"

// Response is the answer to a request that a [Client] sent. All slices, those of Header among them, are valid until
// Body is closed.
type Response struct {
	Status int
	// Reason is the reason phrase as sent; it means nothing.
	Reason []byte
	// Minor is x of HTTP/1.x.
	Minor  int
	Header Header
	// ContentLength is the body's length: -1 when it is not known before its end. For an answer to HEAD it is what
	// Content-Length says (-1 without), though no body follows.
	ContentLength int64
	// Body is never nil. The caller closes it, whether or not it has been read.
	Body *Body

	kind  bodyKind
	close bool
	body  Body
}

func (r *Response) reset() {
	h := r.Header
	h.Reset()
	*r = Response{Header: h}
}

// parseResponseHead parses the head at the start of buf into r, whose slices then point into buf, and returns the
// head's length; 0 without an error means that it is not complete. method is that of the request, which decides
// whether a body follows. The error is an *Error with status 502.
func parseResponseHead(buf []byte, lim *Limits, method string, r *Response) (int, error) {
	r.reset()
	n, err := parseStatusLine(buf, lim, r)
	if n == 0 || err != nil {
		return 0, badGateway(err)
	}
	f := framing{length: -1}
	end, err := parseFields(buf, n, lim, &r.Header, &f)
	if end == 0 || err != nil {
		return 0, badGateway(err)
	}
	if err := r.settle(&f, method); err != nil {
		return 0, badGateway(err)
	}
	return end, nil
}

// badGateway makes a fault that a request would be refused for into one of a response.
func badGateway(err error) error {
	if e, ok := err.(*Error); ok && e.Status != 502 {
		return &Error{502, e.Reason}
	}
	return err
}

// parseStatusLine parses: HTTP-version SP status-code SP [ reason-phrase ] CRLF (RFC 9112 §4). The second SP may be missing
// together with the reason.
func parseStatusLine(buf []byte, lim *Limits, r *Response) (int, error) {
	lf := bytes.IndexByte(buf, '\n')
	if lf >= lim.Line || lf < 0 && len(buf) >= lim.Line {
		return 0, errStatusLine
	}
	if lf < 0 {
		return 0, nil
	}
	if lf == 0 || buf[lf-1] != '\r' {
		return 0, errBareLF
	}
	line := buf[:lf-1]
	const version, status = len("HTTP/1.1"), len("HTTP/1.1 200")
	if len(line) < status || line[version] != ' ' || len(line) > status && line[status] != ' ' {
		return 0, errStatusLine
	}
	minor, err := parseVersion(line[:version])
	if err != nil {
		return 0, err
	}
	code, ok := parseDecimal(line[version+1 : status])
	if !ok || code < 100 {
		return 0, errStatusLine
	}
	r.Minor, r.Status = minor, int(code)
	if len(line) > status {
		r.Reason = line[status+1:]
	}
	if !all(r.Reason, inValue) {
		return 0, lineFault(r.Reason, errStatusLine)
	}
	return lf + 1, nil
}

// settle decides on the body's framing (RFC 9112 §6.3) and on persistence.
func (r *Response) settle(f *framing, method string) error {
	r.close = f.close || r.Minor == 0 && !f.keepAlive
	if f.codings > 0 {
		if err := f.checkCodings(r.Minor); err != nil {
			return err
		}
	}
	switch {
	case r.Status < 200, r.Status == 204:
		r.ContentLength = 0
		r.close = r.close || f.length > 0 || f.codings > 0 // a body that must not be there might nevertheless come
	case method == "HEAD", r.Status == 304:
		r.ContentLength = f.length
	case f.codings > 0:
		r.kind, r.ContentLength = bodyChunked, -1
	case f.length > 0:
		r.kind, r.ContentLength = bodyFixed, f.length
	case f.length < 0:
		r.kind, r.ContentLength, r.close = bodyUntilClose, -1, true
	}
	return nil
}
