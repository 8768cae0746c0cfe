package http1

// chunkState is what a chunkDecoder expects next.
type chunkState uint8

const (
	chunkSize    chunkState = iota // a digit of the size
	chunkExt                       // the rest of the size line
	chunkSizeLF                    // the LF of the size line
	chunkData                      // rem bytes of data
	chunkDataCR                    // the CRLF after the data
	chunkDataLF                    //
	trailerStart                   // a trailer field, or the CRLF that ends the body
	trailerName                    // the rest of a trailer's name
	trailerValue                   // its value, up to CR
	trailerLF                      // the LF of a trailer
	chunkLastLF                    // the LF that ends the body
	chunkDone                      // nothing
)

// chunkOverhead is how much more framing than data a chunked body may have in all, beyond 16 bytes for each chunk and a
// framing byte for each of data. Without it a client could keep a handler busy with extensions.
const chunkOverhead = 16 << 10

// chunkDecoder takes the chunked transfer coding apart (RFC 9112 §7.1). It sees the framing only: the owner moves the
// data and reports it with took. Trailers are checked and dropped, extensions too.
type chunkDecoder struct {
	lim    *Limits
	state  chunkState
	digits int   // of the present size
	rem    int64 // data left in the present chunk
	line   int   // bytes of the present size line
	excess int64
	head   int // bytes of the trailer section
	fields int // trailers
}

// done reports whether the body has been read to its end.
func (d *chunkDecoder) done() bool { return d.state == chunkDone }

// took reports that n bytes of data were moved.
func (d *chunkDecoder) took(n int64) {
	if d.rem -= n; d.rem == 0 {
		d.state = chunkDataCR
	}
}

// frame consumes framing from src until data begins (rem > 0), the body ends (done) or src is used up.
func (d *chunkDecoder) frame(src []byte) (int, error) {
	for i, c := range src {
		if d.state == chunkData || d.state == chunkDone {
			return i, nil
		}
		if err := d.step(c); err != nil {
			return i, err
		}
	}
	return len(src), nil
}

func (d *chunkDecoder) step(c byte) error {
	switch d.state {
	case chunkSize, chunkExt, chunkSizeLF:
		return d.stepSize(c)
	case chunkDataCR:
		if c != '\r' {
			return errChunkEnd
		}
		d.state = chunkDataLF
	case chunkDataLF:
		if c != '\n' {
			return errChunkEnd
		}
		d.state, d.line, d.digits = chunkSize, 0, 0
	default:
		return d.stepTrailer(c)
	}
	return nil
}

// stepSize takes one octet of: chunk-size [ chunk-ext ] CRLF. White space around the size, which RFC 9112 §7.1.1 bears
// before an extension's ';', is refused: it is one of the ways to make two parties see two sizes.
func (d *chunkDecoder) stepSize(c byte) error {
	if d.line++; d.line > d.lim.ChunkLine {
		return errChunkLine
	}
	switch {
	case d.state == chunkSizeLF:
		if c != '\n' {
			return errBareCR
		}
		return d.begin()
	case c == '\r':
		if d.digits == 0 {
			return errChunkSize
		}
		d.state = chunkSizeLF
	case d.state == chunkExt:
		if class[c]&inValue == 0 {
			return errChunkExt
		}
	case c == ';' && d.digits > 0:
		d.state = chunkExt
	default:
		v := unhex(c)
		if d.digits++; v < 0 || d.digits > 16 || d.rem > (1<<63-1)>>4 {
			return errChunkSize
		}
		d.rem = d.rem<<4 | int64(v)
	}
	return nil
}

// begin acts on a complete size line.
func (d *chunkDecoder) begin() error {
	if d.rem == 0 {
		d.state = trailerStart
		return nil
	}
	d.state = chunkData
	d.excess += int64(d.line) - 16
	if d.excess > 0 {
		d.excess -= min(d.excess, d.rem)
	} else {
		d.excess = 0
	}
	if d.excess > chunkOverhead {
		return errChunkExcess
	}
	return nil
}

// stepTrailer takes one octet of: trailer-section CRLF (RFC 9112 §7.1.2).
func (d *chunkDecoder) stepTrailer(c byte) error {
	if d.head++; d.head > d.lim.Head {
		return errTrailerLong
	}
	switch d.state {
	case trailerStart:
		switch {
		case c == '\r':
			d.state = chunkLastLF
			return nil
		case c == ' ' || c == '\t':
			return errObsFold
		case class[c]&inToken == 0:
			return errFieldName
		}
		if d.fields++; d.fields > d.lim.Fields {
			return errTrailerLong
		}
		d.state = trailerName
	case trailerName:
		if c == ':' {
			d.state = trailerValue
		} else if class[c]&inToken == 0 {
			return errFieldName
		}
	case trailerValue:
		if c == '\r' {
			d.state = trailerLF
		} else if class[c]&inValue == 0 {
			return errFieldValue
		}
	case trailerLF, chunkLastLF:
		if c != '\n' {
			return errBareCR
		}
		if d.state == chunkLastLF {
			d.state = chunkDone
		} else {
			d.state = trailerStart
		}
	}
	return nil
}
