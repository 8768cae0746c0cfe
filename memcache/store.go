package memcache

import (
	"context"
	"fmt"
)

// storage is a storage command in both protocols.
type storage struct {
	classic string
	mode    byte  // of ms: its flag M
	unmet   error // what NOT_STORED means
}

var (
	setWord     = storage{"set", 'S', ErrNotStored}
	addWord     = storage{"add", 'E', ErrNotStored}
	replaceWord = storage{"replace", 'R', ErrNotStored}
	appendWord  = storage{"append", 'A', ErrNotStored}
	prependWord = storage{"prepend", 'P', ErrNotStored}
	casWord     = storage{"cas", 'S', ErrCASConflict}
)

// Set stores an item, whatever was there.
func (c *Client) Set(ctx context.Context, i *Item) error { return c.store(ctx, setWord, i) }

// Add stores an item if there is none under its key, else returns [ErrNotStored].
func (c *Client) Add(ctx context.Context, i *Item) error { return c.store(ctx, addWord, i) }

// Replace stores an item if there is one under its key, else returns [ErrNotStored].
func (c *Client) Replace(ctx context.Context, i *Item) error { return c.store(ctx, replaceWord, i) }

// Append puts an item's value behind the one that is there; flags and expiration remain. Where there is none it returns [ErrNotStored].
func (c *Client) Append(ctx context.Context, i *Item) error { return c.join(ctx, appendWord, i) }

// Prepend puts an item's value before the one that is there, as Append does behind it.
func (c *Client) Prepend(ctx context.Context, i *Item) error { return c.join(ctx, prependWord, i) }

func (c *Client) join(ctx context.Context, word storage, i *Item) error {
	if len(c.opts.codecs) > 0 {
		return fmt.Errorf("%w: %s cannot be done with compression", ErrCompression, word.classic)
	}
	return c.store(ctx, word, i)
}

// CompareAndSwap stores an item if the one that is there has still i.CAS as its version, as it came from a read. Else it returns
// [ErrCASConflict], or [ErrCacheMiss] where there is none anymore. A CAS of 0 is nobody's version: ErrCASConflict.
func (c *Client) CompareAndSwap(ctx context.Context, i *Item) error {
	if i.CAS == 0 {
		if err := checkKey(i.Key); err != nil {
			return err
		}
		return ErrCASConflict
	}
	return c.store(ctx, casWord, i)
}

func (c *Client) store(ctx context.Context, word storage, i *Item) error {
	value, flags, err := c.opts.pack(i)
	if err != nil {
		return err
	}
	var cas uint64
	// A store is not sent twice: what another client stored in between would be lost.
	err = c.do(ctx, i.Key, false, func(cn *conn) (err error) {
		cas, err = cn.store(word, i, value, flags)
		return err
	})
	if err == nil {
		i.CAS = cas
	}
	return err
}

func (c *conn) store(word storage, i *Item, value []byte, flags uint32) (cas uint64, err error) {
	if c.meta {
		fmt.Fprintf(c.w, "ms %s %d c F%d T%d M%c", i.Key, len(value), flags, i.Expiration, word.mode)
		if word == casWord {
			fmt.Fprintf(c.w, " C%d", i.CAS)
		}
	} else {
		fmt.Fprintf(c.w, "%s %s %d %d %d", word.classic, i.Key, flags, i.Expiration, len(value))
		if word == casWord {
			fmt.Fprintf(c.w, " %d", i.CAS)
		}
	}
	_, _ = c.w.WriteString("\r\n") // the writer keeps its first error for Flush
	_, _ = c.w.Write(value)
	_, _ = c.w.WriteString("\r\n")
	line, err := c.ask()
	if err != nil {
		return 0, err
	}
	if c.meta {
		code, h, err := parseMeta(line, c.limit)
		if err == nil {
			err = met(code, word.unmet, line)
		}
		return h.cas, err
	}
	return 0, met(string(line), word.unmet, line)
}

// met translates the answer to a condition.
func met(code string, unmet error, line []byte) error {
	switch code {
	case "STORED", "DELETED", "TOUCHED", "HD":
		return nil
	case "NOT_STORED", "NS":
		return unmet
	case "EXISTS", "EX":
		return ErrCASConflict
	case "NOT_FOUND", "NF":
		return ErrCacheMiss
	}
	return unexpected(line)
}

// Delete takes an item away, or returns [ErrCacheMiss].
func (c *Client) Delete(ctx context.Context, key string) error {
	return c.do(ctx, key, false, func(cn *conn) error {
		if cn.meta {
			return cn.condition("md %s\r\n", key)
		}
		return cn.condition("delete %s\r\n", key)
	})
}

// Touch gives an item a new expiration (see [Item]), or returns [ErrCacheMiss].
func (c *Client) Touch(ctx context.Context, key string, expiration int32) error {
	return c.do(ctx, key, true, func(cn *conn) error {
		if cn.meta {
			return cn.touch(key, expiration)
		}
		return cn.condition("touch %s %d\r\n", key, expiration)
	})
}

func (c *conn) touch(key string, expiration int32) error {
	fmt.Fprintf(c.w, "mg %s T%d\r\n", key, expiration)
	line, err := c.ask()
	if err != nil {
		return err
	}
	switch code, _, err := parseMeta(line, c.limit); {
	case err != nil:
		return err
	case code == "EN":
		return ErrCacheMiss
	case code != "HD":
		return unexpected(line)
	}
	return nil
}

func (c *conn) condition(format string, args ...any) error {
	fmt.Fprintf(c.w, format, args...)
	line, err := c.ask()
	if err != nil {
		return err
	}
	if c.meta {
		code, _, err := parseMeta(line, c.limit)
		if err != nil {
			return err
		}
		return met(code, ErrNotStored, line)
	}
	return met(string(line), ErrNotStored, line)
}

// Increment adds delta to a number in decimal digits and returns the sum, which wraps at 2^64; [ErrCacheMiss] where there is none, a
// [ServerError] where there is no number.
func (c *Client) Increment(ctx context.Context, key string, delta uint64) (uint64, error) {
	return c.count(ctx, "incr", key, delta)
}

// Decrement subtracts as Increment adds, and stops at 0.
func (c *Client) Decrement(ctx context.Context, key string, delta uint64) (uint64, error) {
	return c.count(ctx, "decr", key, delta)
}

func (c *Client) count(ctx context.Context, word, key string, delta uint64) (n uint64, err error) {
	err = c.do(ctx, key, false, func(cn *conn) error {
		fmt.Fprintf(cn.w, "%s %s %d\r\n", word, key, delta) // shorter than ma, and the same
		line, err := cn.ask()
		if err != nil {
			return err
		}
		if string(line) == "NOT_FOUND" {
			return ErrCacheMiss
		}
		n, err = parseNumber(line)
		return err
	})
	return n, err
}
