package gearmantest

import (
	"embed"
	"strconv"
	"strings"
	"testing"
	"time"

	"wheelhouse/gearman/packet"
	"wheelhouse/internal/transcript"
)

//go:embed testdata/*.txt
var transcripts embed.FS

// Run plays all transcripts (testdata/*.txt) against servers that start makes, one for each. With peer, those are left out
// that say how Wheelhouse differs from Gearman's own server.
//
// A transcript begins with "== name", or "== name (ours)" when only Wheelhouse behaves so. Its lines are
//
//	C: TYPE args…        the client sends a packet; C a: on the connection a
//	S: TYPE args…        the server's next packet on that connection
//	C: > text            the client sends a line of text
//	S: > text            the server's next line
//	C: raw "bytes"       the client sends these bytes
//	C: closes            the client closes the connection
//	S: nothing           the server has sent nothing
//	S: closed            the server has closed the connection
//
// An argument is a word or a Go string in quotes; $name is given a value by the server's packet where it comes first, * is any
// value. In a line of text, $name stands alike.
func Run(t *testing.T, start func(t *testing.T) string, peer bool) {
	transcript.Run(t, transcripts, peer, func(t *testing.T) func(transcript.Line) {
		p := &player{t: t, addr: start(t), conns: map[string]*Conn{}, vars: map[string]string{}}
		return p.play
	})
}

// player plays one transcript.
type player struct {
	t     *testing.T
	addr  string
	conns map[string]*Conn
	vars  map[string]string
}

func (p *player) play(l transcript.Line) {
	p.t.Helper()
	c := p.conns[l.Conn]
	if c == nil {
		c = Dial(p.t, p.addr)
		p.conns[l.Conn] = c
	}
	where := l.Where
	text, isText := strings.CutPrefix(l.Text, "> ")
	switch {
	case l.Client && isText:
		c.Raw(p.subst(text) + "\n")
	case isText:
		got := strings.TrimSuffix(c.Line(), "\r")
		if want := p.subst(strings.ReplaceAll(text, `\t`, "\t")); got != want && want != "*" {
			p.t.Fatalf("%s\ngot %q", where, got)
		}
	case l.Text == "closes":
		p.close(c)
	case l.Text == "nothing":
		c.Nothing()
	case l.Text == "closed":
		c.Closed()
	case l.Client:
		p.send(c, where, words(p.t, where, l.Text))
	default:
		p.expect(c, where, words(p.t, where, l.Text))
	}
}

// settles is for how long a server may go on forgetting a connection's jobs after it has forgotten the connection: gearmand does the two in
// different threads, and tells nobody when the second is done.
const settles = 200 * time.Millisecond

// close closes a connection, and waits until the server has noticed.
func (p *player) close(c *Conn) {
	p.t.Helper()
	admin := Dial(p.t, p.addr)
	before := len(admin.Command("workers"))
	c.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(Wait); len(admin.Command("workers")) >= before; <-tick.C {
		if time.Now().After(end) {
			p.t.Fatal("the server does not notice that a connection was closed")
		}
	}
	admin.Close()
	time.Sleep(settles)
}

func (p *player) subst(s string) string {
	for name, value := range p.vars {
		s = strings.ReplaceAll(s, name, value)
	}
	return s
}

func (p *player) send(c *Conn, where string, args []string) {
	p.t.Helper()
	if args[0] == "raw" {
		c.Raw(args[1])
		return
	}
	for i := range args[1:] {
		args[i+1] = p.subst(args[i+1])
	}
	c.Send(typeNamed(p.t, where, args[0]), args[1:]...)
}

func (p *player) expect(c *Conn, where string, want []string) {
	p.t.Helper()
	got, err := c.TryRecv()
	if err != nil {
		p.t.Fatalf("%s\n%v", where, err)
	}
	args := got.Args()
	if got.Type != typeNamed(p.t, where, want[0]) || len(args) != len(want)-1 {
		p.t.Fatalf("%s\ngot %v", where, got)
	}
	for i, w := range want[1:] {
		switch value, known := p.vars[w]; {
		case known:
			w = value
		case strings.HasPrefix(w, "$"):
			p.vars[w] = args[i]
			w = args[i]
		}
		if w != "*" && w != args[i] {
			p.t.Fatalf("%s\ngot %v", where, got)
		}
	}
}

func typeNamed(t *testing.T, where, name string) packet.Type {
	t.Helper()
	for k := packet.Type(0); k < 64; k++ {
		if k.String() == name {
			return k
		}
	}
	t.Fatalf("%s\nthere is no packet %s", where, name)
	return 0
}

// words splits a line into words and strings in quotes.
func words(t *testing.T, where, s string) (list []string) {
	t.Helper()
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if s[0] != '"' {
			word, rest, _ := strings.Cut(s, " ")
			list, s = append(list, word), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			t.Fatalf("%s\n%v", where, err)
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatalf("%s\n%v", where, err)
		}
		list, s = append(list, word), s[len(quoted):]
	}
	return list
}
