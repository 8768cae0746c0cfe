package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/internal/http1"
)

// upload is a request's body, as far as it has been taken in: its beginning in memory, all of it in a file, or the rest still to
// come from the client.
type upload struct {
	head   []byte           // the beginning, or all of it
	file   *spooled         // all of it
	size   int64            // of file, or of rest; -1: not known
	rest   io.Reader        // nil when everything is here
	again  func() io.Reader // all of it, in another service's file
	reason string           // why it was taken in: size, rate, time, chunked
}

// close lets go of the file.
func (u *upload) close() {
	if u.file != nil {
		u.file.Close() // it has no name, and so is gone
		u.file = nil
	}
}

// replayable reports whether the body can be sent again.
func (u *upload) replayable() bool { return u.rest == nil }

// reader reads a body that is all here.
func (u *upload) reader() io.Reader {
	if u.again != nil {
		return u.again()
	}
	if u.file != nil {
		return io.NewSectionReader(u.file, 0, u.size)
	}
	return bytes.NewReader(u.head)
}

// attach puts the body into a request for a backend.
func (u *upload) attach(out *http1.OutRequest, debug bool) {
	if u.reason != "" && debug {
		out.Header.Set("X-PERLBAL-BUFFERED-UPLOAD-REASON", u.reason)
	}
	out.Body = u.head
	switch {
	case u.file != nil:
		out.Body, out.BodyReader, out.Size = nil, io.NewSectionReader(u.file, 0, u.size), u.size
	case u.again != nil:
		out.BodyReader, out.Size = u.again(), u.size
	case u.rest != nil:
		out.BodyReader, out.Size = u.rest, u.size
	}
}

// takeBody takes in as much of the body as the settings want before a backend is asked for. It reports whether the request goes
// on; if not, it has been answered.
func (c *call) takeBody() bool {
	q, set := c.x.Request(), c.set
	src := c.progress(c.r.Body())
	c.body = upload{rest: src, size: q.ContentLength}
	if c.r.Replay != nil { // another service has it all
		return c.takeReplay(src)
	}
	if set.MaxRequestBody > 0 && q.ContentLength > set.MaxRequestBody {
		c.r.Error(413, "", fmt.Sprintf("the body of %d bytes is over max_request_size", q.ContentLength))
		return false
	}
	var err error
	switch {
	case q.ContentLength < 0 && set.BufferUploads:
		err = c.spool("chunked", nil, src)
	case q.ContentLength < 0:
		if limit := chunkedLimit(set); limit > 0 {
			c.body.rest = &limited{src, limit}
		}
	case set.BufferUploads && set.BufferThresholdSize > 0 && q.ContentLength >= set.BufferThresholdSize:
		err = c.spool("size", nil, src)
	case set.BufferBackendConnect > 0:
		err = c.takeHead(src)
	}
	if err != nil {
		c.body.close()
		c.refuseBody(err)
	}
	return err == nil
}

// takeReplay takes in a body that a service before has, in memory or in its file.
func (c *call) takeReplay(src io.Reader) bool {
	switch s := src.(type) {
	case *bytes.Reader:
		head := make([]byte, s.Len())
		_, _ = s.Read(head) // it has as many
		c.body = upload{head: head}
	case *io.SectionReader:
		c.body = upload{again: c.r.Replay, size: s.Size()}
	}
	return true
}

func chunkedLimit(set *balancer.Settings) int64 {
	if set.MaxChunked > 0 && (set.MaxRequestBody <= 0 || set.MaxChunked < set.MaxRequestBody) {
		return set.MaxChunked
	}
	return set.MaxRequestBody
}

// takeHead reads the beginning of a body into memory, and decides by how fast it came whether the rest is to be taken in too.
func (c *call) takeHead(src io.Reader) error {
	total, set := c.x.Request().ContentLength, c.set
	began := time.Now()
	head, err := readHead(src, int(min(total, set.BufferBackendConnect)))
	if err != nil {
		return err
	}
	n := len(head)
	left := total - int64(n)
	if left == 0 {
		c.body = upload{head: head}
		return nil
	}
	if set.BufferUploads {
		rate := float64(n) / max(time.Since(began).Seconds(), 1e-6)
		reason := ""
		if set.BufferThresholdRate > 0 && rate < float64(set.BufferThresholdRate) {
			reason = "rate"
		}
		if set.BufferThresholdTime > 0 && float64(left)/rate > set.BufferThresholdTime.Seconds() {
			reason = "time"
		}
		if reason != "" {
			return c.spool(reason, head, src)
		}
	}
	c.body = upload{head: head, rest: src, size: left}
	return nil
}

