package web

import (
	"crypto/rand"
	"strconv"

	"wheelhouse/balancer"
)

// contentRange is the value of Content-Range (RFC 9110 §14.4).
func contentRange(p span, size int64) string {
	b := append(make([]byte, 0, 64), "bytes "...)
	b = strconv.AppendInt(b, p.off, 10)
	b = strconv.AppendInt(append(b, '-'), p.off+p.n-1, 10)
	return string(strconv.AppendInt(append(b, '/'), size, 10))
}

// multipart answers with several parts of a file (RFC 9110 §14.6).
func multipart(r *balancer.Request, c *content, spans []span) {
	h := r.X.Header()
	boundary := rand.Text()
	kind := h.Get("Content-Type")
	heads := make([]string, len(spans))
	end := "\r\n--" + boundary + "--\r\n"
	total := int64(len(end))
	for i, p := range spans {
		heads[i] = "\r\n--" + boundary + "\r\nContent-Type: " + kind + "\r\nContent-Range: " + contentRange(p, c.size) + "\r\n\r\n"
		total += int64(len(heads[i])) + p.n
	}
	h.Set("Content-Type", "multipart/byteranges; boundary="+boundary)
	if goOn, err := r.Begin(206, total); err != nil || !goOn {
		return
	}
	write := func(s string) error {
		n, err := r.X.Write([]byte(s))
		r.Sent += int64(n)
		return err
	}
	for i, p := range spans {
		if write(heads[i]) != nil || c.send(r, p) != nil {
			return
		}
	}
	_ = write(end) // a client that is gone needs no end
}
