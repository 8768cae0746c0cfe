package memcachetest

import (
	"embed"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"wheelhouse/internal/transcript"
)

//go:embed testdata/*.txt
var transcripts embed.FS

// Run plays all transcripts (testdata/*.txt) against servers that start makes, one for each. With peer, those are left out that say how
// Wheelhouse differs from memcached 1.6.18.
//
// A transcript begins with "== name", or "== name (ours)" when only Wheelhouse behaves so. Its lines are
//
//	C: text           the client sends a line, ended by CRLF; C a: on the connection a
//	S: text           the server's next line
//	C: raw "bytes"    the client sends these bytes
//	S: raw "bytes"    the server's next bytes
//	S: nothing        the server has sent nothing more
//	S: closed         the server closes the connection
//	S: until END      lines are skipped up to this one
//
// In a line of the server, $name is a number that is remembered where it comes first and the same later on, and * is anything; in a
// line of the client, $name is that number. {x*300} is 300 times x.
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

var (
	repeatForm = regexp.MustCompile(`\{(.)\*(\d+)\}`)
	varForm    = regexp.MustCompile(`\$\w+`)
)

func (p *player) play(l transcript.Line) {
	p.t.Helper()
	where := l.Where
	c := p.conns[l.Conn]
	if c == nil {
		c = Dial(p.t, p.addr)
		p.conns[l.Conn] = c
	}
	text := repeatForm.ReplaceAllStringFunc(l.Text, func(s string) string {
		f := repeatForm.FindStringSubmatch(s)
		n, _ := strconv.Atoi(f[2])
		return strings.Repeat(f[1], n)
	})
	raw, isRaw := strings.CutPrefix(text, "raw ")
	if isRaw {
		var err error
		if raw, err = strconv.Unquote(raw); err != nil {
			p.t.Fatalf("%s\n%v", where, err)
		}
	}
	end, isUntil := strings.CutPrefix(text, "until ")
	switch {
	case l.Client && isRaw:
		c.Raw(raw)
	case l.Client:
		c.Raw(varForm.ReplaceAllStringFunc(text, func(name string) string { return p.vars[name] }) + "\r\n")
	case isRaw:
		if got := string(c.ReadN(len(raw))); got != raw {
			p.t.Fatalf("%s\ngot %q", where, got)
		}
	case text == "nothing":
		c.Nothing()
	case text == "closed":
		c.Closed()
	case isUntil:
		for p.line(c, where) != end {
		}
	default:
		p.expect(c, where, text)
	}
}

func (p *player) line(c *Conn, where string) string {
	p.t.Helper()
	got, err := c.TryLine()
	if err != nil {
		p.t.Fatalf("%s\n%v", where, err)
	}
	return got
}

func (p *player) expect(c *Conn, where, want string) {
	p.t.Helper()
	got := p.line(c, where)
	var fresh []string
	pattern := regexp.QuoteMeta(want)
	pattern = strings.ReplaceAll(pattern, `\*`, ".*")
	pattern = regexp.MustCompile(`\\\$\w+`).ReplaceAllStringFunc(pattern, func(name string) string {
		name = name[1:]
		if value, known := p.vars[name]; known {
			return value
		}
		fresh = append(fresh, name)
		return `(\d+)`
	})
	m := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(got)
	if m == nil {
		p.t.Fatalf("%s\ngot %q", where, got)
	}
	for i, name := range fresh {
		p.vars[name] = m[i+1]
	}
}
