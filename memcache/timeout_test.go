package memcache

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// The end of a context is an error of the caller's context alone.
func TestWhoseTimeIsOver(t *testing.T) {
	deaf := newFake(t, func(string) string { return "" })
	for _, opts := range [][]Option{
		{WithProtocol(Auto)}, // it accepts and says nothing
		{WithDialer(func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() })},
	} {
		c := client(t, []string{deaf.addr()}, append(opts, WithTimeout(wait, time.Millisecond), WithEject(0, 1, 1))...)
		_, err := c.Get(t.Context(), "a")
		if errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "no connection within 1ms") {
			t.Errorf("the client's time: %v", err)
		}
		c = client(t, []string{deaf.addr()}, append(opts, WithEject(0, 1, 1))...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if _, err := c.Get(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's time: %v", err)
		}
		cancel()
	}
}
