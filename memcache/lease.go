package memcache

import (
	"context"
	"fmt"
	"time"
)

// Found is what [Client.GetLeases] has found under one key.
type Found struct {
	Value []byte // nil: nothing that can be used
	Flags uint32
	Won   bool // there is nothing, and the caller is the one who may store it, by [Leases.Fill]

	key string
	cas uint64
}

// Leases is the right to fill what [Client.GetLeases] did not find. It has a connection to the server for itself until Release: a server that
// is started anew counts versions from the beginning, and could take an old one for one of its own; no connection outlives its server. It is
// for one goroutine.
type Leases struct {
	b     *backend
	c     *conn
	opts  *options
	found []Found
}

// GetLeases looks keys up, all of which must be of one server ([ErrSpread]), in one round trip. Of those who find nothing under a key the first
// one is told so (Won): it may get the value from where it comes from and store it by Fill; the others find nothing either, for up to wait
// (in whole seconds, at least one) or until there is a value.
//
// Fill stores nothing when the item was deleted or stored by somebody else since GetLeases. So a reader who asks the source after GetLeases
// never stores what was true before a delete: what was there at the time of the delete cannot come back after it.
//
// Unless there is an error, the caller must call Release. The item that says who has won is stored at the server: it is there for
// other readers of the key, too, as an empty value. Needs the meta protocol ([ErrNoLeases]). With [WithFailover] no other server is asked.
func (c *Client) GetLeases(ctx context.Context, keys []string, wait time.Duration) ([]Found, *Leases, error) {
	if len(keys) == 0 || len(keys) > window {
		return nil, nil, fmt.Errorf("memcache: leases of %d keys; want 1 to %d", len(keys), window)
	}
	at, err := c.oneServer(keys)
	if err != nil {
		return nil, nil, err
	}
	l := &Leases{b: c.backends[at], opts: &c.opts, found: make([]Found, len(keys))}
	seconds := Expire(max(wait, time.Second))
	l.c, err = l.b.hold(ctx, func(cn *conn) error { return cn.leases(keys, seconds, l.found) })
	if err != nil {
		return nil, nil, err
	}
	for i := range l.found {
		f := &l.found[i]
		if f.Value == nil {
			continue
		}
		item := Item{Key: f.key, Value: f.Value, Flags: f.Flags}
		if err := c.opts.unpack(&item); err != nil {
			f.Value = nil // as if it were not there
			continue
		}
		f.Value, f.Flags = item.Value, item.Flags
	}
	return l.found, l, nil
}

func (c *Client) oneServer(keys []string) (at int, err error) {
	for i, k := range keys {
		if err := checkKey(k); err != nil {
			return 0, err
		}
		server := c.ring.Place(k)
		if i > 0 && server != at {
			return 0, ErrSpread
		}
		at = server
	}
	return at, nil
}

// leases asks for keys and makes items of those that are not there.
func (c *conn) leases(keys []string, seconds int32, found []Found) error {
	if !c.meta {
		return ErrNoLeases
	}
	for _, k := range keys {
		fmt.Fprintf(c.w, "mg %s c f v N%d\r\n", k, seconds)
	}
	if err := c.w.Flush(); err != nil {
		return err
	}
	var refused error
	for i, k := range keys {
		f, err := c.leased()
		if err != nil {
			if !reusable(err) {
				return err
			}
			refused = err // SERVER_ERROR, as for want of memory: the other answers come all the same
			continue
		}
		f.key = k
		found[i] = f
	}
	return refused
}

// leased reads one answer (protocol.txt, "Meta Get", flags N, W, X, Z).
func (c *conn) leased() (f Found, err error) {
	line, err := c.line()
	if err != nil {
		return f, err
	}
	code, h, err := parseMeta(line, c.limit)
	switch {
	case err != nil:
		return f, err
	case code == "EN": // as some servers say when there is no room for a new item
		return f, nil
	case code != "VA" && code != "HD":
		return f, unexpected(line)
	}
	f.Flags, f.cas, f.Won = h.flags, h.cas, h.won && h.cas != 0
	if h.size < 0 {
		return f, nil
	}
	value, err := c.value(h.size)
	if err == nil && h.size > 0 && !h.won && !h.stale {
		f.Value = value
	}
	return f, err
}

// Fill stores the value of the key at place i of GetLeases, which the caller has won; item.Key is ignored, and Expiration is as in [Item]. When
// the item was deleted, stored or forgotten meanwhile it returns [ErrCacheMiss] or [ErrCASConflict]: another reader will fill it.
func (l *Leases) Fill(ctx context.Context, i int, item *Item) error {
	if l.c == nil {
		return ErrClosed
	}
	f := &l.found[i]
	if !f.Won {
		return ErrCASConflict
	}
	fill := *item
	fill.Key, fill.CAS = f.key, f.cas
	value, flags, err := l.opts.pack(&fill)
	if err != nil {
		return err
	}
	return l.use(ctx, f, func() error {
		_, err := l.c.store(casWord, &fill, value, flags)
		return err
	})
}

