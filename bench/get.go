package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// fileSet is objects of one size: in the store, and as files below root/bench.
type fileSet struct {
	root string
	n    int
	size int
}

func (s *fileSet) name(i int) string { return fmt.Sprintf("%02x/%04d", i%256, i) }

// getConns is how many connections read.
const getConns = 50

func get10k(ctx context.Context, l *lab) ([]Result, error) {
	s, err := l.freshUp(ctx)
	if err != nil {
		return nil, err
	}
	return l.compareGets(ctx, "get-10k", s, 2000, 10<<10, atLeast(0.9))
}

func get1m(ctx context.Context, l *lab) ([]Result, error) {
	s, err := l.freshUp(ctx)
	if err != nil {
		return nil, err
	}
	return l.compareGets(ctx, "get-1m", s, 64, 1<<20, atLeast(1))
}

func get10kStoraged(ctx context.Context, l *lab) ([]Result, error) {
	s, err := l.startParts(ctx)
	if err != nil {
		return nil, err
	}
	return l.compareGets(ctx, "get-10k-storaged", s, 2000, 10<<10, nil)
}

// compareGets reads n objects of a size from s and from nginx.
func (l *lab) compareGets(ctx context.Context, name string, s *server, n, size int, target *Target) ([]Result, error) {
	dir, err := l.mkdir(name)
	if err != nil {
		return nil, err
	}
	set := &fileSet{root: dir, n: n, size: size}
	if err := set.write(ctx, s); err != nil {
		return nil, fmt.Errorf("write the objects: %w", err)
	}
	peer, err := l.startNginx(ctx, set.root)
	if err != nil {
		return nil, err
	}
	for _, i := range []int{0, n / 3, n - 1} {
		for _, base := range []string{s.url, peer.url} {
			if err := set.check(ctx, base, i); err != nil {
				return nil, err
			}
		}
	}
	g, err := l.newGenerator(set, wrkThreads, getConns)
	if err != nil {
		return nil, err
	}
	span := func(round int) time.Duration {
		if round < 0 {
			return l.span(2 * time.Second)
		}
		return l.span(4 * time.Second)
	}
	d, err := alternate(ctx, l.opt.rounds,
		func(ctx context.Context, round int) (reading, error) {
			return g.measure(ctx, s.url, s.pids, span(round))
		},
		func(ctx context.Context, round int) (reading, error) {
			return g.measure(ctx, peer.url, peer.pids, span(round))
		})
	if err != nil {
		return nil, err
	}
	r := Result{
		Name: name, Target: target, Ratio: d.ratio(rateOf), Rounds: d,
		Ours: Figure{median(over(d.Ours, rateOf)), "GET/s"}, Peer: Figure{median(over(d.Peer, rateOf)), "GET/s"},
		Notes: []string{
			fmt.Sprintf("%d objects of %d bytes, wrk -t%d -c%d; peer: nginx, open_file_cache, 2 workers", n, size, wrkThreads, getConns),
			d.cpuNote("GET"), d.timeNote(),
		},
	}
	return []Result{r}, nil
}

// wrkThreads is two: one cannot ask for more than about 60 000 objects of 10 KB a second, and on two cores it leaves a fifth
// of the machine idle, so that it would be the generator that is measured.
const wrkThreads = 2

// write stores the set in s and as files.
func (s *fileSet) write(ctx context.Context, into *server) error {
	for i := range s.n {
		if err := s.writeFile(i); err != nil {
			return err
		}
	}
	p := &loader{addr: into.addr, conns: 16, size: s.size, name: func(b []byte, i int64) []byte { return append(b, s.name(int(i))...) }}
	return p.putAll(ctx, s.n)
}

// writeFile writes object i as a file.
func (s *fileSet) writeFile(i int) error {
	path := filepath.Join(s.root, bucket, s.name(i))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content(int64(i), s.size), 0o644) // nginx's workers read it
}

// check fetches object i and compares it.
func (s *fileSet) check(ctx context.Context, base string, i int) error {
	return checkGet(ctx, base+"/"+bucket+"/"+s.name(i), content(int64(i), s.size))
}

func checkGet(ctx context.Context, url string, want []byte) error {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := insecure.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(want))+1))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
		return fmt.Errorf("%s: status %s, and the bytes are not those that were stored", url, resp.Status)
	}
	return nil
}
