package memcache

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Get returns the item of a key, with its version for CompareAndSwap, or [ErrCacheMiss].
func (c *Client) Get(ctx context.Context, key string) (*Item, error) {
	return c.get(ctx, key, "gets %s\r\n", "mg %s c f v\r\n", key)
}

// GetAndTouch is Get, and gives the item a new expiration (see [Item]).
func (c *Client) GetAndTouch(ctx context.Context, key string, expiration int32) (*Item, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return c.get(ctx, key, fmt.Sprintf("gats %d %%s\r\n", expiration), fmt.Sprintf("mg %%s c f v T%d\r\n", expiration), key)
}

func (c *Client) get(ctx context.Context, key, classic, meta string, args ...any) (*Item, error) {
	var found *Item
	err := c.do(ctx, key, true, func(cn *conn) (err error) {
		if cn.meta {
			fmt.Fprintf(cn.w, meta, args...)
			found, err = cn.metaItem(key)
		} else {
			fmt.Fprintf(cn.w, classic, args...)
			found, err = cn.classicItem(key)
		}
		return err
	})
	if err == nil {
		err = c.opts.unpack(found)
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (c *conn) metaItem(key string) (*Item, error) {
	line, err := c.ask()
	if err != nil {
		return nil, err
	}
	code, h, err := parseMeta(line, c.limit)
	switch {
	case err != nil:
		return nil, err
	case code == "EN":
		return nil, ErrCacheMiss
	case code != "VA":
		return nil, unexpected(line)
	}
	h.key = key
	return c.item(h)
}

func (c *conn) classicItem(key string) (*Item, error) {
	line, err := c.ask()
	if err != nil {
		return nil, err
	}
	if string(line) == "END" {
		return nil, ErrCacheMiss
	}
	h, err := parseValue(line, c.limit)
	if err != nil {
		return nil, err
	}
	if h.key != key {
		return nil, unexpected(line)
	}
	i, err := c.item(h)
	if err != nil {
		return nil, err
	}
	if line, err = c.line(); err == nil && string(line) != "END" {
		err = unexpected(line)
	}
	return i, err
}

func (c *conn) item(h header) (*Item, error) {
	value, err := c.value(h.size)
	if err != nil {
		return nil, err
	}
	return &Item{Key: h.key, Value: value, Flags: h.flags, CAS: h.cas}, nil
}

// GetMulti returns the items of those keys that there are. All servers are asked at once, each for all of its keys. When some cannot
// answer, what the others have is returned together with an error that names those.
func (c *Client) GetMulti(ctx context.Context, keys []string) (map[string]*Item, error) {
	for _, k := range keys {
		if err := checkKey(k); err != nil {
			return nil, fmt.Errorf("%w: %.300q", err, k)
		}
	}
	found := make(map[string]*Item, len(keys))
	tried := map[int]bool{}
	var errs []error // of keys that no other server is asked for
	for {
		left, last, more := c.round(ctx, keys, tried, found)
		errs = append(errs, last...)
		if len(left) == 0 {
			return found, errors.Join(errs...)
		}
		if c.ring.place(left[0], func(i int) bool { return !tried[i] }) < 0 { // nobody is left
			return found, errors.Join(append(errs, more...)...)
		}
		keys = left
	}
}

// part is what one server was asked for.
type part struct {
	server int
	keys   []string
	items  []*Item
	err    error
}

// round asks the servers that were not tried. It returns the keys that others are to be asked for, and why (over), and adds to tried who could
// not answer. errs is what is wrong with others.
func (c *Client) round(ctx context.Context, keys []string, tried map[int]bool, found map[string]*Item) (left []string, errs, over []error) {
	parts := map[int]*part{}
	asked := make(map[string]bool, len(keys))
	for _, k := range keys {
		if asked[k] {
			continue
		}
		asked[k] = true
		i := c.ring.place(k, func(i int) bool { return !tried[i] })
		if parts[i] == nil {
			parts[i] = &part{server: i}
		}
		parts[i].keys = append(parts[i].keys, k)
	}
	var wait sync.WaitGroup
	for _, p := range parts {
		ask := func() {
			p.err = c.backends[p.server].do(ctx, true, func(cn *conn) (err error) {
				p.items, err = cn.multi(p.keys)
				return err
			})
		}
		if len(parts) == 1 {
			ask()
		} else {
			wait.Go(ask)
		}
	}
	wait.Wait()
	for _, p := range parts {
		for _, i := range p.items {
			if err := c.opts.unpack(i); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", i.Key, err))
				continue
			}
			found[i.Key] = i
		}
		if p.err == nil {
			continue
		}
		if !c.elsewhere(ctx, p.err, true) {
			errs = append(errs, p.err)
			continue
		}
		tried[p.server] = true
		over = append(over, p.err)
		for _, k := range p.keys {
			if found[k] == nil { // what has come before it failed is newer than what others may have
				left = append(left, k)
			}
		}
	}
	return left, errs, over
}

// window is how many keys are asked for before the answers are read. What a window sends fits into what servers read at once, 16 KiB, and
// into the buffers of a socket: a client that writes on while a server waits for it to read would wait for ever.
const window = 50

// multi asks for keys, window by window. The next window is sent before the last one's answers are read, so that the server always has
// something to do.
func (c *conn) multi(keys []string) (items []*Item, err error) {
	send := func(at int) error {
		if at >= len(keys) {
			return nil
		}
		c.request(keys[at:min(at+window, len(keys))])
		return c.w.Flush()
	}
	if err := send(0); err != nil {
		return nil, err
	}
	for at := 0; at < len(keys); at += window {
		if err := send(at + window); err != nil {
			return items, err
		}
		wanted := make(map[string]bool, window)
		for _, k := range keys[at:min(at+window, len(keys))] {
			wanted[k] = true
		}
		for {
			i, err := c.next(wanted)
			if err != nil {
				return items, err
			}
			if i == nil {
				break
			}
			items = append(items, i)
		}
	}
	return items, nil
}

// request writes one window: one line, or as many as there are keys, of which only those found are answered, and mn behind them.
func (c *conn) request(keys []string) {
	if c.meta {
		for _, k := range keys {
			fmt.Fprintf(c.w, "mg %s c f k q v\r\n", k)
		}
		_, _ = c.w.WriteString("mn\r\n")
		return
	}
	_, _ = c.w.WriteString("gets")
	for _, k := range keys {
		_, _ = c.w.WriteString(" " + k)
	}
	_, _ = c.w.WriteString("\r\n")
}

// next reads the next item, nil at the end of the window.
func (c *conn) next(wanted map[string]bool) (*Item, error) {
	line, err := c.line()
	if err != nil {
		return nil, err
	}
	var h header
	if c.meta {
		var code string
		if code, h, err = parseMeta(line, c.limit); err == nil && code == "MN" {
			return nil, nil
		} else if err == nil && code != "VA" {
			err = unexpected(line)
		}
	} else if string(line) == "END" {
		return nil, nil
	} else {
		h, err = parseValue(line, c.limit)
	}
	if err != nil {
		return nil, err
	}
	if !wanted[h.key] {
		return nil, unexpected(line)
	}
	delete(wanted, h.key)
	return c.item(h)
}
