package sqlqueue

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"wheelhouse/jobs"
)

// maxAttempts is how often a transaction is tried that others are in the way of.
const maxAttempts = 8

// again calls f until it succeeds, fails for good or was tried often enough. safe is false when what f did may have
// happened although it failed.
func again(ctx context.Context, retry func(err error, safe bool) bool, f func() (safe bool, err error)) error {
	for attempt := 1; ; attempt++ {
		safe, err := f()
		if err == nil || ctx.Err() != nil || attempt == maxAttempts || isOwn(err) || !retry(err, safe) {
			return err
		}
		pause := time.NewTimer(time.Duration(attempt)*2*time.Millisecond + rand.N(time.Duration(attempt)*8*time.Millisecond))
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// bounded gives ctx a deadline if it has none.
func bounded(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, timeout)
}

// isClosed reports whether err is that of a connection that has been closed.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// own is an error that is not the database's.
type own struct{ err error }

func (o *own) Error() string { return o.err.Error() }
func (o *own) Unwrap() error { return o.err }

func isOwn(err error) bool {
	_, ok := errors.AsType[*own](err)
	return ok || errors.Is(err, jobs.ErrNotFound)
}

// measureClock asks for the server's clock, in microseconds, three times, and believes the answer that came soonest.
func measureClock(ctx context.Context, t tx, query string) (d time.Duration, err error) {
	best := time.Duration(-1)
	for range 3 {
		begun := time.Now()
		micros, _, err := queryInt(ctx, t, query)
		if err != nil {
			return 0, err
		}
		if took := time.Since(begun); best < 0 || took < best {
			best, d = took, time.UnixMicro(micros).Sub(begun.Add(took/2))
		}
	}
	return d, nil
}
