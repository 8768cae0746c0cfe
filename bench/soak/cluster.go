package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"wheelhouse/internal/freeport"
	"wheelhouse/store"
)

const (
	clusters    = 2
	storages    = 3 // of each cluster
	dispatchers = 2
	workers     = 2
	diskSize    = 768 << 20 // bytes of a storage's file system, where it can be mounted
)

// proc is one process of the installation, which is started again when it has been killed.
type proc struct {
	name string
	args []string
	log  string
	time string // file that says how far its clock is off; "": its clock cannot jump

	mu  sync.Mutex // guards cmd
	cmd *exec.Cmd
}

// cluster is the whole installation: a catalog machine with dispatchers and workers, and storage nodes behind proxies.
type cluster struct {
	program, dir string
	procs        map[string]*proc
	net          network
	reached      []string // where storage 1, 2 … is reached
	clocks       bool     // can be made to jump
	noClocks     error    // why not, if that was wanted
	disks        []string
	mounted      bool // each disk is a file system of its own
	urls         []string
	http         *http.Client
}

func newCluster(o options, net network) *cluster {
	return &cluster{
		program: o.program, dir: o.dir, net: net, clocks: o.clocks, procs: map[string]*proc{},
		http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
}

func (c *cluster) start(ctx context.Context) error {
	data := filepath.Join(c.dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(data, "secret"), []byte(strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600); err != nil {
		return err
	}
	common := "[catalog]\ngrace = \"20s\"\n[log]\nlevel = \"warn\"\n[worker]\ninterval = \"500ms\"\n[disk]\npack_size = \"16 MiB\"\n"
	for i := range dispatchers {
		addr, err := freeport.Addr()
		if err != nil {
			return err
		}
		c.urls = append(c.urls, "http://"+addr)
		name := fmt.Sprint("dispatcher", i+1)
		if err := c.add(nil, name, "dispatcher", fmt.Sprintf("data = %q\n%s[dispatcher]\nauth = \"none\"\nlisten = %q\n", data, common, addr)); err != nil {
			return err
		}
	}
	for i := range workers {
		if err := c.add(nil, fmt.Sprint("worker", i+1), "worker", fmt.Sprintf("data = %q\n%s", data, common)); err != nil {
			return err
		}
	}
	if err := c.addStorages(common); err != nil {
		return err
	}
	for i := range dispatchers {
		if err := c.procs[fmt.Sprint("dispatcher", i+1)].start(); err != nil {
			return err
		}
		if err := c.wait(ctx, c.urls[i]+"/healthz"); err != nil {
			return err
		}
	}
	if err := c.setUp(ctx); err != nil {
		return err
	}
	for _, p := range c.procs {
		if err := p.start(); err != nil {
			return err
		}
	}
	return c.call(ctx, "PUT", "/b", nil, nil)
}

// addStorages makes the storages' directories, as file systems of their own where that is allowed.
func (c *cluster) addStorages(common string) error {
	c.mounted = os.Geteuid() == 0
	for id := 1; id <= clusters*storages; id++ {
		dir := filepath.Join(c.dir, fmt.Sprint("disk", id))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if c.mounted {
			err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize))
			c.mounted = err == nil || id > 1
			if err != nil && id > 1 {
				return fmt.Errorf("mount %s: %w", dir, err)
			}
		}
		c.disks = append(c.disks, dir)
		addr, reached, prefix, err := c.net.node(id)
		if err != nil {
			return err
		}
		c.reached = append(c.reached, reached)
		conf := fmt.Sprintf("secret_file = %q\n%s[storaged]\nlisten = %q\n[[storage]]\nid = %d\ndir = %q\n",
			filepath.Join(c.dir, "data", "secret"), common, addr, id, filepath.Join(dir, "storage"))
		if err := c.add(prefix, storageName(id), "storaged", conf); err != nil {
			return err
		}
	}
	return nil
}

func storageName(id int) string { return fmt.Sprint("storaged", id) }

