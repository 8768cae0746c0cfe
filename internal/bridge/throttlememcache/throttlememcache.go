// Package throttlememcache lets the balancer's Throttle plugin remember clients in memcached, so that several balancers know the same of
// them.
package throttlememcache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"wheelhouse/balancer/plugin"
	"wheelhouse/memcache"
)

const (
	prefix = "throttle:" // of keys
	// answerTime and dialTime are how long a request waits for a server before it is treated as if nothing were known.
	answerTime = 100 * time.Millisecond
	dialTime   = 250 * time.Millisecond
)

// Clients are the clients of the servers that services name. Each list of servers has one, however often the configuration changes. The
// zero value is ready for use, and safe for concurrent use.
type Clients struct {
	mu  sync.Mutex // guards all
	all map[string]*memcache.Client
}

// Open is a [plugin.ThrottleStore]: servers are HOST[:PORT], conns is how many connections each of them gets at most, 1 and up. Nothing is
// connected to yet. What it returns belongs to the Clients.
func (c *Clients) Open(servers []string, conns int) (plugin.ThrottleMemory, error) {
	list, err := memcache.ParseServers(servers...)
	if err != nil {
		return nil, err
	}
	if conns < 1 {
		return nil, fmt.Errorf("memcached_async_clients: %d connections are too few", conns)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	name := fmt.Sprint(list, conns)
	client := c.all[name]
	if client == nil {
		if client, err = memcache.New(list, memcache.WithConns(conns, conns), memcache.WithTimeout(answerTime, dialTime)); err != nil {
			return nil, err
		}
		if c.all == nil {
			c.all = map[string]*memcache.Client{}
		}
		c.all[name] = client
	}
	return memory{client}, nil
}

// Close closes all connections. The memories that were opened fail from then on, as if nothing were known.
func (c *Clients) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.all {
		client.Close() // it only says that it was closed before
	}
	c.all = nil
}

// memory keeps a client as "UNIXNANO VIOLATIONS".
type memory struct{ client *memcache.Client }

var _ plugin.ThrottleMemory = memory{}

// key is a key of memcached's for one of Throttle's, which may be longer, or have bytes, than those allow.
func key(k string) string {
	if len(prefix)+len(k) <= memcache.MaxKey && !slices.ContainsFunc([]byte(k), func(c byte) bool { return c <= ' ' || c >= 0x7f }) {
		return prefix + k
	}
	sum := sha256.Sum256([]byte(k))
	return prefix + "#" + hex.EncodeToString(sum[:])
}

// Get implements plugin.ThrottleMemory.
func (m memory) Get(ctx context.Context, k string) (last time.Time, violations int, ok bool) {
	item, err := m.client.Get(ctx, key(k))
	if err != nil { // a miss, or a server that does not answer: nothing is known
		return time.Time{}, 0, false
	}
	return parse(string(item.Value))
}

// parse reads a value; ok is false for one that is not ours.
func parse(v string) (last time.Time, violations int, ok bool) {
	when, count, _ := strings.Cut(v, " ")
	ns, err := strconv.ParseInt(when, 10, 64)
	n, err2 := strconv.ParseUint(count, 10, 31)
	if err != nil || err2 != nil {
		return time.Time{}, 0, false
	}
	return time.Unix(0, ns), int(n), true
}

// Set implements plugin.ThrottleMemory.
func (m memory) Set(ctx context.Context, k string, last time.Time, violations int, expire time.Duration) {
	value := strconv.FormatInt(last.UnixNano(), 10) + " " + strconv.Itoa(violations)
	_ = m.client.Set(ctx, &memcache.Item{Key: key(k), Value: []byte(value), Expiration: memcache.Expire(expire)}) // else it is forgotten
}
