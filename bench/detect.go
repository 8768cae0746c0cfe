package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/store"
)

const (
	detectTrials  = 50
	detectClients = 8
	detectObjects = 64
	detectBody    = 10_000
	// detectWatch is how long a storage that was killed is watched for requests that are still sent to it.
	detectWatch = 2500 * time.Millisecond
	// stallTarget is how long, in ms, a client may be held up when a storage dies.
	stallTarget = 1000
)

// detection measures how soon a dispatcher stops sending requests to a storage whose process was killed with SIGKILL, and how
// long the clients were held up. Probes are no requests.
func detection(ctx context.Context, l *lab) (rows []Result, err error) {
	w := &wire{}
	if err := w.listen(); err != nil {
		return nil, err
	}
	defer w.close()
	s, node, err := l.startWatched(ctx, w)
	if err != nil {
		return nil, err
	}
	load := &detectLoad{url: s.url}
	if err := load.fill(ctx); err != nil {
		return nil, err
	}
	loadCtx, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	for range detectClients {
		clients.Go(func() { load.run(loadCtx) })
	}
	defer clients.Wait()
	defer stop()
	trials := detectTrials
	if l.opt.quick {
		trials /= 5
	}
	var detected, stalls []time.Duration
	for range trials {
		if err := awaitHealthy(ctx, s); err != nil {
			return nil, err
		}
		load.longest.Store(0)
		killed := time.Now()
		w.last.Store(0)
		_ = node.cmd.Process.Kill()
		<-node.exited
		select {
		case <-time.After(detectWatch):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		last := time.Duration(0)
		if at := w.last.Load(); at != 0 {
			last = max(0, time.Unix(0, at).Sub(killed))
		}
		detected, stalls = append(detected, last), append(stalls, time.Duration(load.longest.Load()))
		if node, err = l.restartWatched(ctx, w, s); err != nil {
			return nil, err
		}
	}
	stop()
	clients.Wait()
	note := fmt.Sprintf("%d trials, %d clients, 10 KB, two reads to a write; %d of %d requests failed", trials, detectClients, load.failed.Load(), load.n.Load())
	milli := func(d time.Duration) float64 { return micros(d) / 1000 }
	return []Result{
		{Name: "detect-p50", Ours: Figure{milli(percentile(detected, 0.5)), "ms"}, Notes: []string{"from kill -9 of a storaged to the last request that is sent to it; " + note}},
		{Name: "detect-max", Ours: Figure{milli(percentile(detected, 1)), "ms"}, Target: atMost(10_000, "ms")},
		{Name: "detect-stall", Ours: Figure{milli(percentile(stalls, 1)), "ms"}, Target: atMost(stallTarget, "ms"), Notes: []string{"the longest that a client waited for an answer in the 2.5 s after a kill"}},
	}, nil
}

// startWatched is startParts with the connections to the second storage going through w.
func (l *lab) startWatched(ctx context.Context, w *wire) (*server, *child, error) {
	s, err := l.startParts(ctx, "--set", "dispatcher.hot_cache=0") // so that reads reach the storages
	if err != nil {
		return nil, nil, err
	}
	var list []store.StorageStatus
	if err := s.api.Call(ctx, http.MethodGet, "/-/storages", nil, &list); err != nil {
		return nil, nil, err
	}
	w.set(strings.TrimSuffix(strings.TrimPrefix(list[1].URI, "http://"), "/dev2"))
	moved := store.StorageStatus{ID: 2, Cluster: list[1].Cluster, URI: "http://" + w.ln.Addr().String() + "/dev2", Mode: "rw"}
	if err := s.api.Call(ctx, http.MethodPost, "/-/storages", moved, nil); err != nil {
		return nil, nil, err
	}
	return s, l.children[1], nil
}

// restartWatched runs the second storage again.
func (l *lab) restartWatched(ctx context.Context, w *wire, s *server) (*child, error) {
	dir := filepath.Join(filepath.Dir(s.data), "2")
	c, err := l.start(l.bin, "storaged", "--config", filepath.Join(dir, "storaged.toml"))
	if err != nil {
		return nil, err
	}
	urls, err := c.waitReady(ctx)
	if err != nil {
		return nil, err
	}
	w.set(strings.TrimPrefix(urls["storaged"], "http://"))
	return c, nil
}

// awaitHealthy waits until all storages are in service and have been for longer than a dispatcher remembers a failure.
func awaitHealthy(ctx context.Context, s *server) error {
	const forgets = 2 * time.Second
	since := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for time.Since(since) < forgets {
		var list []store.StorageStatus
		if err := s.api.Call(ctx, http.MethodGet, "/-/storages", nil, &list); err != nil {
			return err
		}
		for _, st := range list {
			if st.Mode != "rw" {
				since = time.Now()
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// wire passes connections on to an address, and notes when the last request that is not a probe came over one.
type wire struct {
	ln   net.Listener
	last atomic.Int64 // unix nanoseconds
	wait sync.WaitGroup

	mu   sync.Mutex // guards what follows
	to   string
	open map[net.Conn]struct{}
}

func (w *wire) listen() (err error) {
	w.open = map[net.Conn]struct{}{}
	if w.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	w.wait.Go(func() {
		for {
			c, err := w.ln.Accept()
			if err != nil {
				return
			}
			w.wait.Go(func() { w.pass(c) })
		}
	})
	return nil
}

func (w *wire) set(to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = to
}

func (w *wire) keep(c net.Conn, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if open {
		w.open[c] = struct{}{}
	} else {
		delete(w.open, c)
	}
}

func (w *wire) close() {
	_ = w.ln.Close()
	w.mu.Lock()
	for c := range w.open {
		_ = c.Close()
	}
	w.mu.Unlock()
	w.wait.Wait()
}

// pass copies both directions of a connection. What comes in one read is looked at for the beginning of a request.
func (w *wire) pass(in net.Conn) {
	defer in.Close()
	w.keep(in, true)
	defer w.keep(in, false)
	w.mu.Lock()
	to := w.to
	w.mu.Unlock()
	out, err := net.Dial("tcp", to)
	if err != nil { // it has been killed: what is asked all the same is to be noted
		_ = in.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		w.note(bufio.NewReader(in))
		return
	}
	w.keep(out, true)
	defer w.keep(out, false)
	w.wait.Go(func() {
		_, _ = io.Copy(in, out)
		_ = in.Close()
	})
	defer out.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			w.look(buf[:n])
			if _, err := out.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (w *wire) note(r *bufio.Reader) {
	line, _ := r.ReadSlice('\n') // what came of it is enough
	w.look(line)
}

func (w *wire) look(b []byte) {
	if (bytes.HasPrefix(b, []byte("GET /dev2/0/")) || bytes.HasPrefix(b, []byte("PUT /dev2/0/"))) && !bytes.Contains(b, []byte("/probe")) {
		w.last.Store(time.Now().UnixNano())
	}
}

// detectLoad reads and writes all the time.
type detectLoad struct {
	url                string
	n, failed, longest atomic.Int64
}

func (d *detectLoad) fill(ctx context.Context) error {
	for i := range detectObjects {
		if err := d.put(ctx, http.DefaultClient, i); err != nil {
			return err
		}
	}
	return nil
}

func (d *detectLoad) put(ctx context.Context, c *http.Client, i int) error {
	return d.do(ctx, c, http.MethodPut, i, bytes.NewReader(make([]byte, detectBody)), http.StatusCreated)
}

func (d *detectLoad) do(ctx context.Context, c *http.Client, method string, i int, body io.Reader, want int) error {
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("%s/%s/d%d", d.url, bucket, i), body)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err == nil && (resp.StatusCode != want || method == http.MethodGet && n != detectBody) {
		err = errors.New(resp.Status)
	}
	return err
}

func (d *detectLoad) run(ctx context.Context) {
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	for i := 0; ctx.Err() == nil; i++ {
		begun := time.Now()
		var err error
		if i%3 == 0 {
			err = d.put(ctx, c, rand.IntN(detectObjects))
		} else {
			err = d.do(ctx, c, http.MethodGet, rand.IntN(detectObjects), nil, http.StatusOK)
		}
		if ctx.Err() != nil {
			return
		}
		took := int64(time.Since(begun))
		for was := d.longest.Load(); took > was && !d.longest.CompareAndSwap(was, took); was = d.longest.Load() {
		}
		d.n.Add(1)
		if err != nil {
			d.failed.Add(1)
		}
	}
}
