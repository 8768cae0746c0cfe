package main

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wheelhouse/store"
)

// stallLimit is how much longer than otherwise a client may wait because a storage is in trouble: what the store promises.
const stallLimit = time.Second

// unharmed is the same traffic to an installation beside the one that is harmed: how long clients wait on this machine at this time
// when nothing is wrong.
type unharmed struct {
	*traffic
	usual time.Duration
}

func startUnharmed(t *testing.T, clients int, sizes ...int) *unharmed {
	p := start(t, surviveArgs(t.TempDir())...)
	createBucket(t, p.ready["http"])
	return &unharmed{traffic: startTraffic(t, p.ready["http"], clients, sizes...)}
}

// begin is called right before the harm: what was before is the measure too, but not what is judged.
func (c *unharmed) begin(harmed *traffic) {
	c.usual = harmed.longest()
	c.longest()
}

// judge demands that the longest wait since begin was no more than stallLimit above what the machine makes of any request: twice the
// longest that there was without harm, since the longest of two equal streams are rarely the same.
func (c *unharmed) judge(harmed *traffic) {
	c.t.Helper()
	d, without := harmed.longest(), c.longest()
	c.t.Logf("the slowest request took %v; in the installation beside it %v, before that %v", d, without, c.usual)
	if limit := 2*max(without, c.usual) + stallLimit; d > limit {
		c.t.Errorf("clients waited for it: %v; want at most %v", d, limit)
	}
	c.end()
}

// surviveArgs are those of an up whose storages can be looked at, and that keeps nothing in memory.
func surviveArgs(dir string, more ...string) []string {
	return upArgs(dir, append([]string{
		"--storage-listen", "127.0.0.1:0", "--set", "storaged.auth=none", "--set", "dispatcher.hot_cache=0", "--set", "worker.probe_interval=1s",
	}, more...)...)
}

// A storage's directory is deleted under load: no read and no write fails. It is said to be down, a restart goes on without it,
// and a blank disk in its place is taken when somebody says so, and not before.
func TestSurviveDeletedDirectory(t *testing.T) {
	dir := t.TempDir()
	p := start(t, surviveArgs(dir)...)
	url := p.ready["http"]
	createBucket(t, url)
	tr, other := startTraffic(t, url, 4, 10, 10_000, 1<<20+1), startUnharmed(t, 4, 10, 10_000, 1<<20+1)
	tr.more(200)
	other.begin(tr)
	lost := filepath.Join(dir, "storage", "2")
	eventually(t, "the directory is deleted", func() bool { return os.RemoveAll(lost) == nil }) // it is written to meanwhile
	eventually(t, "it is down", func() bool { return storageMode(t, url, 2) == "down" })
	tr.more(200)
	other.judge(tr)
	tr.verify()
	if status, out, _ := runOnce(t, "status", "--server", url); status != 1 || !strings.HasPrefix(out, "DEGRADED") || !strings.Contains(out, "storage 2") {
		t.Errorf("status = %d:\n%s", status, out)
	}
	if _, err := os.Stat(lost); err == nil {
		t.Error("something was written where the disk was")
	}
	p.stop()

	// The mount point is empty at the next start.
	if err := os.MkdirAll(lost, 0o755); err != nil {
		t.Fatal(err)
	}
	p = start(t, append(surviveArgs(dir), "--listen", strings.TrimPrefix(url, "http://"))...)
	tr.readAll()
	if status, err := request(http.DefaultClient, "PUT", url+"/b/more", []byte("x")); err != nil || status != 201 {
		t.Errorf("PUT = %d, %v", status, err)
	}
	if left, err := os.ReadDir(lost); err != nil || len(left) != 0 {
		t.Errorf("below the mount point: %v, %v", left, err)
	}
	if status, _, errOut := runOnce(t, "storage", "accept", "--server", url, "2"); status != 0 {
		t.Fatal(errOut)
	}
	eventually(t, "it is written, and not read", func() bool { return storageMode(t, url, 2) == "filling" })
	if status, _, errOut := runOnce(t, "storage", "accept", "--server", url, "1"); status != 1 || !strings.Contains(errOut, "has its disk") {
		t.Errorf("a storage that is well was emptied: %d %s", status, errOut)
	}
	eventually(t, "what was written meanwhile is given to it", func() bool { return statusOf(t, url).Totals.Missing == 0 })
	tr.readAll()
	p.stop()
}

