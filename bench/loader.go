package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// loader writes objects over keep-alive connections, with little CPU: a request is its predecessor's bytes with another
// name and another eight bytes of content.
type loader struct {
	addr  string
	conns int
	size  int
	// name appends the name of object i; all names must have the same length.
	name func(b []byte, i int64) []byte
}

// content is what object i consists of: noise that begins with i, so that no two are equal.
func content(i int64, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	stamp(b, i)
	return b
}

// stamp writes i in hex over the first 16 bytes of b.
func stamp(b []byte, i int64) {
	const digits = "0123456789abcdef"
	for at := min(16, len(b)) - 1; at >= 0; at-- {
		b[at] = digits[i&15]
		i >>= 4
	}
}

// putAll stores objects 0 to n-1.
func (p *loader) putAll(ctx context.Context, n int) error {
	_, err := p.run(ctx, func(i int64) bool { return i < int64(n) })
	return err
}

// putFor stores objects with numbers from first for a time, and returns how many were acknowledged, and in what time each.
func (p *loader) putFor(ctx context.Context, first int64, span time.Duration) (times []time.Duration, elapsed time.Duration, err error) {
	q := *p
	q.name = func(b []byte, i int64) []byte { return p.name(b, first+i) }
	begun := time.Now()
	end := begun.Add(span)
	times, err = q.run(ctx, func(int64) bool { return time.Now().Before(end) })
	return times, time.Since(begun), err
}

// run takes numbers from 0 upwards for as long as more allows.
func (p *loader) run(ctx context.Context, more func(i int64) bool) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	var mu sync.Mutex // guards times
	var times []time.Duration
	for range p.conns {
		all.Go(func() {
			own, err := p.connection(ctx, &next, more)
			if err != nil {
				cancel(err)
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, own...)
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return times, nil
}

// silence is how long a server may be silent.
const silence = 30 * time.Second

func (p *loader) connection(ctx context.Context, next *atomic.Int64, more func(int64) bool) (times []time.Duration, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	prefix := "PUT /" + bucket + "/"
	request := p.name([]byte(prefix), 0)
	nameEnd := len(request)
	request = fmt.Appendf(request, " HTTP/1.1\r\nHost: %s\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", p.addr, p.size)
	body := len(request)
	request = append(request, content(0, p.size)...)
	answer := make([]byte, 4<<10)
	for sent := 0; ; sent++ {
		i := next.Add(1) - 1
		if ctx.Err() != nil || !more(i) {
			return times, nil
		}
		if end := len(p.name(request[:len(prefix)], i)); end != nameEnd {
			return times, errors.New("names differ in length")
		}
		stamp(request[body:], i)
		if sent%1024 == 0 { // setting a deadline costs about as much as parsing an answer
			if err := conn.SetDeadline(time.Now().Add(4 * silence)); err != nil {
				return times, err
			}
		}
		begun := time.Now()
		if _, err := conn.Write(request); err != nil {
			return times, err
		}
		if err := readCreated(conn, answer); err != nil {
			return times, fmt.Errorf("object %d: %w", i, err)
		}
		times = append(times, time.Since(begun))
	}
}

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
)

// readCreated reads one answer, which must be a 201 of at most len(buf) bytes.
func readCreated(r io.Reader, buf []byte) error {
	n, want := 0, -1
	for want < 0 || n < want {
		if n == len(buf) {
			return fmt.Errorf("answer is too long: %.100q", buf)
		}
		k, err := r.Read(buf[n:])
		if err != nil {
			return err
		}
		n += k
		if end := bytes.Index(buf[:n], headEnd); want < 0 && end >= 0 {
			length, err := lengthOf(buf[:end+2])
			if err != nil {
				return err
			}
			want = end + len(headEnd) + length
		}
	}
	if !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 201 ")) || n != want {
		return fmt.Errorf("want one answer of 201, got %.300q", buf[:n])
	}
	return nil
}

// lengthOf finds Content-Length in a head.
func lengthOf(head []byte) (int, error) {
	_, rest, ok := bytes.Cut(head, contentLength)
	value, _, ok2 := bytes.Cut(rest, headEnd[:2])
	if !ok || !ok2 {
		return 0, fmt.Errorf("answer without Content-Length: %.300q", head)
	}
	return strconv.Atoi(string(value))
}
