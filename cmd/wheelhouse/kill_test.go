package main

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wheelhouse/internal/freeport"
	"wheelhouse/store"
)

func stopPID(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process has ended", func() bool { return syscall.Kill(pid, 0) != nil })
}

// load writes, overwrites, deletes and reads objects, and remembers what was acknowledged.
type load struct {
	t   *testing.T
	url func() string

	mu    sync.Mutex // guards the rest
	acked map[string][16]byte
	gone  map[string]bool // deletion acknowledged
	open  map[string]bool // sent, and never answered: either outcome is right
	n     int
}

func newLoad(t *testing.T, url func() string) *load {
	return &load{t: t, url: url, acked: map[string][16]byte{}, gone: map[string]bool{}, open: map[string]bool{}}
}

// run keeps some writers at work until stop is closed.
func (l *load) run(writers int, stop <-chan struct{}) {
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), uint64(time.Now().UnixNano())))
			client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
			defer client.CloseIdleConnections()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				l.step(client, rng, w)
			}
		})
	}
	all.Wait()
}

// step does one request under a name of the writer's own, so that its order is known.
func (l *load) step(client *http.Client, rng *rand.Rand, w int) {
	name := fmtName(w, rng.IntN(60))
	size := []int{0, 10, 1000, 10_000, 60_000, 300_000, 2 << 20}[rng.IntN(7)]
	if rng.IntN(8) > 0 {
		size = min(size, 10_000)
	}
	body := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())}).Read(body)
	method := "PUT"
	if rng.IntN(6) == 0 {
		method, body = "DELETE", nil
	}
	l.mu.Lock()
	l.open[name] = true
	l.mu.Unlock()
	status, err := request(client, method, l.url()+"/b/"+name, body)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil || status >= 500: // it may or may not have happened
		return
	case method == "PUT" && status == 201:
		l.acked[name] = md5.Sum(body)
		delete(l.gone, name)
	case method == "DELETE" && (status == 204 || status == 404):
		delete(l.acked, name)
		l.gone[name] = true
	default:
		l.t.Errorf("%s %s = %d", method, name, status)
	}
	delete(l.open, name)
	l.n++
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

func request(client *http.Client, method, url string, body []byte) (int, error) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// verify reads everything that was acknowledged back, and demands that what is listed is whole.
func (l *load) verify() {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, sum := range l.acked {
		if l.open[name] {
			continue
		}
		status, got, err := fetchSum(l.url() + "/b/" + name)
		if err != nil || status != 200 || got != sum {
			l.t.Errorf("%s was acknowledged; GET = %d, %v, MD5 %x; want %x", name, status, err, got, sum)
		}
	}
	for name := range l.gone {
		if status, _, err := fetchSum(l.url() + "/b/" + name); !l.open[name] && (err != nil || status != 404) {
			l.t.Errorf("%s was deleted; GET = %d, %v", name, status, err)
		}
	}
	for _, o := range listAll(l.t, l.url()) {
		status, got, err := fetchSum(l.url() + "/b/" + o.Name)
		if err != nil || status != 200 || hex.EncodeToString(got[:]) != o.ETag {
			l.t.Errorf("%s is listed; GET = %d, %v, MD5 %x; want %s", o.Name, status, err, got, o.ETag)
		}
	}
	clear(l.open)
	for name := range l.gone { // what was in doubt is known now
		delete(l.gone, name)
	}
	clear(l.acked)
	for _, o := range listAll(l.t, l.url()) {
		var sum [16]byte
		_, _ = hex.Decode(sum[:], []byte(o.ETag))
		l.acked[o.Name] = sum
	}
}

func fetchSum(url string) (status int, sum [16]byte, err error) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, sum, err
	}
	defer resp.Body.Close()
	h := md5.New()
	_, err = io.Copy(h, resp.Body)
	return resp.StatusCode, [16]byte(h.Sum(nil)), err
}

