package proxy

import (
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"wheelhouse/internal/pace"
)

// spool is the room that a service's uploads take on disk. What counts is what has been written: an upload that is announced and does not
// come keeps nobody else out.
type spool struct {
	files, bytes, refused atomic.Int64

	refusals, failures pace.Gate
}

// SpoolStats is what a service's uploads take on disk now, and how many were refused because of buffer_uploads_total_size since the
// start.
type SpoolStats struct{ Files, Bytes, Refused int64 }

// Spooled is what the uploads on disk take.
func (p *Proxy) Spooled() SpoolStats {
	return SpoolStats{p.spool.files.Load(), p.spool.bytes.Load(), p.spool.refused.Load()}
}

// take takes n bytes, unless that would be more than limit in all; 0: no limit.
func (s *spool) take(n, limit int64) bool {
	for {
		v := s.bytes.Load()
		if limit > 0 && n > limit-v {
			return false
		}
		if s.bytes.CompareAndSwap(v, v+n) {
			return true
		}
	}
}

// fits reports whether n bytes more could be taken now.
func (s *spool) fits(n, limit int64) bool { return limit <= 0 || n <= limit-s.bytes.Load() }

// warnPause is between two lines of the log about uploads that were refused, and about those that the disk did not take.
const warnPause = 10 * time.Second

// fail logs that the disk has not taken an upload: one that is full takes none.
func (s *spool) fail(log *slog.Logger, err error) {
	if n, ok := s.failures.Pass(warnPause); ok {
		log.Error("upload cannot be kept", "err", err, "count", n)
	}
}

// warn logs a refusal, and those of the last seconds with it.
func (s *spool) warn(log *slog.Logger, err error) {
	s.refused.Add(1)
	if n, ok := s.refusals.Pass(warnPause); ok {
		log.Warn("upload refused", "err", err, "count", n)
	}
}

// spooled is an upload's file. It has no name, so that it goes with the process, however that ends.
type spooled struct {
	*os.File
	in    *spool
	limit int64
	size  int64
}

// open makes a file for an upload.
func (s *spool) open(dir, pattern string, limit int64) (*spooled, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, &spoolError{err}
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, &spoolError{err}
	}
	s.files.Add(1)
	return &spooled{File: f, in: s, limit: limit}, nil
}

// Write appends to the file, as far as there is room for all of p.
func (f *spooled) Write(p []byte) (int, error) {
	n := int64(len(p))
	if f.limit > 0 && n > f.limit-f.size {
		return 0, &roomError{limit: f.limit, alone: true}
	}
	if !f.in.take(n, f.limit) {
		return 0, &roomError{limit: f.limit}
	}
	f.size += n
	m, err := f.File.Write(p)
	if err != nil {
		return m, &spoolError{err}
	}
	return m, nil
}

// Close closes the file, and gives its room back.
func (f *spooled) Close() error {
	err := f.File.Close()
	f.in.files.Add(-1)
	f.in.bytes.Add(-f.size)
	return err
}

// roomError is an upload that buffer_uploads_total_size has no room for: alone, ever; else, now.
type roomError struct {
	limit int64
	alone bool
}

func (e *roomError) Error() string {
	if e.alone {
		return fmt.Sprintf("the upload is larger than buffer_uploads_total_size (%d bytes)", e.limit)
	}
	return fmt.Sprintf("the uploads on disk have reached buffer_uploads_total_size (%d bytes)", e.limit)
}

func (e *roomError) status() int {
	if e.alone {
		return 413
	}
	return 503
}
