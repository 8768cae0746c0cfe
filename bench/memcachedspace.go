package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// memcachedClient is a connection that asks and waits.
type memcachedClient struct {
	nc net.Conn
	r  *bufio.Reader
}

func (s *memcachedServer) dial() (*memcachedClient, error) {
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	return &memcachedClient{nc, bufio.NewReaderSize(nc, 256<<10)}, nil
}

// stats asks for one number.
func (s *memcachedServer) stats(name string) (int64, error) {
	c, err := s.dial()
	if err != nil {
		return 0, err
	}
	defer c.nc.Close()
	if _, err := io.WriteString(c.nc, "stats\r\n"); err != nil {
		return 0, err
	}
	for {
		l, err := c.r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if f := strings.Fields(l); len(f) == 3 && f[1] == name {
			return strconv.ParseInt(f[2], 10, 64)
		} else if len(f) == 1 {
			return 0, fmt.Errorf("there is no statistic %s", name)
		}
	}
}

const (
	memcachedItemsMB   = "128"
	memcachedItemsFull = 2_000_000 // more than fit
)

// memcachedItems counts how many items with values of 100 bytes are held in the same memory.
func memcachedItems(ctx context.Context, l *lab) ([]Result, error) {
	ours, peer, err := l.startBothMemcached(ctx, memcachedItemsMB)
	if err != nil {
		return nil, err
	}
	var held, rss [2]float64
	for i, s := range []*memcachedServer{ours, peer} {
		load := memcachedLoad{addr: s.addr, keys: memcachedItemsFull, size: memcachedValue}
		if err := load.fill(); err != nil {
			return nil, err
		}
		n, err := s.stats("curr_items")
		if err != nil {
			return nil, err
		}
		m, err := readMemory(s.pid)
		if err != nil {
			return nil, err
		}
		held[i], rss[i] = float64(n), float64(m.RSS)
	}
	ratio := held[0] / held[1]
	return []Result{{
		Name: "memcached-items", Ours: Figure{held[0], "items"}, Peer: Figure{held[1], "items"}, Ratio: &Spread{ratio, ratio, ratio}, Target: atLeast(1.2),
		Notes: []string{fmt.Sprintf("-m %s, values of 100 bytes, keys of 16; resident memory: ours %.0f MB, peer %.0f MB", memcachedItemsMB, rss[0]/1e6, rss[1]/1e6)},
	}}, nil
}

// traceStep is one request of a trace.
type traceStep struct {
	key, size, ttl int
}

const (
	traceKeys = 400_000
	traceFull = 6_000_000
	traceMB   = "64"
)

// memcachedTrace is a trace with zipfian popularity (0.99), sizes from 20 bytes to 4 KB and times to live from a minute to a day, or none.
type memcachedTrace struct {
	cdf     []float64
	rng     *rand.Rand
	refused int // sets that the server had no memory for
}

func newMemcachedTrace(seed uint64) *memcachedTrace {
	t := &memcachedTrace{rng: rand.New(rand.NewPCG(seed, 1)), cdf: make([]float64, traceKeys)}
	sum := 0.0
	for i := range t.cdf {
		sum += 1 / math.Pow(float64(i+1), 0.99)
		t.cdf[i] = sum
	}
	for i := range t.cdf {
		t.cdf[i] /= sum
	}
	return t
}

