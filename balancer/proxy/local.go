package proxy

import (
	"io"
	"os"
	"strings"

	"wheelhouse/internal/http1"
)

// serveLocal has a handler of this process answer, and follows what it says in X-REPROXY fields.
func (c *call) serveLocal(name string) {
	h := c.p.Local(name)
	if h == nil {
		c.r.Error(503, "", "there is no local handler '"+name+"'")
		return
	}
	c.r.Backend = "local:" + name
	c.r.Attempts++
	lx := &localExchange{Exchange: c.x, c: c, req: c.edited()}
	if !c.r.Entry.PersistClient {
		c.x.Header().Set("Connection", "close")
	}
	h.ServeExchange(lx)
	if lx.order == nil {
		return
	}
	hd := c.x.Header()
	stripReproxy(hd)
	c.ctx = c.x.Context()
	c.fromURLs(*lx.order, lx.status)
}

// localExchange passes a handler's answer on, through the plugins, or holds it back when it names something else to answer with.
type localExchange struct {
	http1.Exchange
	c       *call
	req     *http1.Request // as edited, nil: the client's
	order   *order
	status  int
	started bool
	dropped bool // a plugin has answered
}

// Request is the client's, with what plugins, the cache and HEADER have changed.
func (x *localExchange) Request() *http1.Request {
	if x.req != nil {
		return x.req
	}
	return x.Exchange.Request()
}

// Body is the client's, from its beginning.
func (x *localExchange) Body() io.Reader { return x.c.r.Body() }

// edited is a request with changed fields; nil when nothing is to be changed.
func (c *call) edited() *http1.Request {
	r, q := c.r, c.x.Request()
	if len(r.Edits) == 0 && len(c.set.HeaderInsert) == 0 && len(c.set.HeaderRemove) == 0 && same(r.Path, q.Path) && same(r.Query, q.Query) {
		return nil
	}
	e := q.WithHeader()
	e.Path, e.Query, e.Host = r.Path, r.Query, r.Host
	r.Edit(&e.Header)
	for _, name := range c.set.HeaderRemove {
		e.Header.Del(name)
	}
	for _, f := range c.set.HeaderInsert {
		if strings.EqualFold(f.Name, "Host") {
			e.Host = []byte(f.Value)
		}
		e.Header.Set(f.Name, f.Value)
	}
	return e
}

func (x *localExchange) Started() bool { return x.started }

func (x *localExchange) Start(status int, size int64) error {
	if x.started {
		return http1.ErrStarted
	}
	x.started = true
	h := x.Header()
	if x.c.set.EnableReproxy && h.Has("X-Reproxy-URL") {
		o, err := orderOf(h)
		if err != nil {
			x.c.r.Error(502, "", err.Error())
			x.dropped = true
			return nil
		}
		if x.status = status; status == 204 {
			x.status = 200
		}
		x.order = &o
		return nil
	}
	goOn, err := x.c.r.Begin(status, size)
	x.dropped = !goOn
	return err
}

// FollowsReproxy says whether a handler may answer with X-Reproxy-URL.
func (x *localExchange) FollowsReproxy() bool { return x.c.set.EnableReproxy }

func (x *localExchange) silent() bool { return x.order != nil || x.dropped }

func (x *localExchange) Reply(status int, body []byte) error {
	err := x.Start(status, int64(len(body)))
	if err != nil || x.silent() || len(body) == 0 {
		return err
	}
	_, err = x.Write(body)
	return err
}

func (x *localExchange) Write(p []byte) (int, error) {
	if x.silent() {
		return len(p), nil
	}
	n, err := x.Exchange.Write(p)
	x.c.r.Sent += int64(n)
	return n, err
}

func (x *localExchange) ReadFrom(r io.Reader) (int64, error) {
	if x.silent() {
		return io.Copy(io.Discard, r)
	}
	n, err := x.Exchange.ReadFrom(r)
	x.c.r.Sent += n
	return n, err
}

func (x *localExchange) SendFile(f *os.File, off, n int64) (int64, error) {
	if x.silent() {
		return n, nil
	}
	m, err := x.Exchange.SendFile(f, off, n)
	x.c.r.Sent += m
	return m, err
}

func (x *localExchange) Flush() error {
	if x.silent() {
		return nil
	}
	return x.Exchange.Flush()
}