// damage is what may happen to the files of a storage that is not running.
var damages = []struct {
	name string
	live bool // while the process runs
	do   func(t *testing.T, dir string)
}{
	{"flipped bits", true, func(t *testing.T, dir string) {
		eachPack(t, dir, ".tar", func(path string, size int64) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for off := int64(9000); off < size; off += 10_000 { // at least one in each object
				var b [1]byte
				if _, err := f.ReadAt(b[:], off); err != nil {
					return
				}
				b[0] ^= 1
				if _, err := f.WriteAt(b[:], off); err != nil {
					t.Fatal(err)
				}
			}
		})
	}},
	{"truncated pack", false, func(t *testing.T, dir string) {
		eachPack(t, dir, ".tar", func(path string, size int64) {
			if err := os.Truncate(path, 150_000); err != nil {
				t.Fatal(err)
			}
		})
	}},
	{"truncated pack while it is in use", true, func(t *testing.T, dir string) {
		eachPack(t, dir, ".tar", func(path string, size int64) {
			if err := os.Truncate(path, 150_000); err != nil {
				t.Fatal(err)
			}
		})
	}},
	{"lost index", false, func(t *testing.T, dir string) { removePacks(t, dir, ".idx") }},
	{"lost packs", false, func(t *testing.T, dir string) { removePacks(t, dir, ".tar") }},
	{"lost delete log", false, func(t *testing.T, dir string) { removePacks(t, dir, ".del") }},
}

// eachPack calls f for each file of a kind among a storage's packs.
func eachPack(t *testing.T, dir, ext string, f func(path string, size int64)) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "packs", "*"+ext))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files *%s in %s: %v", ext, dir, err)
	}
	for _, path := range paths {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		f(path, st.Size())
	}
}

func removePacks(t *testing.T, dir, ext string) {
	eachPack(t, dir, ext, func(path string, _ int64) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	})
}

// Whatever happens to the files of one storage, readers get the right bytes, and what they found damaged is repaired.
func TestSurviveDamagedFiles(t *testing.T) {
	for _, tt := range damages {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			args := surviveArgs(dir)
			p := start(t, args...)
			url := p.ready["http"]
			createBucket(t, url)
			bodies := putSome(t, url, 30, 30_000)
			for i := range 5 {
				name := fmt.Sprint("o", i)
				if status, err := request(http.DefaultClient, "DELETE", url+"/b/"+name, nil); err != nil || status != 204 {
					t.Fatal(status, err)
				}
				delete(bodies, name)
			}
			eventually(t, "the deleted ones are gone from the storages", func() bool { return entities(t, url) == 3*len(bodies) })
			if !tt.live {
				p.stop()
			}
			tt.do(t, filepath.Join(dir, "storage", "1"))
			if !tt.live {
				p = start(t, append(args, "--listen", strings.TrimPrefix(url, "http://"))...)
			}
			wantBodies(t, url, bodies)
			for i := range 5 {
				if status, _, err := fetchSum(fmt.Sprint(url, "/b/o", i)); err != nil || status != 404 {
					t.Errorf("GET of a deleted object = %d, %v", status, err)
				}
			}
			for name := range bodies { // what no reader has met is found by a check
				if status, _, errOut := runOnce(t, "object", "repair", "--server", url, "b/"+name); status != 0 {
					t.Fatal(errOut)
				}
			}
			wantEntities(t, url, 1, bodies)
			wantBodies(t, url, bodies)
			p.stop()
		})
	}
}

// A disk that fills up is read on, and writes go on without it.
func TestSurviveFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a small file system can be mounted by root alone")
	}
	dir := t.TempDir()
	full := filepath.Join(dir, "storage", "2")
	if err := os.MkdirAll(full, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", full, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(full, syscall.MNT_DETACH) })
	p := start(t, surviveArgs(dir)...)
	url := p.ready["http"]
	createBucket(t, url)
	bodies := putSome(t, url, 60, 600_000) // three times what there is room for
	wantBodies(t, url, bodies)
	tr := startTraffic(t, url, 3, 10, 100_000)
	tr.more(200)
	tr.verify()
	if mode := storageMode(t, url, 2); mode != "rw" {
		t.Errorf("a full storage is %s; it can be read", mode)
	}
	if status, out, _ := runOnce(t, "status", "--server", url); status != 1 || !strings.Contains(out, "is full") && !strings.Contains(out, "owed") {
		t.Errorf("status = %d:\n%s", status, out)
	}
	p.stop()
}

