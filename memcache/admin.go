package memcache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// maxStats limits the lines of a reply to stats.
const maxStats = 1 << 20

// each sends a request to all servers at once; the error names those that failed.
func (c *Client) each(ctx context.Context, again bool, f func(*conn, Server) error) error {
	errs := make([]error, len(c.backends))
	var wait sync.WaitGroup
	for i, b := range c.backends {
		wait.Go(func() {
			err := b.do(ctx, again, func(cn *conn) error { return f(cn, b.server) })
			if err != nil && answered(err) { // the others name the server themselves
				err = fmt.Errorf("memcache: %s: %w", b.server.Addr(), err)
			}
			errs[i] = err
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// FlushAll forgets all items on all servers.
func (c *Client) FlushAll(ctx context.Context) error {
	return c.each(ctx, false, func(cn *conn, _ Server) error {
		_, _ = cn.w.WriteString("flush_all\r\n")
		line, err := cn.ask()
		if err == nil && string(line) != "OK" {
			err = unexpected(line)
		}
		return err
	})
}

// DeleteAll is FlushAll, by gomemcache's other name for it.
func (c *Client) DeleteAll(ctx context.Context) error { return c.FlushAll(ctx) }

// Ping returns nil if all servers answer. A server that is set aside is not asked.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.Version(ctx)
	return err
}

// Version returns what the servers call themselves. Those that do not answer are missing, and named by the error.
func (c *Client) Version(ctx context.Context) (map[Server]string, error) {
	var mu sync.Mutex
	versions := map[Server]string{}
	err := c.each(ctx, true, func(cn *conn, s Server) error {
		_, _ = cn.w.WriteString("version\r\n")
		line, err := cn.ask()
		if err != nil {
			return err
		}
		version, ok := strings.CutPrefix(string(line), "VERSION ")
		if !ok {
			return unexpected(line)
		}
		mu.Lock()
		defer mu.Unlock()
		versions[s] = version
		return nil
	})
	return versions, err
}

// Stats returns the servers' statistics: those of a group such as "settings", "items", "slabs", or with "" the general ones. Servers that
// do not answer are missing, and named by the error. The group "reset" has none, and sets the counters to zero. Of Wheelhouse's own groups,
// "hotkeys" has each key's part of all hits, in per cent, by the key (in URI encoding if it has control characters); "slow" has
// "TIME MICROSECONDS ADDR COMMAND" by numbers, of which "1" is the latest.
func (c *Client) Stats(ctx context.Context, group string) (map[Server]map[string]string, error) {
	if group != "" && checkKey(group) != nil {
		return nil, fmt.Errorf("memcache: stats %q: not a group", group)
	}
	var mu sync.Mutex
	all := map[Server]map[string]string{}
	err := c.each(ctx, true, func(cn *conn, s Server) error {
		stats, err := cn.stats(group)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		all[s] = stats
		return nil
	})
	return all, err
}

func (c *conn) stats(group string) (map[string]string, error) {
	fmt.Fprintf(c.w, "%s\r\n", strings.TrimSpace("stats "+group))
	stats := map[string]string{}
	line, err := c.ask()
	for range maxStats {
		if err != nil {
			return nil, err
		}
		if s := string(line); s == "END" || s == "RESET" && len(stats) == 0 {
			return stats, nil
		}
		name, value, err2 := parseStat(line, len(stats)+1)
		if err2 != nil {
			return nil, err2
		}
		stats[name] = value
		line, err = c.line()
	}
	return nil, fmt.Errorf("%w: more than %d statistics", ErrProtocol, maxStats)
}
