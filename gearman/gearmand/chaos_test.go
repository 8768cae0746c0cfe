package gearmand_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/gearman/packet"
)

// ledger is what workers and clients know of the jobs of a run, by their workloads.
type ledger struct {
	mu      sync.Mutex // guards the rest
	running map[string]bool
	done    map[string]int
	twice   []string
}

func newLedger() *ledger { return &ledger{running: map[string]bool{}, done: map[string]int{}} }

// raw is a connection that may fail at any time.
type raw struct {
	net.Conn
	r *bufio.Reader
}

func dialRaw(addr string) (*raw, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &raw{nc, bufio.NewReader(nc)}, nil
}

func (c *raw) send(t packet.Type, args ...string) error {
	_, err := c.Write(packet.Append(nil, packet.Req, t, args...))
	return err
}

func (c *raw) recv() (packet.Type, []string, error) {
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	var head [packet.HeaderSize]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, err
	}
	h := packet.ParseHeader(head[:])
	data := make([]byte, h.Size)
	if _, err := io.ReadFull(c.r, data); err != nil {
		return 0, nil, err
	}
	parts, err := packet.Split(h.Type, data, nil)
	args := make([]string, len(parts))
	for i, p := range parts {
		args[i] = string(p)
	}
	return h.Type, args, err
}

// work works until it dies, after a number of jobs: in the middle of one, having said nothing of it.
func (l *ledger) work(ctx context.Context, addr string, lives int) error {
	c, err := dialRaw(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := c.send(packet.CanDo, "f"); err != nil {
		return err
	}
	if err := c.send(packet.GrabJobUniq); err != nil {
		return err
	}
	for {
		t, args, err := c.recv()
		if err != nil {
			return err
		}
		switch t {
		case packet.Noop:
			err = c.send(packet.GrabJobUniq)
		case packet.NoJob:
			err = c.send(packet.PreSleep)
		case packet.JobAssignUniq:
			data := args[3]
			l.mu.Lock()
			if l.running[data] {
				l.twice = append(l.twice, data)
			}
			l.running[data] = true
			l.mu.Unlock()
			lives--
			dies := lives <= 0
			l.mu.Lock()
			delete(l.running, data) // before the server can know
			if !dies {
				l.done[data]++
			}
			l.mu.Unlock()
			if dies {
				return nil
			}
			if err = c.send(packet.WorkComplete, args[0], data); err == nil {
				err = c.send(packet.GrabJobUniq)
			}
		default:
			return fmt.Errorf("a worker got %v %q", t, args)
		}
		if err != nil {
			return err
		}
	}
}

// Workers and clients die at random while jobs of all kinds are submitted. Each background job that was acknowledged is done,
// none is run by two at once, and each foreground client that lives has its answer.
func TestChaos(t *testing.T) {
	t.Parallel()
	m := newMemStore()
	s := serve(t, gearmand.Options{Store: m})
	l := newLedger()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var workers sync.WaitGroup
	for i := range 6 {
		rnd := rand.New(rand.NewPCG(uint64(i), 1))
		workers.Go(func() {
			for ctx.Err() == nil {
				l.work(ctx, s.addr, 1+rnd.IntN(20)) // whatever ends it, the next one comes
			}
		})
	}
	var clients sync.WaitGroup
	var acked sync.Map
	var answered atomic.Int64
	for i := range 8 {
		rnd := rand.New(rand.NewPCG(uint64(i), 2))
		clients.Go(func() {
			for n := range 60 {
				name := fmt.Sprintf("%d-%d", i, n)
				switch rnd.IntN(3) {
				case 0:
					l.background(t, s.addr, name, &acked)
				case 1:
					l.foreground(t, s.addr, name, &answered)
				default: // submits and dies
					if c, err := dialRaw(s.addr); err == nil {
						c.send(packet.SubmitJob, "f", "", name)
						c.Close()
					}
				}
			}
		})
	}
	clients.Wait()
	want := map[string]bool{}
	acked.Range(func(k, _ any) bool { want[k.(string)] = true; return true })
	eventually(t, "all background jobs are done", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for k := range want {
			if l.done[k] == 0 {
				return false
			}
		}
		return true
	})
	eventually(t, "nothing is left", func() bool { return s.Stats().Jobs == 0 && len(m.list()) == 0 })
	cancel()
	workers.Wait()
	if len(l.twice) > 0 {
		t.Errorf("run by two workers at once: %q", l.twice)
	}
	if len(want) == 0 || answered.Load() == 0 || s.Stats().Requeued == 0 {
		t.Errorf("%d background jobs, %d answers, %+v: nothing was tried", len(want), answered.Load(), s.Stats())
	}
}