// Abandon says that the key at place i, which the caller has won, will not be filled: the next reader wins it, without waiting. Errors as of Fill.
func (l *Leases) Abandon(ctx context.Context, i int) error {
	if l.c == nil {
		return ErrClosed
	}
	f := &l.found[i]
	if !f.Won {
		return ErrCASConflict
	}
	return l.use(ctx, f, func() error { return l.c.condition("md %s C%d\r\n", f.key, f.cas) })
}

// use does a request that ends the lease of one key.
func (l *Leases) use(ctx context.Context, f *Found, request func() error) error {
	f.Won = false
	err := l.c.under(ctx, request)
	if !reusable(err) || l.c.spoilt() {
		_ = l.c.nc.Close()
		<-l.b.slots
		l.c = nil
	}
	return l.b.named(err)
}

// Release lets the connection go. Calling it again does nothing.
func (l *Leases) Release() {
	l.b.release(l.c)
	l.c = nil
}

// Mark is a key under which there is, or was, an empty item that nobody fills; see [Client.Mark].
type Mark struct {
	Key string
	cas uint64 // 0: there is none
}

// Mark makes keys, all of which must be of one server ([ErrSpread]), such that GetLeases finds nothing and nobody wins, for up to wait (in whole
// seconds, at least one) or until Unmark: for who is about to change what they stand for. Leases from before it cannot be filled. Needs the
// meta protocol ([ErrNoLeases]). After an error the keys may or may not be marked. It may be sent twice.
func (c *Client) Mark(ctx context.Context, wait time.Duration, keys ...string) ([]Mark, error) {
	marks := make([]Mark, len(keys))
	for i, k := range keys {
		marks[i].Key = k
	}
	seconds := Expire(max(wait, time.Second))
	err := c.marking(ctx, marks, func(cn *conn) error {
		if !cn.meta {
			return ErrNoLeases
		}
		return cn.mark(marks, seconds)
	})
	return marks, err
}

// Unmark deletes what Mark has stored. Where it finds something else, it stores a mark anew, for up to wait: another one who changes the same, and
// has marked the key too, is still at it. When it returns nil nothing is there any more that was there before, and no lease from before it can be
// filled, whether or not the marks were still there. It may be sent twice.
func (c *Client) Unmark(ctx context.Context, wait time.Duration, marks ...Mark) error {
	seconds := Expire(max(wait, time.Second))
	return c.marking(ctx, marks, func(cn *conn) error { return cn.unmark(marks, seconds) })
}

// Discard deletes keys, all of which must be of one server ([ErrSpread]), in one round trip. When it returns nil none of them is there any
// more, or has been since Discard began, and no lease from before it can be filled. It may be sent twice.
func (c *Client) Discard(ctx context.Context, keys ...string) error {
	marks := make([]Mark, len(keys))
	for i, k := range keys {
		marks[i].Key = k
	}
	return c.Unmark(ctx, 0, marks...)
}

func (c *Client) marking(ctx context.Context, marks []Mark, f func(*conn) error) error {
	if len(marks) == 0 {
		return nil
	}
	if len(marks) > window {
		return fmt.Errorf("memcache: marks of %d keys; the limit is %d", len(marks), window)
	}
	keys := make([]string, len(marks))
	for i := range marks {
		keys[i] = marks[i].Key
	}
	at, err := c.oneServer(keys)
	if err != nil {
		return err
	}
	return c.backends[at].do(ctx, true, f)
}

func (c *conn) mark(marks []Mark, seconds int32) error {
	for _, m := range marks {
		fmt.Fprintf(c.w, "ms %s 0 c T%d\r\n\r\n", m.Key, seconds)
	}
	return c.each(len(marks), func(i int, line []byte) error {
		code, h, err := parseMeta(line, c.limit)
		if err == nil && code != "HD" {
			err = unexpected(line)
		}
		marks[i].cas = h.cas
		return err
	})
}

func (c *conn) unmark(marks []Mark, seconds int32) error {
	for _, m := range marks {
		switch {
		case m.cas != 0:
			fmt.Fprintf(c.w, "md %s C%d\r\n", m.Key, m.cas)
		case c.meta:
			fmt.Fprintf(c.w, "md %s\r\n", m.Key)
		default:
			fmt.Fprintf(c.w, "delete %s\r\n", m.Key)
		}
	}
	var others []Mark
	err := c.each(len(marks), func(i int, line []byte) error {
		switch string(line) {
		case "HD", "NF", "DELETED", "NOT_FOUND":
			return nil
		case "EX":
			others = append(others, marks[i])
			return nil
		}
		return unexpected(line)
	})
	if err != nil || len(others) == 0 {
		return err
	}
	return c.mark(others, seconds)
}

// each sends what was written and reads n lines. A refusal of one request that leaves the connection usable is returned when all were read.
func (c *conn) each(n int, f func(i int, line []byte) error) error {
	if err := c.w.Flush(); err != nil {
		return err
	}
	var refused error
	for i := range n {
		line, err := c.line()
		if err == nil {
			err = f(i, line)
		}
		if err != nil {
			if !reusable(err) {
				return err
			}
			refused = err
		}
	}
	return refused
}
