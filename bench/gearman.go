package main

import (
	"context"
	"net"
	"strings"
	"time"

	"wheelhouse/internal/freeport"
)

// gearmanSpan is how long each side works in a round.
const gearmanSpan = 2 * time.Second

// gearmanRow is one comparison with Debian's gearmand.
func gearmanRow(name string, load gearmanLoad) line {
	return line{[]string{name}, func(ctx context.Context, l *lab) ([]Result, error) { return l.compareGearmand(ctx, name, load) }}
}

// gearmanRows are all of them. Both servers live in memory; the program that asks and works is the same.
func gearmanRows() []line {
	return []line{
		gearmanRow("gearman-fg-1", gearmanLoad{clients: 1, workers: 1}),
		gearmanRow("gearman-fg-50", gearmanLoad{clients: 50, workers: 8}),
		gearmanRow("gearman-fg-1-10k", gearmanLoad{clients: 1, workers: 1, size: 10 << 10}),
		gearmanRow("gearman-fg-50-10k", gearmanLoad{clients: 50, workers: 8, size: 10 << 10}),
		gearmanRow("gearman-bg-1", gearmanLoad{clients: 1, workers: 1, background: true}),
		gearmanRow("gearman-bg-50", gearmanLoad{clients: 50, workers: 8, background: true}),
		gearmanRow("gearman-bg-1-10k", gearmanLoad{clients: 1, workers: 1, size: 10 << 10, background: true}),
		gearmanRow("gearman-bg-50-10k", gearmanLoad{clients: 50, workers: 8, size: 10 << 10, background: true}),
		{[]string{"gearman-idle"}, gearmanIdle},
	}
}

func (l *lab) compareGearmand(ctx context.Context, name string, load gearmanLoad) ([]Result, error) {
	ours, err := l.startOurGearmand(ctx)
	if err != nil {
		return nil, err
	}
	peer, err := l.startGearmand(ctx)
	if err != nil {
		return nil, err
	}
	side := func(s *gearmanServer) side {
		return func(ctx context.Context, _ int) (reading, error) { return s.measure(ctx, load, l.span(gearmanSpan)) }
	}
	d, err := alternate(ctx, l.opt.rounds, side(ours), side(peer))
	if err != nil {
		return nil, err
	}
	r := Result{
		Name: name, Rounds: d, Ratio: d.ratio(rateOf), Target: atLeast(2),
		Ours: Figure{median(over(d.Ours, rateOf)), "jobs/s"}, Peer: Figure{median(over(d.Peer, rateOf)), "jobs/s"},
		Notes: []string{d.cpuNote("job"), d.timeNote()},
	}
	return []Result{r}, nil
}

// gearmanServer is a job server as clients reach it.
type gearmanServer struct {
	addr string
	pid  int
}

func (s *gearmanServer) measure(ctx context.Context, load gearmanLoad, span time.Duration) (reading, error) {
	load.addr = s.addr
	return measureProcess(s.pid, func() ([]time.Duration, int64, time.Duration, error) { return load.run(ctx, span) })
}

func (l *lab) startOurGearmand(ctx context.Context) (*gearmanServer, error) {
	c, err := l.start(l.bin, "gearmand", "-p", "0", "-L", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	urls, err := c.waitReady(ctx)
	if err != nil {
		return nil, err
	}
	return &gearmanServer{strings.TrimPrefix(urls["gearman"], "gearman://"), c.pid()}, nil
}

// startGearmand starts Debian's, with its own number of threads.
func (l *lab) startGearmand(ctx context.Context) (*gearmanServer, error) {
	addr, err := freeport.Addr()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	c, err := l.start("gearmand", "-L", host, "-p", port, "-l", "none")
	if err != nil {
		return nil, err
	}
	if err := c.waitAnswers(ctx, addr); err != nil {
		return nil, err
	}
	return &gearmanServer{addr, c.pid()}, nil
}

// gearmanIdleConns is how many connections idle.
const gearmanIdleConns = 5000

// gearmanIdle measures what a connection costs that has worked once and now waits.
func gearmanIdle(ctx context.Context, l *lab) ([]Result, error) {
	ours, err := l.startOurGearmand(ctx)
	if err != nil {
		return nil, err
	}
	peer, err := l.startGearmand(ctx)
	if err != nil {
		return nil, err
	}
	var perConn [2]float64
	n := l.count(gearmanIdleConns)
	for i, s := range []*gearmanServer{ours, peer} {
		if perConn[i], err = s.idle(ctx, n); err != nil {
			return nil, err
		}
	}
	return []Result{{
		Name: "gearman-idle" + l.reduced(n, gearmanIdleConns), Ours: Figure{perConn[0], "B/connection"}, Peer: Figure{perConn[1], "B/connection"},
		Target: atMost(8192, "B/connection"),
	}}, nil
}

// idle opens connections of sleeping workers and returns the growth of the process's memory for each.
func (s *gearmanServer) idle(ctx context.Context, n int) (float64, error) {
	load := &gearmanRun{gearmanLoad: &gearmanLoad{addr: s.addr}, conns: map[int32]*gearmanConn{}}
	defer load.close()
	before, err := readMemory(s.pid)
	if err != nil {
		return 0, err
	}
	for range n {
		c, err := load.dial(true)
		if err != nil {
			return 0, err
		}
		if err := c.announce("idle"); err != nil {
			return 0, err
		}
	}
	after, err := readMemory(s.pid)
	return float64(after.RSS-before.RSS) / float64(n), err
}