// A storage that accepts connections and never answers: reads and writes go on, nobody waits long, it is down within seconds,
// and back by itself.
func TestSurviveSilentStorage(t *testing.T) {
	s := startParts(t)
	tr, other := startTraffic(t, s.url, 4, 10, 10_000, 3<<20), startUnharmed(t, 4, 10, 10_000, 3<<20)
	tr.more(150)
	other.begin(tr)
	pid := s.running["storaged2"].cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	eventually(t, "it is down", func() bool { return storageMode(t, s.url, 2) == "down" })
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it was down after %v; usual are 10 s", took)
	}
	tr.more(150)
	other.judge(tr)
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is back", func() bool { return storageMode(t, s.url, 2) == "rw" })
	tr.more(50)
	tr.verify()
	eventually(t, "nothing is owed", func() bool { return statusOf(t, s.url).Totals.Missing == 0 })
	for name := range s.running {
		s.running[name].stop()
	}
}

// A storage that answers at a hundredth of its speed: nobody waits for it, neither readers nor writers.
func TestSurviveSlowStorage(t *testing.T) {
	s := startParts(t)
	link := newSlowLink(t, func() string { return s.addrs["storaged2"] })
	if status, _, errOut := runOnce(t, "storage", "add", "--server", s.url, "--id", "2", "--cluster", "1", "--uri", "http://"+link.addr+"/dev2"); status != 0 {
		t.Fatal(errOut)
	}
	tr, other := startTraffic(t, s.url, 3, 10, 10_000, 4<<20), startUnharmed(t, 3, 10, 10_000, 4<<20)
	tr.more(100)
	other.begin(tr)
	link.set(400 << 10)
	tr.more(200)
	other.judge(tr)
	link.set(0)
	tr.verify()
	for name := range s.running {
		s.running[name].stop()
	}
}

// Processes of storages are killed while a large body is read: the client sees one unbroken body.
func TestSurviveKillInMidBody(t *testing.T) {
	s := startParts(t)
	body := make([]byte, 48<<20)
	for i := range body {
		body[i] = byte(i * 31 >> 7)
	}
	if status, err := request(http.DefaultClient, "PUT", s.url+"/b/large", body); err != nil || status != 201 {
		t.Fatal(status, err)
	}
	want := md5.Sum(body)
	for _, name := range s.storages {
		resp, err := http.Get(s.url + "/b/large")
		if err != nil {
			t.Fatal(err)
		}
		h := md5.New()
		if _, err := io.CopyN(h, resp.Body, 1<<20); err != nil {
			t.Fatal(err)
		}
		s.running[name].kill()
		_, err = io.Copy(h, resp.Body)
		_ = resp.Body.Close()
		if got := [16]byte(h.Sum(nil)); err != nil || got != want {
			t.Errorf("%s killed in mid-body: %v, MD5 %x; want %x", name, err, got, want)
		}
		s.start(name)
		eventually(t, name+" is in service", func() bool { return statusOf(t, s.url).Verdict == store.VerdictHealthy })
	}
	for name := range s.running {
		s.running[name].stop()
	}
}

// Ten thousand clients that send their requests byte by byte keep nobody from being served, and are thrown out in the end.
func TestSurviveTricklingClients(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	clients := min(10_000, int(limit.Cur)-1000)
	if clients < 1000 {
		t.Skipf("only %d files may be open", limit.Cur)
	}
	p := start(t, surviveArgs(t.TempDir(), "--set", "http.head_timeout=4s")...)
	url := p.ready["http"]
	createBucket(t, url)
	conns := make([]net.Conn, clients)
	var all sync.WaitGroup
	for w := range 16 {
		all.Go(func() {
			for i := w; i < clients; i += 16 {
				c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
				if err != nil {
					t.Error(err)
					return
				}
				conns[i] = c
				_, _ = io.WriteString(c, "GET /b/o HTTP/1.1\r\nHost: x\r\nA")
			}
		})
	}
	all.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	if t.Failed() {
		return
	}
	tr := startTraffic(t, url, 2, 10, 10_000)
	stop := make(chan struct{})
	all.Go(func() { // one more byte of each, again and again
		for {
			for _, c := range conns {
				select {
				case <-stop:
					return
				default:
				}
				_, _ = c.Write([]byte("a"))
			}
		}
	})
	tr.more(200)
	for _, c := range conns { // each of them is sent away
		_ = c.SetReadDeadline(time.Now().Add(wait))
		b := make([]byte, 64)
		if n, err := c.Read(b); n == 0 && err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset") {
			t.Errorf("a trickling client was not sent away: %v", err)
			break
		}
	}
	close(stop)
	all.Wait()
	tr.verify()
	p.stop()
}