func listAll(t *testing.T, url string) (all []store.ObjectInfo) {
	t.Helper()
	for next := "?list"; next != ""; {
		resp, err := http.Get(url + "/b" + next)
		if err != nil {
			t.Fatal(err)
		}
		var page store.Listing
		err = json.NewDecoder(resp.Body).Decode(&page)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		all, next = append(all, page.Objects...), page.Next
	}
	return all
}

// kill −9 of everything, five times, in the middle of a mixed load.
func TestKillUp(t *testing.T) {
	dir := t.TempDir()
	args := upArgs(dir, "--storage-listen", "127.0.0.1:0", "--set", "disk.pack_size=4 MiB")
	p := start(t, args...)
	url := p.ready["http"]
	args = append(args, "--listen", strings.TrimPrefix(url, "http://"))
	l := newLoad(t, func() string { return url })
	if status, err := request(http.DefaultClient, "PUT", url+"/b", nil); err != nil || status != 201 {
		t.Fatal(status, err)
	}
	for range 5 {
		stop := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() { l.run(8, stop) })
		enough := l.count() + 400
		eventually(t, "400 requests are answered", func() bool { return l.count() >= enough })
		p.kill()
		close(stop)
		running.Wait()
		http.DefaultClient.CloseIdleConnections()
		p = start(t, args...)
		l.verify()
	}
	wantNoOrphans(t, url, 3)
	p.stop()
}

// wantNoOrphans waits until the storages hold exactly the entities of the objects that there are.
func wantNoOrphans(t *testing.T, url string, storages int) {
	t.Helper()
	want := len(listAll(t, url)) * storages
	got := -1
	defer func() {
		if t.Failed() {
			t.Logf("%d entities; want %d", got, want)
		}
	}()
	eventually(t, "no entity is left over and none is owed", func() bool {
		got = entities(t, url)
		return got == want
	})
}

// entities counts what the metrics of all storages say. The storages' processes are found through the dispatcher.
func entities(t *testing.T, url string) (n int) {
	t.Helper()
	var list []store.StorageStatus
	resp, err := http.Get(url + "/-/storages")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range list {
		base := s.URI[:strings.LastIndex(s.URI, "/")]
		if seen[base] {
			continue
		}
		seen[base] = true
		resp, err := http.Get(base + "/metrics")
		if err != nil {
			return -1 // it is being restarted
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return -1
		}
		for line := range strings.Lines(string(text)) {
			var v float64
			if i := strings.LastIndexByte(line, ' '); strings.HasPrefix(line, "wheelhouse_storage_entities{") {
				if _, err := fmt.Sscan(line[i+1:], &v); err != nil {
					t.Fatal(err)
				}
				n += int(v)
			}
		}
	}
	return n
}

// parts are the roles as processes of their own.
type parts struct {
	t        *testing.T
	dir      string
	url      string
	configs  map[string]string
	running  map[string]*process
	addrs    map[string]string
	storages []string
}

