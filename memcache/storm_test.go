package memcache_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/memcache"
	"wheelhouse/memcache/memcachetest"
)

// storm is a network in which connections break, stall and carry nonsense.
type storm struct {
	on   atomic.Bool
	hits [5]atomic.Int64 // by what happened
}

func (s *storm) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if s.on.Load() && rand.IntN(20) == 0 { // nobody answers
		s.hits[0].Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &stormConn{Conn: nc, s: s}, nil
}

type stormConn struct {
	net.Conn
	s *storm
}

func (c *stormConn) Read(p []byte) (int, error) {
	if c.s.on.Load() {
		switch rand.IntN(100) {
		case 0:
			c.s.hits[1].Add(1)
			c.Close()
		case 1:
			c.s.hits[2].Add(1)
			return copy(p, "PORRIDGE\r\n"), nil
		case 2, 3, 4, 5, 6, 7, 8, 9:
			return c.Conn.Read(p[:1])
		}
	}
	return c.Conn.Read(p)
}

func (c *stormConn) Write(p []byte) (int, error) {
	if c.s.on.Load() {
		switch rand.IntN(100) {
		case 0:
			c.s.hits[3].Add(1)
			n, _ := c.Conn.Write(p[:len(p)/2])
			c.Close()
			return n, net.ErrClosed
		case 1: // it is on its way for ever
			c.s.hits[4].Add(1)
			return len(p), nil
		}
	}
	return c.Conn.Write(p)
}

// In a storm, and with requests that are given up at any moment, nobody ever gets what another one has asked for; after it all is well, and
// nothing is left of those requests.
func TestStorm(t *testing.T) {
	for _, protocol := range []memcache.Protocol{memcache.Classic, memcache.Meta} {
		addrs := []string{memcachetest.StartDebian(t), memcachetest.StartDebian(t), memcachetest.StartDebian(t)}
		before := runtime.NumGoroutine()
		var s storm
		c := memcachetest.NewClient(t, addrs, memcache.WithProtocol(protocol), memcache.WithDialer(s.dial), memcache.WithConns(4, 8),
			memcache.WithEject(0, 1, 1), memcache.WithTimeout(50*time.Millisecond, 50*time.Millisecond))
		var keys []string
		for i := range 60 {
			keys = append(keys, fmt.Sprintf("storm%d", i))
		}
		check := func(i *memcache.Item) {
			if i != nil && !strings.HasPrefix(string(i.Value), i.Key+"=") {
				t.Errorf("%s has %.50q", i.Key, i.Value)
			}
		}
		s.on.Store(true)
		var done sync.WaitGroup
		for range 8 {
			done.Go(func() {
				for range 150 {
					ctx, cancel := context.WithCancel(t.Context())
					stop := time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, cancel)
					if rand.IntN(2) == 0 {
						stop.Stop()
					}
					k := keys[rand.IntN(len(keys))]
					switch rand.IntN(4) {
					case 0:
						value := k + "=" + strings.Repeat("x", rand.IntN(5000))
						_ = c.Set(ctx, &memcache.Item{Key: k, Value: []byte(value)})
					case 1:
						found, _ := c.GetMulti(ctx, keys)
						for k, i := range found {
							if i.Key != k {
								t.Errorf("%s stands under %s", i.Key, k)
							}
							check(i)
						}
					default:
						if i, err := c.Get(ctx, k); err == nil {
							if i.Key != k {
								t.Errorf("asked for %s, got %s", k, i.Key)
							}
							check(i)
						}
					}
					stop.Stop()
					cancel()
				}
			})
		}
		done.Wait()
		s.on.Store(false)
		for i := range s.hits {
			if s.hits[i].Load() == 0 {
				t.Errorf("misfortune %d never happened", i)
			}
		}
		for _, k := range keys {
			for tries := 0; ; tries++ { // 50 ms may be little on a busy machine
				err := c.Set(t.Context(), &memcache.Item{Key: k, Value: []byte(k + "=after")})
				if err == nil {
					break
				}
				if tries > 100 {
					t.Fatal(err)
				}
			}
		}
		for tries := 0; ; tries++ {
			found, err := c.GetMulti(t.Context(), keys)
			if err == nil && len(found) == len(keys) {
				for _, i := range found {
					if string(i.Value) != i.Key+"=after" {
						t.Errorf("%s has %.50q", i.Key, i.Value)
					}
				}
				break
			}
			if tries > 100 {
				t.Fatalf("%d items, %v", len(found), err)
			}
		}
		for end := time.Now().Add(memcachetest.Wait); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%d goroutines; %d before", runtime.NumGoroutine(), before)
			}
		}
	}
}