// Clients that vanish in mid-upload and mid-download leave nothing behind.
func TestSurviveVanishingClients(t *testing.T) {
	p := start(t, surviveArgs(t.TempDir())...)
	url := p.ready["http"]
	createBucket(t, url)
	const size = 6 << 20
	if status, err := request(http.DefaultClient, "PUT", url+"/b/large", make([]byte, size)); err != nil || status != 201 {
		t.Fatal(status, err)
	}
	var all sync.WaitGroup
	for i := range 120 {
		all.Go(func() {
			c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.(*net.TCPConn).SetLinger(0) // gone without a word
			if i%2 == 0 {
				sent := []int{0, 1000, 900_000, 3 << 20, size - 1}[i/2%5]
				fmt.Fprintf(c, "PUT /b/v%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", i, size)
				_, _ = c.Write(make([]byte, sent))
				return
			}
			_, _ = io.WriteString(c, "GET /b/large HTTP/1.1\r\nHost: x\r\n\r\n")
			_, _ = io.ReadFull(c, make([]byte, 10_000))
		})
	}
	all.Wait()
	tr := startTraffic(t, url, 2, 10, 10_000)
	tr.more(100)
	tr.verify()
	wantNoOrphans(t, url, 3)
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !bytes.Contains(text, []byte("\nwheelhouse_dispatcher_buffered_bytes 0\n")) {
		t.Errorf("bodies are still in memory, or it is not said: %v", err)
	}
	p.stop()
}

// One of exactly two storages is killed in mid-upload, there is no other cluster, and it is started again: the client's one request
// succeeds, and each of the two has every byte.
func TestSurviveKillInMidUpload(t *testing.T) {
	s := startParts(t)
	if status, _, errOut := runOnce(t, "storage", "set-mode", "--server", s.url, "3", "down"); status != 0 {
		t.Fatal(errOut)
	}
	eventually(t, "storage 3 is out of service", func() bool { return storageMode(t, s.url, 3) == "down" })
	body := make([]byte, 64<<20)
	for i := range body {
		body[i] = byte(i * 131 >> 9)
	}
	in, out := io.Pipe()
	type answer struct {
		status int
		text   string
	}
	answered := make(chan answer, 1)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), "PUT", s.url+"/b/large", in)
		if err != nil {
			answered <- answer{0, err.Error()}
			return
		}
		req.ContentLength = int64(len(body))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			_ = in.CloseWithError(err)
			answered <- answer{0, err.Error()}
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		_ = in.Close()
		answered <- answer{resp.StatusCode, string(text)}
	}()
	if _, err := out.Write(body[:24<<20]); err != nil {
		t.Fatal(err)
	}
	s.running["storaged2"].kill()
	var sent sync.WaitGroup
	sent.Go(func() {
		_, _ = out.Write(body[24<<20:]) // the answer says whether that went well
		_ = out.Close()
	})
	s.start("storaged2")
	sent.Wait()
	if a := <-answered; a.status != http.StatusCreated {
		t.Fatalf("PUT = %d %s", a.status, a.text)
	}
	want := md5.Sum(body)
	for _, name := range []string{"storaged1", "storaged2"} {
		s.running[name].kill()
		eventually(t, "the other one gives it", func() bool {
			status, sum, err := fetchSum(s.url + "/b/large")
			return err == nil && status == http.StatusOK && sum == want
		})
		s.start(name)
	}
	for name := range s.running {
		s.running[name].stop()
	}
}
