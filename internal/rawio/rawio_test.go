//go:build unix

package rawio_test

import (
	"bytes"
	"syscall"
	"testing"

	"wheelhouse/internal/rawio"
)

// pair is two ends of a connection, neither of which blocks.
func pair(t *testing.T) (a, b uintptr) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if err := syscall.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(fd) })
	}
	return uintptr(fds[0]), uintptr(fds[1])
}

func TestNothingToRead(t *testing.T) {
	a, _ := pair(t)
	buf := make([]byte, 8)
	if n, err := rawio.Read(a, buf); n != 0 || err != syscall.EAGAIN {
		t.Errorf("Read = %d, %v, want 0, EAGAIN", n, err)
	}
	if n, err := rawio.Peek(a, buf); n != 0 || err != syscall.EAGAIN {
		t.Errorf("Peek = %d, %v, want 0, EAGAIN", n, err)
	}
}

func TestRoundTrip(t *testing.T) {
	a, b := pair(t)
	if n, err := rawio.Write(a, []byte("one ")); n != 4 || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
	if n, err := rawio.Gather(a, []byte("two "), []byte("three")); n != 9 || err != nil {
		t.Fatalf("Gather = %d, %v", n, err)
	}
	buf := make([]byte, 64)
	if n, err := rawio.Peek(b, buf[:1]); n != 1 || err != nil || buf[0] != 'o' {
		t.Errorf("Peek = %d, %v, %q", n, err, buf[:1])
	}
	if n, err := rawio.Read(b, buf); err != nil || string(buf[:n]) != "one two three" {
		t.Errorf("Read = %q, %v", buf[:n], err)
	}
	syscall.Shutdown(int(a), syscall.SHUT_WR)
	if n, err := rawio.Read(b, buf); n != 0 || err != nil {
		t.Errorf("Read at the end = %d, %v, want 0, nil", n, err)
	}
}

// A socket that is full takes what it can; what is read is what was written.
func TestAsMuchAsFits(t *testing.T) {
	a, b := pair(t)
	head, body := bytes.Repeat([]byte("h"), 3<<10), bytes.Repeat([]byte("0123456789"), 400<<10)
	var sent, got []byte
	buf := make([]byte, 1<<20)
	for len(sent) < len(head)+len(body) {
		var n int
		var err error
		if len(sent) < len(head) {
			n, err = rawio.Gather(a, head[len(sent):], body)
			sent = append(sent, append(append([]byte(nil), head[len(sent):]...), body...)[:n]...)
		} else {
			rest := body[len(sent)-len(head):]
			n, err = rawio.Write(a, rest)
			sent = append(sent, rest[:n]...)
		}
		if n > rawio.Most {
			t.Fatalf("%d bytes in one call, more than %d", n, rawio.Most)
		}
		if err != nil && err != syscall.EAGAIN {
			t.Fatal(err)
		}
		if n > 0 {
			continue
		}
		m, err := rawio.Read(b, buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:m]...)
	}
	for len(got) < len(sent) {
		m, err := rawio.Read(b, buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:m]...)
	}
	if !bytes.Equal(got, append(head, body...)) {
		t.Error("what was read is not what was written")
	}
}

func TestPeerIsGone(t *testing.T) {
	a, b := pair(t)
	syscall.Shutdown(int(b), syscall.SHUT_RDWR)
	if n, err := rawio.Write(a, []byte("x")); n != 0 || err != syscall.EPIPE {
		t.Errorf("Write = %d, %v, want 0, EPIPE", n, err)
	}
	if n, err := rawio.Gather(a, []byte("x"), []byte("y")); n != 0 || err != syscall.EPIPE {
		t.Errorf("Gather = %d, %v, want 0, EPIPE", n, err)
	}
}