func startParts(t *testing.T) *parts {
	t.Helper()
	s := &parts{t: t, dir: t.TempDir(), configs: map[string]string{}, running: map[string]*process{}, addrs: map[string]string{}}
	common := "[catalog]\ngrace = \"2s\"\n[log]\nlevel = \"warn\"\n[worker]\ninterval = \"200ms\"\n[disk]\npack_size = \"4 MiB\"\n"
	data := fmt.Sprintf("data = %q\n", s.dir+"/data")
	secret := strings.Repeat("0123456789abcdef", 4)
	writeFile(t, s.dir+"/data/secret", secret+"\n")
	s.addrs["dispatcher"] = freeport.ForTest(t)
	s.configs["dispatcher"] = data + common + fmt.Sprintf("[dispatcher]\nauth = \"none\"\nlisten = %q\n", s.addrs["dispatcher"])
	for _, name := range []string{"worker1", "worker2"} {
		s.configs[name] = data + common
	}
	for i := 1; i <= 3; i++ {
		name := fmt.Sprint("storaged", i)
		s.storages = append(s.storages, name)
		s.addrs[name] = freeport.ForTest(t)
		s.configs[name] = fmt.Sprintf("secret_file = %q\n", s.dir+"/data/secret") + common +
			fmt.Sprintf("[storaged]\nlisten = %q\n[[storage]]\nid = %d\ndir = %q\n", s.addrs[name], i, filepath.Join(s.dir, "disks", fmt.Sprint(i)))
	}
	s.start("dispatcher")
	s.url = s.running["dispatcher"].ready["http"]
	if status, _, errOut := runOnce(t, "cluster", "add", "--server", s.url, "--name", "main"); status != 0 {
		t.Fatal(errOut)
	}
	for i, name := range s.storages {
		s.start(name)
		uri := fmt.Sprintf("http://%s/dev%d", s.addrs[name], i+1)
		if status, out, errOut := runOnce(t, "storage", "add", "--server", s.url, "--cluster", "1", "--uri", uri); status != 0 || out != fmt.Sprintf("storage %d\n", i+1) {
			t.Fatal(out, errOut)
		}
	}
	s.start("worker1")
	s.start("worker2")
	if status, err := request(http.DefaultClient, "PUT", s.url+"/b", nil); err != nil || status != 201 {
		t.Fatal(status, err)
	}
	return s
}

func (s *parts) start(name string) {
	s.t.Helper()
	file := writeFile(s.t, filepath.Join(s.dir, name+".toml"), s.configs[name])
	s.running[name] = start(s.t, strings.TrimRight(name, "0123456789"), "--config", file)
}

// kill −9 of each part in turn, while the others go on.
func TestKillParts(t *testing.T) {
	s := startParts(t)
	l := newLoad(t, func() string { return s.url })
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { l.run(6, stop) })
	for _, name := range []string{"storaged1", "dispatcher", "worker1", "storaged2", "storaged3", "worker2", "dispatcher"} {
		enough := l.count() + 150
		eventually(t, "requests go on", func() bool { return l.count() >= enough })
		s.running[name].kill()
		if strings.HasPrefix(name, "storaged") { // the others take the load meanwhile
			enough = l.count() + 50
			eventually(t, "requests go on without "+name, func() bool { return l.count() >= enough })
		}
		s.start(name)
	}
	close(stop)
	running.Wait()
	http.DefaultClient.CloseIdleConnections()
	l.verify()
	wantNoOrphans(t, s.url, 3)
	for name := range s.running {
		s.running[name].stop()
	}
}

// One storage's process is stopped for good: every read and every write succeeds all the same.
func TestOneStorageStopped(t *testing.T) {
	s := startParts(t)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	put := func(i int) error {
		status, err := request(client, "PUT", fmt.Sprintf("%s/b/o%d", s.url, i), bytes.Repeat([]byte{byte(i)}, 5000))
		if err == nil && status != 201 {
			err = fmt.Errorf("PUT = %d", status)
		}
		return err
	}
	for i := range 30 {
		if err := put(i); err != nil {
			t.Fatal(err)
		}
	}
	s.running["storaged2"].stop()
	for i := 30; i < 60; i++ {
		if err := put(i); err != nil {
			t.Errorf("with a storage stopped: %v", err)
		}
	}
	for i := range 60 {
		status, sum, err := fetchSum(fmt.Sprintf("%s/b/o%d", s.url, i))
		if want := md5.Sum(bytes.Repeat([]byte{byte(i)}, 5000)); err != nil || status != 200 || sum != want {
			t.Errorf("GET o%d = %d, %v", i, status, err)
		}
	}
	if status, out, errOut := runOnce(t, "object", "stat", "--server", s.url, "b/o40"); status != 0 || !strings.Contains(out, "unreachable") || !strings.Contains(out, "owed") {
		t.Errorf("object stat: %s%s", out, errOut)
	}
	s.start("storaged2")
	wantNoOrphans(t, s.url, 3) // it has been given what it was owed
}
