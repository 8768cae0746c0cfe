package http1

import "bytes"

// framing is what the fields of a head say about the message's body and its connection.
type framing struct {
	host  []byte
	hosts int

	length  int64 // Content-Length, -1 when absent
	codings int   // transfer codings named
	chunked bool
	unknown bool // a coding other than chunked was named

	close, keepAlive    bool
	expect, expectOther bool
}

// parseFields parses the field lines (RFC 9112 §5) from buf[off:] on into h and f, and returns the offset of what
// follows the empty line that ends them. 0 without an error means that they are not complete.
func parseFields(buf []byte, off int, lim *Limits, h *Header, f *framing) (int, error) {
	for {
		lf := bytes.IndexByte(buf[off:], '\n')
		if lf < 0 {
			if len(buf) >= lim.Head {
				return 0, errHeadLong
			}
			return 0, nil
		}
		line := buf[off : off+lf]
		if off += lf + 1; off > lim.Head {
			return 0, errHeadLong
		}
		if lf == 0 || line[lf-1] != '\r' {
			return 0, errBareLF
		}
		if lf == 1 {
			return off, nil
		}
		if len(h.fields) >= lim.Fields {
			return 0, errFieldsMany
		}
		name, value, err := parseField(line[:lf-1])
		if err != nil {
			return 0, err
		}
		h.fields = append(h.fields, Field{name, value})
		if err := f.note(name, value); err != nil {
			return 0, err
		}
	}
}

// parseField parses one field line without its CRLF.
func parseField(line []byte) (name, value []byte, err error) {
	i := 0
	for i < len(line) && class[line[i]]&inToken != 0 {
		i++
	}
	if i == len(line) || line[i] != ':' || i == 0 {
		return nil, nil, nameFault(line, i)
	}
	v := trimOWS(line[i+1:])
	if !isValue(v) {
		return nil, nil, lineFault(v, errFieldValue)
	}
	return line[:i:i], v[:len(v):len(v)], nil
}

// nameFault says why a field line has no valid name; i is where the token at its start ends.
func nameFault(line []byte, i int) error {
	switch {
	case i == len(line):
		return errFieldLine
	case i == 0 && (line[0] == ' ' || line[0] == '\t'):
		return errObsFold // RFC 9112 §5.2
	case bytes.IndexByte(line, '\r') >= 0:
		return errBareCR // RFC 9112 §2.2
	case (line[i] == ' ' || line[i] == '\t') && i > 0:
		if t := trimOWS(line[i:]); len(t) > 0 && t[0] == ':' {
			return errFieldSpace // RFC 9112 §5.1
		}
	}
	return errFieldName
}

// note takes in the fields that the engine itself acts upon.
func (f *framing) note(name, value []byte) error {
	switch len(name) {
	case len("Host"):
		if foldEqual(name, "host") {
			f.host = value
			f.hosts++
		}
	case len("Expect"):
		if foldEqual(name, "expect") {
			f.expectOther = f.expectOther || !foldEqual(value, "100-continue")
			f.expect = true
		}
	case len("Connection"):
		if foldEqual(name, "connection") {
			f.noteConnection(value)
		}
	case len("Content-Length"):
		if foldEqual(name, "content-length") {
			return f.noteLength(value)
		}
	case len("Transfer-Encoding"):
		if foldEqual(name, "transfer-encoding") {
			return f.noteCodings(value)
		}
	}
	return nil
}

// noteConnection reads the connection options (RFC 9110 §7.6.1).
func (f *framing) noteConnection(value []byte) {
	for more := true; more; {
		var opt []byte
		opt, value, more = nextElement(value)
		switch {
		case foldEqual(opt, "close"):
			f.close = true
		case foldEqual(opt, "keep-alive"):
			f.keepAlive = true
		}
	}
}

// noteLength reads Content-Length. RFC 9110 §8.6 lets a recipient mend "5, 5"; refusing is the other choice it gives, and
// leaves nothing for two parties to disagree on.
func (f *framing) noteLength(value []byte) error {
	if f.length >= 0 || bytes.IndexByte(value, ',') >= 0 {
		return errLengths
	}
	n, ok := parseDecimal(value)
	if !ok {
		return errLength
	}
	f.length = n
	return nil
}

// noteCodings reads Transfer-Encoding (RFC 9112 §6.1).
func (f *framing) noteCodings(value []byte) error {
	for more := true; more; {
		var coding []byte
		coding, value, more = nextElement(value)
		f.codings++
		switch {
		case len(coding) == 0:
			return errCodingEmpty
		case f.chunked && foldEqual(coding, "chunked"):
			return errCodingTwice
		case f.chunked:
			return errCodingOrder // RFC 9112 §6.3, 4
		case foldEqual(coding, "chunked"):
			f.chunked = true
		default:
			f.unknown = true
		}
	}
	return nil
}

// checkCodings decides on a message that has Transfer-Encoding (RFC 9112 §6.1, §6.3).
func (f *framing) checkCodings(minor int) error {
	switch {
	case minor == 0:
		return errCodingOld
	case f.length >= 0:
		return errLengthCoding
	case f.unknown:
		return errCoding
	}
	return nil
}
