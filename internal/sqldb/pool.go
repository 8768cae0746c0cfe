package sqldb

import (
	"context"
	"errors"
	"sync"

	"zombiezen.com/go/sqlite"
)

// Stmt is a prepared statement. Parameters count from 1, columns from 0. It belongs to the connection it came from and
// is valid until the function that was given the connection returns, which also resets it.
type Stmt = sqlite.Stmt

// Conn is a connection that reads, lent to one goroutine.
type Conn struct {
	c    *sqlite.Conn
	used []*Stmt // to be reset before the connection is given back: an open one would keep its snapshot for ever
}

// Select returns the statement for a query, which is prepared once per connection.
func (c *Conn) Select(query string) (*Stmt, error) {
	st, err := c.c.Prepare(query)
	if err == nil {
		c.used = append(c.used, st)
	}
	return st, err
}

// reset ends all statements that were used.
func (c *Conn) reset() {
	for _, st := range c.used {
		_ = st.Reset() // repeats the error that Step gave
	}
	c.used = c.used[:0]
}

// pool lends connections, the one with the warmest cache first.
type pool struct {
	free chan struct{} // one token per idle connection
	done chan struct{} // closed by drain

	mu   sync.Mutex // guards idle
	idle []*Conn
	all  []*Conn
}

func newPool(n int) *pool {
	return &pool{free: make(chan struct{}, n), done: make(chan struct{})}
}

func (p *pool) add(c *sqlite.Conn) {
	conn := &Conn{c: c, used: make([]*Stmt, 0, 8)}
	p.all = append(p.all, conn)
	p.put(conn)
}

func (p *pool) get(ctx context.Context) (*Conn, error) {
	select {
	case <-p.free:
	default:
		select {
		case <-p.free:
		case <-p.done:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p.mu.Lock()
	last := len(p.idle) - 1
	c := p.idle[last]
	p.idle = p.idle[:last]
	p.mu.Unlock()
	return c, nil
}

func (p *pool) put(c *Conn) {
	p.mu.Lock()
	p.idle = append(p.idle, c)
	p.mu.Unlock()
	p.free <- struct{}{}
}

// drain waits until all connections are idle and lends none any more.
func (p *pool) drain() {
	close(p.done)
	for range p.all {
		<-p.free
	}
}

func (p *pool) close() error {
	var errs []error
	for _, c := range p.all {
		errs = append(errs, c.c.Close())
	}
	return errors.Join(errs...)
}

// Read lends f a connection. Each statement that f runs sees all that was committed before it began. f must not call the
// DB, keep the connection, or wait for anything else: connections are few, and the write-ahead log cannot start again
// while an old state is being read. ctx bounds the waiting for a connection; f is not interrupted.
func (db *DB) Read(ctx context.Context, f func(c *Conn) error) error {
	c, err := db.readers.get(ctx)
	if err != nil {
		return err
	}
	defer db.readers.put(c)
	defer c.reset()
	if err := f(c); err != nil {
		return db.translate(err)
	}
	return nil
}

// View is Read where all of f's statements see the same state.
func (db *DB) View(ctx context.Context, f func(c *Conn) error) error {
	return db.Read(ctx, func(c *Conn) (err error) {
		if err := stepOnce(c.c, "BEGIN"); err != nil {
			return err
		}
		defer func() {
			c.reset()
			if rerr := stepOnce(c.c, "ROLLBACK"); err == nil {
				err = rerr
			}
		}()
		return f(c)
	})
}

// stepOnce runs a prepared statement that returns no row.
func stepOnce(c *sqlite.Conn, q string) error {
	st, err := c.Prepare(q)
	if err != nil {
		return err
	}
	if _, err := st.Step(); err != nil {
		return err
	}
	return st.Reset()
}