// firstPiece is the memory that an upload of which nothing has come yet costs. Clients that announce much and send little, thousands of
// them, must not cost more than they send.
const firstPiece = 4 << 10

// readHead reads n bytes, in memory that grows with what has come.
func readHead(src io.Reader, n int) ([]byte, error) {
	head := make([]byte, min(n, firstPiece))
	for have := 0; ; {
		m, err := io.ReadFull(src, head[have:])
		if have += m; err != nil || have == n {
			return head[:have], err
		}
		grown := make([]byte, min(n, 4*len(head)))
		copy(grown, head)
		head = grown
	}
}

// spool writes a body to a file, within buffer_uploads_total_size.
func (c *call) spool(reason string, head []byte, src io.Reader) error {
	limit, room := c.set.BufferUploadsTotal, &c.p.spool
	if want := c.x.Request().ContentLength; limit > 0 && want > limit {
		return &roomError{limit: limit, alone: true}
	} else if !room.fits(want, limit) { // better now than half-way
		return &roomError{limit: limit}
	}
	f, err := room.open(c.set.BufferUploadsPath, c.r.Service.Name()+"-client-*", limit)
	if err != nil {
		return err
	}
	c.body = upload{file: f, reason: reason}
	if reason == "chunked" {
		if limit := chunkedLimit(c.set); limit > 0 {
			src = &limited{src, limit}
		}
	}
	if _, err := f.Write(head); err != nil {
		return err
	}
	c.body.size = int64(len(head))
	buf := make([]byte, firstPiece)
	for full := 0; ; {
		n, rerr := src.Read(buf)
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		c.body.size += int64(n)
		switch {
		case rerr == io.EOF:
			if want := c.x.Request().ContentLength; want >= 0 && c.body.size != want {
				return io.ErrUnexpectedEOF
			}
			return nil
		case rerr != nil:
			return rerr
		case n < len(buf):
			full = 0
		case len(buf) < pieceSize: // it comes fast
			if full++; full >= 2 {
				buf, full = make([]byte, 4*len(buf)), 0
			}
		}
	}
}

// spoolError is a failure of the balancer's own disk.
type spoolError struct{ err error }

func (e *spoolError) Error() string { return "upload cannot be kept: " + e.err.Error() }

var errTooLong = errors.New("the chunked body is over max_chunked_request_size")

// refuseBody answers a request whose body could not be taken in.
func (c *call) refuseBody(err error) {
	var s *spoolError
	var full *roomError
	switch {
	case errors.As(err, &full):
		c.p.spool.warn(c.p.Log, full)
		c.r.Error(full.status(), "", full.Error())
	case errors.As(err, &s):
		c.p.spool.fail(c.p.Log, s.err)
		c.r.Error(503, "", s.Error())
	case errors.Is(err, errTooLong):
		c.r.Error(413, "", err.Error())
	default:
		c.badBody(err)
	}
}

// limited is a reader that fails beyond n bytes.
type limited struct {
	r io.Reader
	n int64
}

func (l *limited) Read(p []byte) (int, error) {
	if int64(len(p)) > l.n+1 {
		p = p[:l.n+1]
	}
	n, err := l.r.Read(p)
	if l.n -= int64(n); l.n < 0 {
		return 0, errTooLong
	}
	return n, err
}

var sessionForm = regexp.MustCompile(`client_up_sess=(\w{5,50})\b`)

// progress makes the upload's progress known, if the client asked for that.
func (c *call) progress(src io.Reader) io.Reader {
	if c.p.Progress == nil || len(c.set.UploadStatusListeners) == 0 {
		return src
	}
	m := sessionForm.FindSubmatch(c.r.Query)
	if m == nil {
		return src
	}
	return &progressReader{r: src, report: c.p.Progress, session: string(m[1]), total: c.x.Request().ContentLength, began: time.Now()}
}

// progressReader reports at most once a second.
type progressReader struct {
	r           io.Reader
	report      func(session string, done, total int64, began time.Time)
	session     string
	done, total int64
	began, last time.Time
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.done += int64(n)
	if now := time.Now(); now.Sub(p.last) >= time.Second || p.done == p.total {
		p.last = now
		p.report(p.session, p.done, p.total, p.began)
	}
	return n, err
}

// Status is what an upload's progress looks like to a script in a browser.
func Status(done, total int64, began, now time.Time) string {
	return "{done:" + strconv.FormatInt(done, 10) + ",total:" + strconv.FormatInt(total, 10) +
		",starttime:" + strconv.FormatInt(began.Unix(), 10) + ",nowtime:" + strconv.FormatInt(now.Unix(), 10) + "}"
}