// add makes a process known. prefix is what its command begins with.
func (c *cluster) add(prefix []string, name, role, conf string) error {
	file := filepath.Join(c.dir, name+".toml")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return err
	}
	p := &proc{name: name, args: append(slices.Clip(prefix), c.program, role, "--config", file), log: filepath.Join(c.dir, name+".log")}
	c.procs[name] = p
	if !c.clocks {
		return nil
	}
	p.time = filepath.Join(c.dir, name+".clock")
	return setClock(p.time, 0)
}

// setUp tells the catalog of clusters and storages.
func (c *cluster) setUp(ctx context.Context) error {
	id := 0
	for k := range clusters {
		if err := c.call(ctx, "POST", "/-/clusters", store.ClusterStatus{Name: fmt.Sprint("c", k+1), Mode: "rw"}, nil); err != nil {
			return err
		}
		for range storages {
			id++
			s := store.StorageStatus{
				ID: store.StorageID(id), Cluster: store.ClusterID(k + 1), Mode: "rw", URI: fmt.Sprintf("http://%s/dev%d", c.reached[id-1], id),
			}
			if err := c.call(ctx, "POST", "/-/storages", s, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// call speaks to the first dispatcher that answers.
func (c *cluster) call(ctx context.Context, method, path string, in, out any) (err error) {
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	for _, url := range c.urls {
		if err = c.callOne(ctx, method, url+path, body, out); err == nil {
			return nil
		}
	}
	return err
}

func (c *cluster) callOne(ctx context.Context, method, url string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s", method, url, resp.Status)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

func (c *cluster) wait(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := c.callOne(ctx, "GET", url, nil, nil)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", url, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// rebuildTime is how long a rebuild may take.
const rebuildTime = 3 * time.Minute

// rebuild has a storage rebuilt and waits for that.
func (c *cluster) rebuild(ctx context.Context, id int) error {
	ctx, cancel := context.WithTimeout(ctx, rebuildTime)
	defer cancel()
	in := struct {
		Kind    store.OperationKind
		Storage store.StorageID
	}{store.OpRebuild, store.StorageID(id)}
	var begun struct{ ID store.OperationID }
	for c.call(ctx, "POST", "/-/operations", in, &begun) != nil || begun.ID == 0 { // a dispatcher may be away, too
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	for {
		var op struct {
			State store.OperationState
			Error string
		}
		err := c.call(ctx, "GET", fmt.Sprintf("/-/operations/%d", begun.ID), nil, &op)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%w: it is %s: %s", ctx.Err(), op.State, op.Error)
		case err != nil:
		case op.State == store.OpDone:
			return nil
		case op.State.Final():
			return fmt.Errorf("it is %s: %s", op.State, op.Error)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// mend starts what is not running and waits until nothing is owed any more.
func (c *cluster) mend(ctx context.Context) error {
	for id := range c.reached {
		if err := c.net.set(id+1, netGood); err != nil {
			return err
		}
	}
	for _, p := range c.procs {
		if err := p.start(); err != nil {
			return err
		}
	}
	for _, u := range c.urls {
		if err := c.wait(ctx, u+"/healthz"); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		var s store.Status
		err := c.call(ctx, "GET", "/-/status", nil, &s)
		if err == nil && s.Totals.Missing == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after five minutes storages are still owed %d entities (%v)", s.Totals.Missing, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (c *cluster) close() {
	for _, p := range c.procs {
		p.kill()
	}
	c.net.close()
	if c.mounted {
		for _, d := range c.disks {
			_ = syscall.Unmount(d, syscall.MNT_DETACH)
		}
	}
}

// start runs the process unless it runs.
func (p *proc) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return nil
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if p.time != "" {
		cmd.Env = append(os.Environ(), clockEnv+"="+p.time)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd = cmd
	return nil
}

// kill ends the process with SIGKILL.
func (p *proc) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

// signal sends a signal, if the process runs.
func (p *proc) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(sig)
	}
}
