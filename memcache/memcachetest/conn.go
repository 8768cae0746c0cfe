package memcachetest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Wait is how long a test waits for what must come.
const Wait = 60 * time.Second

// Conn is a connection to a server. Its methods fail the test when something goes wrong.
type Conn struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// Dial connects to addr: HOST:PORT, or a path.
func Dial(t testing.TB, addr string) *Conn {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	nc, err := net.DialTimeout(network, addr, Wait)
	if err != nil {
		t.Fatal(err)
	}
	return New(t, nc)
}

// New adopts a connection, and closes it with the test.
func New(t testing.TB, nc net.Conn) *Conn {
	t.Cleanup(func() { nc.Close() })
	return &Conn{Conn: nc, t: t, r: bufio.NewReaderSize(nc, 64<<10)}
}

// Raw sends bytes.
func (c *Conn) Raw(s string) {
	c.t.Helper()
	c.SetWriteDeadline(time.Now().Add(Wait))
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatal(err)
	}
}

// Send sends lines, ended by CRLF.
func (c *Conn) Send(lines ...string) {
	c.t.Helper()
	c.Raw(strings.Join(lines, "\r\n") + "\r\n")
}

// Line reads a line, without its end.
func (c *Conn) Line() string {
	c.t.Helper()
	s, err := c.TryLine()
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// TryLine is Line with an error.
func (c *Conn) TryLine() (string, error) {
	c.SetReadDeadline(time.Now().Add(Wait))
	s, err := c.r.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("after %q: %w", s, err)
	}
	return strings.TrimRight(s, "\r\n"), nil
}

// ReadN reads n bytes.
func (c *Conn) ReadN(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	c.SetReadDeadline(time.Now().Add(Wait))
	if _, err := io.ReadFull(c.r, b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

// Expect reads lines that must be as given.
func (c *Conn) Expect(lines ...string) {
	c.t.Helper()
	for _, want := range lines {
		if got := c.Line(); got != want {
			c.t.Fatalf("got %q; want %q", got, want)
		}
	}
}

// Ask sends a line and reads the answer, a line.
func (c *Conn) Ask(line string) string {
	c.t.Helper()
	c.Send(line)
	return c.Line()
}

// Until sends a line and reads lines up to one that is end, which is left out.
func (c *Conn) Until(line, end string) (list []string) {
	c.t.Helper()
	c.Send(line)
	for {
		got := c.Line()
		if got == end {
			return list
		}
		list = append(list, got)
	}
}

// Stats asks for statistics.
func (c *Conn) Stats(group string) map[string]string {
	c.t.Helper()
	stats := map[string]string{}
	for _, l := range c.Until(strings.TrimSpace("stats "+group), "END") {
		f := strings.SplitN(l, " ", 3)
		if len(f) < 2 || f[0] != "STAT" {
			c.t.Fatalf("stats %s: %q", group, l)
		}
		stats[f[1]] = strings.Join(f[2:], " ")
	}
	return stats
}

// Nothing sees to it that the server has sent nothing more.
func (c *Conn) Nothing() {
	c.t.Helper()
	if got := c.Ask("mn"); got != "MN" {
		c.t.Fatalf("got %q; want nothing", got)
	}
}

// Closed sees to it that the server closes the connection without a word.
func (c *Conn) Closed() {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(Wait))
	if b, err := io.ReadAll(c.r); err != nil && !strings.Contains(err.Error(), "reset") || len(b) > 0 {
		c.t.Fatalf("got %q, %v; want the end", b, err)
	}
}