func (l *ledger) background(t *testing.T, addr, name string, acked *sync.Map) {
	c, err := dialRaw(addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	c.send(packet.SubmitJobBG, "f", "u"+name, name)
	if kind, args, err := c.recv(); err != nil || kind != packet.JobCreated {
		t.Errorf("background: %v %q %v", kind, args, err)
		return
	}
	acked.Store(name, true)
}

func (l *ledger) foreground(t *testing.T, addr, name string, answered *atomic.Int64) {
	c, err := dialRaw(addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	c.send(packet.SubmitJobHigh, "f", "", name)
	for {
		kind, args, err := c.recv()
		switch {
		case err != nil:
			t.Errorf("foreground: %v", err)
			return
		case kind == packet.WorkComplete && args[1] == name:
			answered.Add(1)
			return
		case kind != packet.JobCreated:
			t.Errorf("foreground: %v %q", kind, args)
			return
		}
	}
}

// fileStore is a log of lines, synced with each call: as simple as a durable store can be.
type fileStore struct {
	f *os.File
}

type logLine struct {
	Add    *gearmand.StoredJob `json:",omitempty"`
	Remove string              `json:",omitempty"`
}

func openFileStore(name string) (*fileStore, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	return &fileStore{f}, err
}

func (s *fileStore) write(lines []logLine) error {
	var b []byte
	for _, l := range lines {
		text, err := json.Marshal(l)
		if err != nil {
			return err
		}
		b = append(append(b, text...), '\n')
	}
	if _, err := s.f.Write(b); err != nil {
		return err
	}
	return s.f.Sync()
}

func (*fileStore) Check(*gearmand.StoredJob) error { return nil }

func (s *fileStore) Add(_ context.Context, list []gearmand.StoredJob) error {
	var lines []logLine
	for i := range list {
		lines = append(lines, logLine{Add: &list[i]})
	}
	return s.write(lines)
}

func (s *fileStore) Remove(_ context.Context, keys []string) error {
	var lines []logLine
	for _, k := range keys {
		lines = append(lines, logLine{Remove: k})
	}
	return s.write(lines)
}

func (s *fileStore) Load(_ context.Context, f func(gearmand.StoredJob) error) error {
	text, err := os.ReadFile(s.f.Name())
	if err != nil {
		return err
	}
	var order []string
	jobs := map[string]gearmand.StoredJob{}
	for line := range strings.Lines(string(text)) {
		var l logLine
		if json.Unmarshal([]byte(line), &l) != nil {
			continue // torn by the kill: nothing in it was acknowledged
		}
		if l.Add == nil {
			delete(jobs, l.Remove)
		} else if _, known := jobs[l.Add.Key]; !known {
			order, jobs[l.Add.Key] = append(order, l.Add.Key), *l.Add
		}
	}
	for _, k := range order {
		if j, ok := jobs[k]; ok {
			if err := f(j); err != nil {
				return err
			}
		}
	}
	return nil
}

const serverVariable = "RUN_AS_GEARMAND"

func TestMain(m *testing.M) {
	if file := os.Getenv(serverVariable); file != "" {
		fmt.Fprintln(os.Stderr, runServer(file))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// runServer is a job server with a durable store, until it is killed.
func runServer(file string) error {
	store, err := openFileStore(file)
	if err != nil {
		return err
	}
	s, err := gearmand.Open(context.Background(), gearmand.Options{Store: store})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	return s.Serve(ln)
}

func startServer(t *testing.T, file string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverVariable+"="+file)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(kill)
	addr, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(addr), kill
}

// The server is killed again and again while clients submit and workers work. What was acknowledged is done.
func TestKill(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/log"
	l := newLedger()
	acked := map[string]bool{}
	var mu sync.Mutex // guards acked
	for round := range 4 {
		addr, kill := startServer(t, file)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		if round > 0 {
			all.Go(func() { l.work(ctx, addr, 1<<30) })
		}
		for i := range 4 {
			all.Go(func() {
				c, err := dialRaw(addr)
				if err != nil {
					return
				}
				defer c.Close()
				for n := 0; ; n++ {
					name := fmt.Sprintf("%d-%d-%d", round, i, n)
					if c.send(packet.SubmitJobBG, "f", "", name) != nil {
						return
					}
					kind, args, err := c.recv()
					if err != nil {
						return
					}
					if kind != packet.JobCreated {
						t.Errorf("%v %q", kind, args)
						return
					}
					mu.Lock()
					acked[name] = true
					mu.Unlock()
				}
			})
		}
		eventually(t, "jobs are acknowledged", func() bool { mu.Lock(); defer mu.Unlock(); return len(acked) > (round+1)*100 })
		kill()
		cancel()
		all.Wait()
	}
	addr, _ := startServer(t, file)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { l.work(ctx, addr, 1<<30) })
	missing := func() (list []string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for name := range maps.Keys(acked) {
			if l.done[name] == 0 {
				list = append(list, name)
			}
		}
		return list
	}
	eventually(t, "all that was acknowledged is done", func() bool { return len(missing()) == 0 })
	cancel()
	all.Wait()
	if i := slices.IndexFunc(slices.Collect(maps.Keys(acked)), func(s string) bool { return strings.HasPrefix(s, "3-") }); i < 0 {
		t.Error("the last round has done nothing")
	}
}
