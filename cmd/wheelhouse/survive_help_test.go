package main

import (
	"bytes"
	"crypto/md5"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"wheelhouse/store"
)

// traffic writes and reads objects all the time, demands that each request succeeds with the right bytes, and remembers how
// long the slowest took.
type traffic struct {
	t    *testing.T
	url  string
	stop chan struct{}
	done sync.WaitGroup

	mu      sync.Mutex // guards what follows
	sums    map[string][16]byte
	n       int
	failed  []string
	slowest time.Duration
}

// startTraffic begins with some clients, each of which writes objects of one of the sizes and reads old ones.
func startTraffic(t *testing.T, url string, clients int, sizes ...int) *traffic {
	tr := &traffic{t: t, url: url, stop: make(chan struct{}), sums: map[string][16]byte{}}
	for c := range clients {
		tr.done.Go(func() { tr.client(c, sizes) })
	}
	t.Cleanup(tr.end)
	return tr
}

func (tr *traffic) client(c int, sizes []int) {
	rng := rand.New(rand.NewPCG(uint64(c), 1))
	client := &http.Client{Transport: &http.Transport{}, Timeout: wait}
	defer client.CloseIdleConnections()
	var mine []string
	for i := 0; ; i++ {
		select {
		case <-tr.stop:
			return
		default:
		}
		if i%3 == 0 {
			name := fmt.Sprintf("t%d/%d", c, i)
			body := make([]byte, sizes[rng.IntN(len(sizes))])
			_, _ = rand.NewChaCha8([32]byte{byte(c), byte(i), byte(i >> 8)}).Read(body)
			begun := time.Now()
			status, err := request(client, "PUT", tr.url+"/b/"+name, body)
			tr.note("PUT "+name, time.Since(begun), err, status == 201, fmt.Sprint(status))
			tr.mu.Lock()
			tr.sums[name] = md5.Sum(body)
			tr.mu.Unlock()
			mine = append(mine, name)
			continue
		}
		name := mine[rng.IntN(len(mine))]
		tr.mu.Lock()
		want := tr.sums[name]
		tr.mu.Unlock()
		begun := time.Now()
		status, sum, err := get(client, tr.url+"/b/"+name)
		tr.note("GET "+name, time.Since(begun), err, status == 200 && sum == want, fmt.Sprintf("%d, MD5 %x; want %x", status, sum, want))
	}
}

func get(client *http.Client, url string) (status int, sum [16]byte, err error) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, sum, err
	}
	defer resp.Body.Close()
	h := md5.New()
	_, err = io.Copy(h, resp.Body)
	return resp.StatusCode, [16]byte(h.Sum(nil)), err
}

func (tr *traffic) note(what string, took time.Duration, err error, good bool, answer string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.n++
	tr.slowest = max(tr.slowest, took)
	if err != nil || !good {
		tr.failed = append(tr.failed, fmt.Sprintf("%s = %s, %v, after %v", what, answer, err, took))
	}
}

// more waits until some more requests have been answered.
func (tr *traffic) more(n int) {
	tr.t.Helper()
	count := func() int {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return tr.n
	}
	enough := count() + n
	eventually(tr.t, fmt.Sprint(n, " more requests are answered"), func() bool { return count() >= enough })
}

// longest is the longest time that a request took since it was last called.
func (tr *traffic) longest() time.Duration {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	d := tr.slowest
	tr.slowest = 0
	return d
}

// end stops the clients.
func (tr *traffic) end() {
	select {
	case <-tr.stop:
	default:
		close(tr.stop)
	}
	tr.done.Wait()
}

// verify ends the traffic, demands that nothing failed, and reads everything once more.
func (tr *traffic) verify() {
	tr.t.Helper()
	tr.end()
	for i, f := range tr.failed {
		if i == 5 {
			tr.t.Errorf("… and %d more of %d requests", len(tr.failed)-i, tr.n)
			break
		}
		tr.t.Error(f)
	}
	tr.readAll()
}