func (t *memcachedTrace) next() traceStep {
	x := t.rng.Float64()
	lo, hi := 0, len(t.cdf)-1
	for lo < hi {
		if mid := (lo + hi) / 2; t.cdf[mid] < x {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	h := splitmix(uint64(lo))
	return traceStep{
		key: lo, size: int(20 * math.Pow(200, float64(h>>40)/(1<<24))),
		ttl: []int{0, 0, 0, 60, 300, 3600, 86400}[h%7],
	}
}

// play looks keys up and stores those that are missed, with 100 look-ups on the way at a time.
func (t *memcachedTrace) play(s *memcachedServer, n int) (misses float64, err error) {
	c, err := s.dial()
	if err != nil {
		return 0, err
	}
	defer c.nc.Close()
	value := content(3, 8<<10)
	const window = 100
	missed := 0
	steps := make([]traceStep, window)
	var out []byte
	for done := 0; done < n; done += window {
		out = out[:0]
		for i := range steps {
			steps[i] = t.next()
			out = fmt.Appendf(out, "mg t%d v\r\n", steps[i].key)
		}
		if _, err := c.nc.Write(out); err != nil {
			return 0, err
		}
		out = out[:0]
		sets := 0
		for _, st := range steps {
			l, err := c.r.ReadString('\n')
			if err != nil {
				return 0, err
			}
			if l == "EN\r\n" {
				missed++
				out = fmt.Appendf(out, "set t%d 0 %d %d\r\n%s\r\n", st.key, st.ttl, st.size, value[:st.size])
				sets++
			} else if _, err := c.r.Discard(st.size + 2); err != nil {
				return 0, err
			}
		}
		if _, err := c.nc.Write(out); err != nil {
			return 0, err
		}
		for range sets {
			if l, err := c.r.ReadString('\n'); err != nil {
				return 0, err
			} else if strings.HasPrefix(l, "SERVER_ERROR out of memory") {
				t.refused++
			} else if l != "STORED\r\n" {
				return 0, fmt.Errorf("the server answers %q", l)
			}
		}
	}
	return float64(missed) / float64(n), nil
}

// memcachedHits compares the misses of one trace.
func memcachedHits(ctx context.Context, l *lab) ([]Result, error) {
	ours, peer, err := l.startBothMemcached(ctx, traceMB)
	if err != nil {
		return nil, err
	}
	n := l.count(traceFull)
	var miss [2]float64
	var refused [2]int
	for i, s := range []*memcachedServer{ours, peer} {
		t := newMemcachedTrace(42)
		if _, err := t.play(s, n/3); err != nil { // to fill it
			return nil, err
		}
		if miss[i], err = t.play(s, n); err != nil {
			return nil, err
		}
		refused[i] = t.refused
	}
	ratio := miss[1] / miss[0]
	return []Result{{
		Name: "memcached-hits" + l.reduced(n, traceFull), Ours: Figure{100 * miss[0], "% misses"}, Peer: Figure{100 * miss[1], "% misses"},
		Ratio: &Spread{ratio, ratio, ratio}, Target: atLeast(1 / 0.95),
		Notes: []string{fmt.Sprintf("-m %s, zipf 0.99 over %d keys, 20 B to 4 KB, times to live of none, a minute to a day; ratio is the peer's misses to ours; "+
			"sets refused for want of memory: ours %d, peer %d", traceMB, traceKeys, refused[0], refused[1])},
	}}, nil
}

const memcachedIdleConns = 5000

// memcachedIdle measures what a connection costs that has asked once and now waits.
func memcachedIdle(ctx context.Context, l *lab) ([]Result, error) {
	ours, peer, err := l.startBothMemcached(ctx, memcachedMegabytes)
	if err != nil {
		return nil, err
	}
	n := l.count(memcachedIdleConns)
	var perConn [2]float64
	for i, s := range []*memcachedServer{ours, peer} {
		if perConn[i], err = s.idle(n); err != nil {
			return nil, err
		}
	}
	return []Result{{
		Name: "memcached-idle" + l.reduced(n, memcachedIdleConns), Ours: Figure{perConn[0], "B/connection"}, Peer: Figure{perConn[1], "B/connection"},
		Target: atMost(6<<10, "B/connection"),
	}}, nil
}

func (s *memcachedServer) idle(n int) (float64, error) {
	warm := memcachedLoad{addr: s.addr, keys: 1000, size: 100}
	if err := warm.fill(); err != nil {
		return 0, err
	}
	before, err := readMemory(s.pid)
	if err != nil {
		return 0, err
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for range n {
		fd, err := memcachedDial(s.addr)
		if err != nil {
			return 0, err
		}
		fds = append(fds, fd)
		if err := memcachedExchange(fd, []byte("get nothing\r\nset k 0 0 1\r\nx\r\n"), len("END\r\nSTORED\r\n")); err != nil {
			return 0, err
		}
	}
	after, err := readMemory(s.pid)
	return float64(after.RSS-before.RSS) / float64(n), err
}

// churn opens and closes connections until ctx ends.
func (s *memcachedServer) churn(ctx context.Context) error {
	for ctx.Err() == nil {
		fd, err := memcachedDial(s.addr)
		if err != nil {
			return err
		}
		err = memcachedExchange(fd, []byte("get nothing\r\n"), len("END\r\n"))
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

const memcachedGCItems = 10_000_000

// memcachedGCPause measures the collector's longest pause while there are ten million items and requests go on.
func memcachedGCPause(ctx context.Context, l *lab) ([]Result, error) {
	n := l.count(memcachedGCItems)
	s, err := l.startOurMemcached(ctx, "2048")
	if err != nil {
		return nil, err
	}
	load := memcachedLoad{addr: s.addr, conns: 50, depth: 16, keys: n, size: 100, kind: memcachedMixed}
	if err := load.fill(); err != nil {
		return nil, err
	}
	// Requests leave nothing to be collected; connections do, so that many come and go meanwhile.
	churn, stop := context.WithCancel(ctx)
	var coming sync.WaitGroup
	var churnErr error
	coming.Go(func() { churnErr = s.churn(churn) })
	_, _, _, err = load.run(ctx, l.span(10*memcachedSpan))
	stop()
	coming.Wait()
	if err := errors.Join(err, churnErr); err != nil {
		return nil, err
	}
	held, err := s.stats("curr_items")
	if err != nil {
		return nil, err
	}
	resp, err := http.Get(s.metrics)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	worst, collections := 0.0, ""
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) != 2 {
			continue
		}
		switch f[0] {
		case `go_gc_duration_seconds{quantile="1"}`:
			if worst, err = strconv.ParseFloat(f[1], 64); err != nil {
				return nil, err
			}
		case "go_gc_duration_seconds_count":
			collections = f[1]
		}
	}
	if collections == "" || collections == "0" {
		return nil, errors.New("there was no collection: nothing was measured")
	}
	return []Result{{
		Name: "memcached-gc" + l.reduced(n, memcachedGCItems), Ours: Figure{worst * 1e6, "µs"}, Target: atMost(1000, "µs"),
		Notes: []string{fmt.Sprintf("%d items held, %s collections; the longest pause", held, collections)},
	}}, nil
}
