package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"time"
)

// growthTarget is by how much the process may grow while one huge object passes through, in MB.
const growthTarget = 32

// memory5GB uploads one object of 5 GB and fetches it again, and watches the server's memory.
func memory5GB(ctx context.Context, l *lab) ([]Result, error) {
	size, label := int64(5e9), ""
	if l.opt.quick {
		size, label = size/10, " (0.5 GB)"
	}
	if err := l.needSpace(3*size + 2<<30); err != nil {
		return nil, err
	}
	s, err := l.freshUp(ctx)
	if err != nil {
		return nil, err
	}
	put, err := l.transfer(ctx, s, "memory-5gb-put"+label, size, upload)
	if err != nil {
		return nil, err
	}
	get, err := l.transfer(ctx, s, "memory-5gb-get"+label, size, download)
	if err != nil {
		return []Result{put}, err
	}
	if err := s.front.end(); err != nil {
		return []Result{put, get}, err
	}
	return []Result{put, get}, os.RemoveAll(s.data) // 15 GB that nobody needs any more
}

// transfer measures the server's growth over its idle memory while do runs.
func (l *lab) transfer(ctx context.Context, s *server, name string, size int64, do func(context.Context, string, int64) error) (Result, error) {
	if err := pause(ctx, l.span(3*time.Second)); err != nil {
		return Result{}, err
	}
	idle, err := readMemory(s.front.pid())
	if err != nil {
		return Result{}, err
	}
	begun := time.Now()
	most, err := watchMemory(ctx, s.front.pid(), func(ctx context.Context) error { return do(ctx, s.addr, size) })
	if err != nil {
		return Result{}, err
	}
	seconds := time.Since(begun).Seconds()
	peak := max(most.RSS, most.Peak)
	return Result{
		Name: name, Target: atMost(growthTarget, "MB"), Ours: Figure{megabytes(peak - idle.RSS), "MB"},
		Notes: []string{fmt.Sprintf("%.1f GB in %.0f s (%.0f MB/s); VmRSS %.1f MB before, %.1f at most; RssAnon %.1f before, %.1f at most (growth %.1f)",
			float64(size)/1e9, seconds, float64(size)/1e6/seconds, megabytes(idle.RSS), megabytes(peak),
			megabytes(idle.Anon), megabytes(most.Anon), megabytes(most.Anon-idle.Anon))},
	}, nil
}

// hugeName is the name of the huge object.
const hugeName = "huge"

// stall is how long the server may take to make a huge object durable.
const stall = 4 * time.Minute

func dialFor(ctx context.Context, addr string) (net.Conn, func(), error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return conn, func() { stop(); conn.Close() }, nil
}

// upload sends size zeros.
func upload(ctx context.Context, addr string, size int64) error {
	conn, done, err := dialFor(ctx, addr)
	if err != nil {
		return err
	}
	defer done()
	if _, err := fmt.Fprintf(conn, "PUT /%s/%s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", bucket, hugeName, addr, size); err != nil {
		return err
	}
	chunk := make([]byte, 256<<10)
	for left := size; left > 0; {
		if err := conn.SetDeadline(time.Now().Add(stall)); err != nil {
			return err
		}
		n, err := conn.Write(chunk[:min(left, int64(len(chunk)))])
		if err != nil {
			return fmt.Errorf("upload, %d bytes before its end: %w", left, err)
		}
		left -= int64(n)
	}
	if err := readCreated(conn, make([]byte, 4<<10)); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	return nil
}

// download fetches what upload sent.
func download(ctx context.Context, addr string, size int64) error {
	conn, done, err := dialFor(ctx, addr)
	if err != nil {
		return err
	}
	defer done()
	if _, err := fmt.Fprintf(conn, "GET /%s/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", bucket, hugeName, addr); err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	head, got := []byte(nil), int64(0)
	for {
		if err := conn.SetDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
		n, err := conn.Read(buf)
		if head == nil && n > 0 { // the head comes whole: it is sent in one piece
			end := bytes.Index(buf[:n], headEnd)
			if end < 0 || !bytes.HasPrefix(buf, []byte("HTTP/1.1 200 ")) {
				return fmt.Errorf("download: want 200, got %.300q", buf[:n])
			}
			head = bytes.Clone(buf[:end])
			got -= int64(end + len(headEnd))
		}
		got += int64(n)
		if got == size {
			return nil
		}
		if err != nil {
			return fmt.Errorf("download: %d of %d bytes: %w", got, size, err)
		}
	}
}
