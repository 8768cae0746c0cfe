//go:build unix

package rawio_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wheelhouse/internal/rawio"
)

// connected is a wrapped connection and its other end.
func connected(t *testing.T, network string) (wrapped, other net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	other, err = net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err = rawio.Listener(ln).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wrapped.Close(); other.Close() })
	if n, ok := wrapped.(interface{ NetConn() net.Conn }); !ok || n.NetConn() == nil {
		t.Fatalf("a %T was not wrapped", wrapped)
	}
	return wrapped, other
}

// TestConn moves more than the sockets hold both ways at once.
func TestConn(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			c, other := connected(t, network)
			sent := make([]byte, 12<<20)
			rand.Read(sent)
			var wg sync.WaitGroup
			for _, way := range [][2]net.Conn{{c, other}, {other, c}} {
				wg.Go(func() {
					if n, err := way[0].Write(sent); n != len(sent) || err != nil {
						t.Errorf("wrote %d, %v", n, err)
					}
				})
				wg.Go(func() {
					got := make([]byte, len(sent))
					if _, err := io.ReadFull(way[1], got); err != nil || !bytes.Equal(got, sent) {
						t.Errorf("what was read is not what was sent: %v", err)
					}
				})
			}
			wg.Wait()
			other.Close()
			if n, err := c.Read(make([]byte, 10)); n != 0 || err != io.EOF {
				t.Errorf("Read at the end = %d, %v, want 0, EOF", n, err)
			}
			for err := error(nil); ; {
				if _, err = c.Write(sent); err == nil {
					continue // the reset is on its way
				}
				var op *net.OpError
				if !errors.As(err, &op) || op.Op != "write" || !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("Write to nobody: %v", err)
				}
				break
			}
		})
	}
}

func TestConnDeadlinesAndClose(t *testing.T) {
	c, _ := connected(t, "tcp")
	c.SetDeadline(time.Now().Add(10 * time.Millisecond))
	_, rerr := c.Read(make([]byte, 1))
	_, werr := c.Write(make([]byte, 32<<20))
	for _, err := range []error{rerr, werr} {
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(err.Error(), "raw") {
			t.Errorf("after the deadline: %v", err)
		}
	}
	c.SetDeadline(time.Time{})
	done := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	c.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read when it was closed: %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write when it was closed: %v", err)
	}
}

// What is no socket of the kernel's stays as it is.
func TestNotWrapped(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if got := rawio.Wrap(a); got != a {
		t.Errorf("a pipe became a %T", got)
	}
}
