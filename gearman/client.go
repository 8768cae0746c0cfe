package gearman

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"wheelhouse/gearman/packet"
)

// ClientOptions are the choices of a [Client]. The zero value is usable.
type ClientOptions struct {
	// MaxConns is how many connections to a server there are at most. Default 4: a new one is opened when 32 calls wait
	// on each.
	MaxConns int
	// DialTimeout bounds opening a connection, up to the server's first answer. Default 3 s.
	DialTimeout time.Duration
	// RetryAfter is how long a server that could not be reached is passed over. Default 5 s; when all are, they are
	// tried all the same.
	RetryAfter time.Duration
	// MaxReply is the largest packet that is taken from a server, in bytes. Default 256 MiB.
	MaxReply int64
	// TLS, if not nil, is how connections are encrypted. ServerName is taken from the address unless it is set.
	TLS *tls.Config
}

func (o ClientOptions) withDefaults() ClientOptions {
	o.MaxConns = max(1, cmp.Or(o.MaxConns, 4))
	o.DialTimeout = cmp.Or(o.DialTimeout, 3*time.Second)
	o.RetryAfter = cmp.Or(o.RetryAfter, 5*time.Second)
	o.MaxReply = cmp.Or(o.MaxReply, 256<<20)
	return o
}

func (o *ClientOptions) dialer() dialer { return dialer{o.DialTimeout, o.TLS} }

// Client has work done by the workers of some job servers. Safe for concurrent use.
type Client struct {
	servers []*server
	opts    ClientOptions
	next    atomic.Uint32 // where jobs without a key begin
	closed  atomic.Bool
}

// NewClient returns a client of servers: addresses as host, host:port (default 4730) or unix:PATH. Connections are opened
// when they are needed. Close it.
func NewClient(servers []string, opts ClientOptions) (*Client, error) {
	if len(servers) == 0 {
		return nil, errors.New("gearman: no job servers are given")
	}
	c := &Client{opts: opts.withDefaults()}
	for _, a := range servers {
		c.servers = append(c.servers, newServer(normalize(a), &c.opts))
	}
	return c, nil
}

// Close ends all connections, and what waits on them with ErrClosed.
func (c *Client) Close() error {
	c.closed.Store(true)
	for _, s := range c.servers {
		s.close()
	}
	return nil
}

// Do has a job done and waits for its result: all data that the worker sent, joined. It goes on to the next server as long as
// none has taken the job. Errors: ErrFailed, an *[Exception], ErrDisconnected, a *[ServerError], ErrNoServer. When ctx ends
// it returns; the job may be done all the same.
func (c *Client) Do(ctx context.Context, job Job) ([]byte, error) {
	t, err := c.Start(ctx, job)
	if err != nil {
		return nil, err
	}
	return t.Result(ctx)
}

// Start has a job done and returns what follows its course. Call [Task.Result], or [Task.Next] to the end, or [Task.Stop].
func (c *Client) Start(ctx context.Context, job Job) (*Task, error) {
	if err := job.validate(); err != nil {
		return nil, err
	}
	if !job.RunAt.IsZero() {
		return nil, fmt.Errorf("gearman: %s: a job with a time can only be left to the server: use Submit", job.Func)
	}
	var t *Task
	err := c.try(ctx, &job, func(conn *conn) (err error) {
		t, err = conn.start(ctx, &job)
		return err
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Submit leaves a job to the server, to be done in the background, and returns when the server has it. A server that is lost
// while it is asked may have it, too: the job may be done twice then.
func (c *Client) Submit(ctx context.Context, job Job) (Handle, error) {
	if err := job.validate(); err != nil {
		return Handle{}, err
	}
	var h Handle
	err := c.try(ctx, &job, func(conn *conn) error {
		a, err := conn.ask(ctx, func(buf []byte) []byte { return job.appendTo(buf, true) })
		if err != nil {
			return err
		}
		if a.typ != packet.JobCreated {
			return fmt.Errorf("gearman: job server answered a submission with %v", a.typ)
		}
		h = Handle{conn.server, string(a.args[0])}
		return nil
	})
	return h, err
}

// try calls f with connections to the servers that a job may go to, in order, until one has taken the request.
func (c *Client) try(ctx context.Context, job *Job, f func(*conn) error) error {
	var errs []error
	for _, s := range c.candidates(job) {
		conn, err := s.conn(ctx)
		if err == nil {
			err = f(conn)
		}
		switch {
		case err == nil:
			return nil
		case c.closed.Load():
			return ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if _, answered := err.(*ServerError); answered {
			return err
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("%w: %w", ErrNoServer, errors.Join(errs...))
}

// candidates are the servers in the order in which a job tries them: those that are known to be down come last.
func (c *Client) candidates(job *Job) []*server {
	var list []*server
	if key := job.key(); key != "" {
		list = order(c.servers, key)
	} else {
		n := int(c.next.Add(1)) % len(c.servers)
		list = append(append(list, c.servers[n:]...), c.servers[:n]...)
	}
	up := make([]*server, 0, len(list))
	var down []*server
	for _, s := range list {
		if s.isDown() {
			down = append(down, s)
		} else {
			up = append(up, s)
		}
	}
	return append(up, down...)
}

// Status asks a job's server how far it is.
func (c *Client) Status(ctx context.Context, h Handle) (Status, error) {
	a, err := c.askServer(ctx, h.Server, packet.GetStatus, h.ID)
	if err != nil {
		return Status{}, err
	}
	if a.typ != packet.StatusRes || string(a.args[0]) != h.ID {
		return Status{}, errStatus
	}
	return parseStatus(a.args[1:])
}

// StatusUnique asks all servers for a job with a Unique key, of whatever function.
func (c *Client) StatusUnique(ctx context.Context, unique string) (Status, error) {
	var errs []error
	for _, s := range c.servers {
		a, err := c.askServer(ctx, s.addr, packet.GetStatusUnique, unique)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if a.typ != packet.StatusResUnique {
			return Status{}, errStatus
		}
		st, err := parseStatus(a.args[1:])
		if err != nil || st.Known {
			return st, err
		}
	}
	return Status{}, errors.Join(errs...)
}

// Echo has a server send data back: it shows that the server lives, and how fast it answers.
func (c *Client) Echo(ctx context.Context, addr string, data []byte) error {
	a, err := c.askServer(ctx, addr, packet.EchoReq, string(data))
	if err != nil {
		return err
	}
	if a.typ != packet.EchoRes || !bytes.Equal(a.args[0], data) {
		return fmt.Errorf("gearman: %s answered an echo with %v", addr, a.typ)
	}
	return nil
}

func (c *Client) askServer(ctx context.Context, addr string, typ packet.Type, arg string) (answer, error) {
	addr = normalize(addr)
	for _, s := range c.servers {
		if s.addr != addr {
			continue
		}
		conn, err := s.conn(ctx)
		if err != nil {
			return answer{}, fmt.Errorf("%w: %w", ErrNoServer, err)
		}
		return conn.ask(ctx, func(buf []byte) []byte { return packet.Append(buf, packet.Req, typ, arg) })
	}
	return answer{}, fmt.Errorf("gearman: %s is not among this client's servers", addr)
}
