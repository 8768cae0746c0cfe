package memcached

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/memcache/memcachetest"
)

// press has connections keep little, as if there were many that take no answers.
func (s *testServer) press(t *testing.T) {
	s.kept.Add(maxKept)
	t.Cleanup(func() { s.kept.Add(-maxKept) })
}

// unix serves a socket, too, which takes little of what is not read.
func (s *testServer) unix(t *testing.T) (file string) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(ln) })
	t.Cleanup(func() {
		ln.Close()
		serving.Wait()
	})
	return ln.Addr().String()
}

// Answers are the same, and in the same order, for clients that take them slowly, and when connections are to keep little.
func TestAnswersThatAreTakenSlowly(t *testing.T) {
	t.Parallel()
	const keys = 60
	var values [keys]string
	for i := range values {
		values[i] = strings.Repeat(string(rune('a'+i%26)), []int{0, 1, 100, leastPiece, 3000, 9000, 40_000, 300_000}[i%8])
	}
	var all, answers strings.Builder
	for i, v := range values {
		fmt.Fprintf(&all, " k%d", i)
		fmt.Fprintf(&answers, "VALUE k%d 7 %d\r\n%s\r\n", i, len(v), v)
	}
	answers.WriteString("END\r\n")
	packed := packet(opGetK, "k6", "", "")
	for _, threads := range []int{1, -1} {
		for _, pressed := range []bool{false, true} {
			t.Run(fmt.Sprintf("threads=%d/pressed=%v", threads, pressed), func(t *testing.T) {
				t.Parallel()
				s := serve(t, Options{Threads: threads, Limit: 64 << 20})
				sock := s.unix(t)
				c := s.dial(t)
				for i, v := range values {
					if got := c.Ask(fmt.Sprintf("set k%d 7 0 %d\r\n%s", i, len(v), v)); got != "STORED" {
						t.Fatal(got)
					}
				}
				if pressed {
					s.press(t)
				}
				for request, want := range map[string]string{
					"get" + all.String():      answers.String(),
					"gat 1000" + all.String(): answers.String(),
					"get k5":                  "VALUE k5 7 9000\r\n" + values[5] + "\r\nEND\r\n",
					"get none":                "END\r\n",
					"mg k7 s v":               "VA 300000 s300000\r\n" + values[7] + "\r\n",
					"get none\r\nnonsense\r\nmg k2 v\r\nset other 0 0 3\r\nabc\r\ngets none": "END\r\nERROR\r\nVA 100\r\n" + values[2] + "\r\nSTORED\r\nEND\r\n",
				} {
					times := 1 + 2_000_000/len(want)
					slow := slowClient(t, sock, strings.Repeat(request+"\r\n", times)+"quit\r\n")
					slow.compare(t, request, strings.Repeat(want, times))
				}
				slow := slowClient(t, sock, strings.Repeat(packed, 100)+packet(opQuit, "", "", ""))
				got, err := io.ReadAll(slow.nc)
				if size := 24 + 4 + 2 + len(values[6]); err != nil || len(got) != 100*size+24 || string(got[99*size+30:100*size]) != values[6] {
					t.Errorf("binary: %d bytes, %v", len(got), err)
				}
				eventually(t, "nothing is kept", func() bool {
					s.blocked.mu.Lock()
					defer s.blocked.mu.Unlock()
					return s.open.Load() == 1 && len(s.blocked.list) == 0 && s.blocked.bytes == 0
				})
			})
		}
	}
}

// slow is a client that takes little at once.
type slow struct{ nc net.Conn }

func slowClient(t *testing.T, addr, text string) slow {
	t.Helper()
	nc, err := net.Dial("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(memcachetest.Wait))
	go func() { _, _ = io.WriteString(nc, text) }()
	return slow{nc}
}

func (s slow) compare(t *testing.T, what, want string) {
	t.Helper()
	buf := make([]byte, 64<<10)
	for at := 0; ; {
		n, err := s.nc.Read(buf[:1+rand.IntN(len(buf))])
		if n > len(want)-at || string(buf[:n]) != want[at:at+n] {
			t.Errorf("%.40q: after %d bytes of %d: %.60q", what, at, len(want), buf[:n])
			return
		}
		if at += n; err != nil {
			if at != len(want) || err != io.EOF {
				t.Errorf("%.40q: after %d bytes of %d: %v", what, at, len(want), err)
			}
			return
		}
	}
}

// A connection whose client takes nothing has neither a goroutine nor a work, keeps little of a large value when it is to, and has it from where it
// is; who has taken nothing for the longest is closed when it is too much.
func TestNothingIsTaken(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Threads: 1, MaxConns: 4000})
	sock := s.unix(t)
	c := s.dial(t)
	if got := c.Ask("set large 0 0 9000\r\n" + strings.Repeat("x", 9000)); got != "STORED" {
		t.Fatal(got)
	}
	hog := func() {
		t.Helper()
		nc, err := net.Dial("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		if _, err := io.WriteString(nc, strings.Repeat("get large\r\n", 200)); err != nil {
			t.Fatal(err)
		}
	}
	hogs := func() (stuck, held int) {
		for _, c := range s.connections() {
			if c.state.CompareAndSwap(idle, busy) {
				if c.unsent != nil {
					stuck++
					if c.unsent.holds {
						held++
					}
					if c.w != nil {
						t.Error("one that waits for its client has a work")
					}
				}
				c.state.Store(idle)
			}
		}
		return stuck, held
	}
	hog()
	eventually(t, "one is waited for", func() bool { n, _ := hogs(); return n == 1 })
	if _, held := hogs(); held != 0 {
		t.Error("a value is held for one, although there is memory for a copy")
	}
	s.press(t)
	const many = 20
	for range many {
		hog()
	}
	eventually(t, "all are waited for", func() bool { n, _ := hogs(); return n == many+1 })
	if _, held := hogs(); held < many/2 {
		t.Errorf("the value is held for %d of %d", held, many)
	}
	s.blocked.mu.Lock()
	for x, in := range s.blocked.list {
		if in.bytes > 64<<10 {
			t.Errorf("connection %d has %d bytes", x.id, in.bytes)
		}
	}
	s.blocked.most, s.blocked.more = s.blocked.bytes, nil
	s.blocked.mu.Unlock()
	hog()
	eventually(t, "one is closed for another", func() bool { return s.count(slowClosed) > 0 && s.open.Load() <= many+2 })
	if got := c.Stats("")["slow_conns_closed"]; got == "" || got == "0" {
		t.Errorf("slow_conns_closed is %q", got)
	}
}
