package memcache

import (
	"context"
	"errors"
	"time"
)

// Client talks to a set of cache servers. Make one with [New] for the whole program: its methods can be used by many at once.
//
// A method returns when the servers have answered, the time of [WithTimeout] is over, or its context ends. An error that is none of those
// in errors.go is the network's, and says which server it is about; [os.ErrDeadlineExceeded] is the end of the time of [WithTimeout], the
// context's own errors are that of the context.
type Client struct {
	opts     options
	ring     *Ring
	backends []*backend
}

// New makes a client of servers, to which it connects when there is something to say. Close must end it.
func New(servers []Server, opts ...Option) (*Client, error) {
	c := &Client{opts: defaults()}
	for _, set := range opts {
		set(&c.opts)
	}
	if err := c.opts.validate(); err != nil {
		return nil, err
	}
	var err error
	if c.ring, err = NewRing(servers, c.opts.kind); err != nil {
		return nil, err
	}
	for _, s := range servers {
		c.backends = append(c.backends, newBackend(s, &c.opts))
	}
	return c, nil
}

// Close closes unused connections, and those in use when their requests are done. Requests after it fail with [ErrClosed].
func (c *Client) Close() error {
	for _, b := range c.backends {
		b.close()
	}
	return nil
}

// Ring returns how keys are placed.
func (c *Client) Ring() *Ring { return c.ring }

// ServerState is what a client thinks of a server.
type ServerState struct {
	Server    Server
	Until     time.Time // set aside up to then; zero: in use
	Failures  int       // in a row
	Ejections uint64    // how often it was set aside
	Idle      int       // unused connections
}

// Servers returns the state of all servers, in the order of [New].
func (c *Client) Servers() []ServerState {
	list := make([]ServerState, 0, len(c.backends))
	for _, b := range c.backends {
		b.mu.Lock()
		s := ServerState{Server: b.server, Failures: b.failed, Ejections: b.ejection, Idle: len(b.idle)}
		if b.pause > 0 {
			s.Until = b.until
		}
		b.mu.Unlock()
		list = append(list, s)
	}
	return list
}

// do sends a request to key's server, and with failover to the next ones when that does no harm.
func (c *Client) do(ctx context.Context, key string, again bool, f func(*conn) error) error {
	if err := checkKey(key); err != nil {
		return err
	}
	var tried map[int]bool
	for err := ErrNoServers; ; {
		i := c.ring.place(key, func(i int) bool { return !tried[i] })
		if i < 0 { // all that have keys were tried
			return err
		}
		err = c.backends[i].do(ctx, again, f)
		if !c.elsewhere(ctx, err, again) {
			return err
		}
		if tried == nil {
			tried = map[int]bool{}
		}
		tried[i] = true
	}
}

// elsewhere tells whether a request that failed is to be sent to another server.
func (c *Client) elsewhere(ctx context.Context, err error, again bool) bool {
	if err == nil || !c.opts.failover || ctx.Err() != nil || answered(err) {
		return false
	}
	var not unsent
	return errors.As(err, &not) && !errors.Is(err, ErrClosed) || again && judge(err) == failed
}
