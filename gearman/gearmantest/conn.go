// Package gearmantest is the suite that Gearman job servers pass: transcripts of what goes over the wire, and a connection
// that speaks single packets.
package gearmantest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"wheelhouse/gearman/packet"
)

// Wait bounds whatever a test waits for; a busy machine needs it.
const Wait = 20 * time.Second

// Conn is a connection to a job server. Its methods fail the test when something goes wrong; those that do must be called
// from the test's goroutine. Send, Recv and TryRecv are for one goroutine each.
type Conn struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// Packet is a packet from the server.
type Packet struct {
	Type packet.Type
	Data []byte
}

// Args are the packet's arguments; nil when it has too few.
func (p Packet) Args() []string {
	args, err := packet.Split(p.Type, p.Data, nil)
	if err != nil {
		return nil
	}
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = string(a)
	}
	return out
}

// String is how a transcript writes the packet.
func (p Packet) String() string {
	args := p.Args()
	if args == nil {
		args = []string{string(p.Data)}
	}
	return fmt.Sprintf("%v %q", p.Type, args)
}

// Dial connects; the connection is closed with the test. An address that begins with / is a unix socket's.
func Dial(t testing.TB, addr string) *Conn {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	nc, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return New(t, nc)
}

// New makes a Conn of any connection, which is closed with the test.
func New(t testing.TB, nc net.Conn) *Conn {
	t.Cleanup(func() { nc.Close() })
	return &Conn{nc, t, bufio.NewReader(nc)}
}

// Send sends a packet.
func (c *Conn) Send(t packet.Type, args ...string) {
	c.t.Helper()
	c.Raw(string(packet.Append(nil, packet.Req, t, args...)))
}

// Raw sends bytes.
func (c *Conn) Raw(b string) {
	c.t.Helper()
	c.SetWriteDeadline(time.Now().Add(Wait))
	if _, err := io.WriteString(c.Conn, b); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// TryRecv reads a packet.
func (c *Conn) TryRecv() (Packet, error) {
	c.SetReadDeadline(time.Now().Add(Wait))
	var head [packet.HeaderSize]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return Packet{}, err
	}
	h := packet.ParseHeader(head[:])
	if h.Magic != packet.Res || !h.Type.Known() {
		return Packet{}, fmt.Errorf("not a packet of a server: %q", head)
	}
	var data bytes.Buffer
	if _, err := io.CopyN(&data, c.r, int64(h.Size)); err != nil {
		return Packet{}, err
	}
	return Packet{h.Type, data.Bytes()}, nil
}

// Recv reads a packet.
func (c *Conn) Recv() Packet {
	c.t.Helper()
	p, err := c.TryRecv()
	if err != nil {
		c.t.Fatalf("receive: %v", err)
	}
	return p
}

// Expect reads a packet and compares it; "*" stands for any argument. It returns the arguments.
func (c *Conn) Expect(t packet.Type, want ...string) []string {
	c.t.Helper()
	p := c.Recv()
	if p.Type != t {
		c.t.Fatalf("got %v; want %v %q", p, t, want)
	}
	got := p.Args()
	for i, w := range want {
		if i >= len(got) || (w != "*" && w != got[i]) {
			c.t.Fatalf("got %v; want %v %q", p, t, want)
		}
	}
	return got
}

// Nothing checks that the server has sent nothing.
func (c *Conn) Nothing() {
	c.t.Helper()
	c.Send(packet.EchoReq, "nothing?")
	c.Expect(packet.EchoRes, "nothing?")
}

// Closed checks that the server has closed the connection and sent nothing before.
func (c *Conn) Closed() {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(Wait))
	b, err := c.r.ReadByte()
	if err == nil {
		rest, _ := c.r.Peek(c.r.Buffered())
		c.t.Fatalf("got %q; want the end", append([]byte{b}, rest...))
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		c.t.Fatal("the server has not closed the connection")
	}
}

// Line reads a line of text, without its end.
func (c *Conn) Line() string {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(Wait))
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read a line: %q %v", s, err)
	}
	return s[:len(s)-1]
}

// Command sends a text command and reads its answer up to a line of ".".
func (c *Conn) Command(line string) []string {
	c.t.Helper()
	c.Raw(line + "\n")
	var lines []string
	for {
		l := c.Line()
		if l == "." {
			return lines
		}
		lines = append(lines, l)
	}
}

// Submit submits a job and returns its handle.
func (c *Conn) Submit(t packet.Type, fn, unique, data string) string {
	c.t.Helper()
	c.Send(t, fn, unique, data)
	return c.Expect(packet.JobCreated)[0]
}

// Worker announces functions, and waits until the server knows.
func (c *Conn) Worker(fns ...string) *Conn {
	c.t.Helper()
	for _, f := range fns {
		c.Send(packet.CanDo, f)
	}
	c.Nothing()
	return c
}

// Grab asks for a job and returns its handle, "" for none.
func (c *Conn) Grab() (handle, data string) {
	c.t.Helper()
	c.Send(packet.GrabJob)
	p := c.Recv()
	switch p.Type {
	case packet.NoJob:
		return "", ""
	case packet.JobAssign:
		a := p.Args()
		return a[0], a[2]
	}
	c.t.Fatalf("got %v; want a job or none", p)
	return "", ""
}

// Buffered reports whether something has arrived that has not been read, without waiting.
func (c *Conn) Buffered() bool {
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.r.Peek(1)
	return err == nil
}