// readAll reads everything that was written.
func (tr *traffic) readAll() {
	tr.t.Helper()
	for name, want := range tr.sums {
		if status, sum, err := fetchSum(tr.url + "/b/" + name); err != nil || status != 200 || sum != want {
			tr.t.Errorf("GET %s = %d, %v, MD5 %x; want %x", name, status, err, sum, want)
		}
	}
}

// statusOf asks for the status of an installation.
func statusOf(t *testing.T, url string) (s store.Status) {
	t.Helper()
	resp, err := http.Get(url + "/-/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// storageMode is what is in force for a storage.
func storageMode(t *testing.T, url string, id store.StorageID) string {
	t.Helper()
	for _, s := range statusOf(t, url).Storages {
		if s.ID == id {
			return s.Mode
		}
	}
	return "gone"
}

func createBucket(t *testing.T, url string) {
	t.Helper()
	if status, err := request(http.DefaultClient, "PUT", url+"/b", nil); err != nil || status != 201 {
		t.Fatal(status, err)
	}
}

// putSome stores objects and returns their bodies.
func putSome(t *testing.T, url string, n, size int) map[string][]byte {
	t.Helper()
	bodies := map[string][]byte{}
	for i := range n {
		name, body := fmt.Sprint("o", i), bytes.Repeat([]byte{byte(i), byte(i >> 3), 7}, size/3+i)
		if status, err := request(http.DefaultClient, "PUT", url+"/b/"+name, body); err != nil || status != 201 {
			t.Fatalf("PUT %s = %d, %v", name, status, err)
		}
		bodies[name] = body
	}
	return bodies
}

func wantBodies(t *testing.T, url string, bodies map[string][]byte) {
	t.Helper()
	for name, body := range bodies {
		if status, sum, err := fetchSum(url + "/b/" + name); err != nil || status != 200 || sum != md5.Sum(body) {
			t.Errorf("GET %s = %d, %v; other bytes than were stored, perhaps", name, status, err)
		}
	}
}

// wantEntities waits until one storage gives the right bytes of all objects. Its node must be open to everybody.
func wantEntities(t *testing.T, url string, id store.StorageID, bodies map[string][]byte) {
	t.Helper()
	uri := ""
	for _, s := range statusOf(t, url).Storages {
		if s.ID == id {
			uri = s.URI
		}
	}
	last := ""
	defer func() {
		if t.Failed() {
			t.Log(last)
		}
	}()
	eventually(t, fmt.Sprintf("storage %d holds the right bytes of everything", id), func() bool {
		for _, o := range listAll(t, url) {
			var st store.ObjectStatus
			resp, err := http.Get(url + "/-/objects?bucket=b&name=" + o.Name)
			if err != nil {
				t.Fatal(err)
			}
			err = json.NewDecoder(resp.Body).Decode(&st)
			_ = resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			status, sum, err := fetchSum(uri + "/" + store.EntityPath(st.ID))
			if want := md5.Sum(bodies[o.Name]); err != nil || status != 200 || sum != want {
				last = fmt.Sprintf("entity %d: %d, %v, MD5 %x; want %x", st.ID, status, err, sum, want)
				return false
			}
		}
		return true
	})
}

// slowLink passes connections on to an address, and can be made slow.
type slowLink struct {
	addr string

	mu   sync.Mutex // guards rate
	rate int        // bytes a second of each connection and direction; 0: no limit
}

func newSlowLink(t *testing.T, to func() string) *slowLink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &slowLink{addr: ln.Addr().String()}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to())
			if err != nil {
				_ = in.Close()
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			all.Go(func() { l.pass(in, out) })
			all.Go(func() { l.pass(out, in) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l
}

func (l *slowLink) set(rate int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
}

// pass copies one direction, in pieces of a fiftieth of a second.
func (l *slowLink) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		l.mu.Lock()
		rate := l.rate
		l.mu.Unlock()
		piece := len(buf)
		if rate > 0 {
			piece = max(1, min(piece, rate/50))
		}
		n, err := from.Read(buf[:piece])
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		if rate > 0 {
			<-time.After(time.Duration(n) * time.Second / time.Duration(rate))
		}
	}
}
