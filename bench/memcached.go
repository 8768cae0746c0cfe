package main

import (
	"context"
	"net"
	"os"
	"strings"
	"time"

	"wheelhouse/internal/freeport"
)

// memcachedSpan is how long each side works in a round.
const memcachedSpan = 2 * time.Second

const (
	memcachedMegabytes = "256"
	memcachedKeys      = 100_000
	memcachedValue     = 100
)

func memcachedRow(name string, conns, depth int, kind memcachedKind, target float64) line {
	load := memcachedLoad{conns: conns, depth: depth, keys: memcachedKeys, size: memcachedValue, kind: kind}
	return line{[]string{name}, func(ctx context.Context, l *lab) ([]Result, error) {
		return l.compareMemcached(ctx, name, load, target)
	}}
}

// memcachedRows are the comparisons with Debian's memcached -t 2; ours has its own number of threads. The program that asks is the same.
func memcachedRows() []line {
	return []line{
		memcachedRow("memcached-get-50", 50, 1, memcachedGet, 1.3),
		memcachedRow("memcached-set-50", 50, 1, memcachedSet, 1.3),
		memcachedRow("memcached-mixed-50", 50, 1, memcachedMixed, 1.3),
		memcachedRow("memcached-get-50x16", 50, 16, memcachedGet, 3),
		memcachedRow("memcached-set-50x16", 50, 16, memcachedSet, 3),
		memcachedRow("memcached-mg-50x16", 50, 16, memcachedMeta, 3),
		memcachedRow("memcached-multiget-50", 50, 1, memcachedMulti, 1),
		{[]string{"memcached-items"}, memcachedItems},
		{[]string{"memcached-hits"}, memcachedHits},
		{[]string{"memcached-idle"}, memcachedIdle},
		{[]string{"memcached-gc"}, memcachedGCPause},
	}
}

func (l *lab) compareMemcached(ctx context.Context, name string, load memcachedLoad, target float64) ([]Result, error) {
	ours, peer, err := l.startBothMemcached(ctx, memcachedMegabytes)
	if err != nil {
		return nil, err
	}
	for _, s := range []*memcachedServer{ours, peer} {
		load.addr = s.addr
		if err := load.fill(); err != nil {
			return nil, err
		}
	}
	side := func(s *memcachedServer) side {
		return func(ctx context.Context, _ int) (reading, error) { return s.measure(ctx, load, l.span(memcachedSpan)) }
	}
	d, err := alternate(ctx, l.opt.rounds, side(ours), side(peer))
	if err != nil {
		return nil, err
	}
	p99 := d.ratio(p99Of)
	return []Result{{
		Name: name, Rounds: d, Ratio: d.ratio(rateOf), Target: atLeast(target),
		Ours: Figure{median(over(d.Ours, rateOf)), "ops/s"}, Peer: Figure{median(over(d.Peer, rateOf)), "ops/s"},
		Notes: []string{d.cpuNote("operation"), d.timeNote(), "p99 ratio " + p99.String()},
	}}, nil
}

// memcachedServer is a cache server as clients reach it.
type memcachedServer struct {
	addr    string
	metrics string
	pid     int
}

func (s *memcachedServer) measure(ctx context.Context, load memcachedLoad, span time.Duration) (reading, error) {
	load.addr = s.addr
	return measureProcess(s.pid, func() ([]time.Duration, int64, time.Duration, error) { return load.run(ctx, span) })
}

func (l *lab) startBothMemcached(ctx context.Context, megabytes string, flags ...string) (ours, peer *memcachedServer, err error) {
	if ours, err = l.startOurMemcached(ctx, megabytes, flags...); err != nil {
		return nil, nil, err
	}
	peer, err = l.startMemcached(ctx, megabytes, flags...)
	return ours, peer, err
}

func (l *lab) startOurMemcached(ctx context.Context, megabytes string, flags ...string) (*memcachedServer, error) {
	c, err := l.start(l.bin, append([]string{"memcached", "-p", "0", "-l", "127.0.0.1", "-m", megabytes, "-c", "20000", "--metrics", "127.0.0.1:0"}, flags...)...)
	if err != nil {
		return nil, err
	}
	urls, err := c.waitReady(ctx)
	if err != nil {
		return nil, err
	}
	return &memcachedServer{strings.TrimPrefix(urls["memcached"], "memcached://"), urls["http"] + "/metrics", c.pid()}, nil
}

// startMemcached starts Debian's, with two threads.
func (l *lab) startMemcached(ctx context.Context, megabytes string, flags ...string) (*memcachedServer, error) {
	addr, err := freeport.Addr()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	args := append([]string{"-l", host, "-p", port, "-m", megabytes, "-t", "2", "-c", "20000"}, flags...)
	if os.Geteuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	c, err := l.start("memcached", args...)
	if err != nil {
		return nil, err
	}
	if err := c.waitAnswers(ctx, addr); err != nil {
		return nil, err
	}
	return &memcachedServer{addr: addr, pid: c.pid()}, nil
}
