package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"wheelhouse/store"
)

const (
	// patience is how long an operation is tried before it counts as failed.
	patience = 90 * time.Second
	// quiet is how long a name is not written to after a request whose outcome is not known: it might still take effect.
	quiet = 45 * time.Second
	// blockSize is what contents are cut from.
	blockSize = 8 << 20
	maxSmall  = 40 << 10
	maxLarge  = 3 << 20
)

// content is what an object holds: a piece of a block that is known.
type content struct{ off, n int }

// key is one name and what is known of it. It belongs to one client.
type key struct {
	name    string
	present bool
	has     content
	until   time.Time // not written to before
}

// load is all clients and what they have seen.
type load struct {
	c     *cluster
	o     options
	block []byte
	keys  [][]*key // of each client

	mu                       sync.Mutex // guards what follows
	ops                      map[string]int64
	retries                  int64
	lost, wrong              []string
	longestRead, longestWrit time.Duration
	gaveUp                   int64

	was    *history // what was broken when
	stalls stalls
}

func newLoad(c *cluster, o options, was *history) *load {
	l := &load{c: c, o: o, was: was, block: make([]byte, blockSize), ops: map[string]int64{}}
	rnd := rand.NewChaCha8([32]byte{byte(o.seed), byte(o.seed >> 8), byte(o.seed >> 16)})
	_, _ = rnd.Read(l.block) // never fails
	for i := range o.clients {
		var list []*key
		for k := range o.keys {
			list = append(list, &key{name: fmt.Sprintf("c%02d/%04d", i, k)})
		}
		l.keys = append(l.keys, list)
	}
	return l
}

// client does one thing after another until ctx ends.
func (l *load) client(ctx context.Context, i int) {
	rnd := rand.New(rand.NewPCG(l.o.seed, uint64(100+i)))
	keys := l.keys[i]
	for ctx.Err() == nil {
		k := keys[rnd.IntN(len(keys))]
		switch n := rnd.IntN(100); {
		case n < 30:
			l.put(ctx, k, rnd)
		case n < 36:
			l.remove(ctx, k)
		case n < 85:
			l.get(ctx, k, "get", 0, -1)
		case n < 98:
			l.getRange(ctx, k, rnd)
		default:
			l.list(ctx, i)
		}
	}
}

func (l *load) count(op string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops[op]++
}

func (l *load) summary() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, v := range l.ops {
		n += v
	}
	return fmt.Sprintf("%d operations, %d retries, lost %d, wrong %d", n, l.retries, len(l.lost), len(l.wrong))
}

func (l *load) noteLost(what string) {
	log.Print("LOST: ", what)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = append(l.lost, what)
}

func (l *load) noteWrong(what string) {
	log.Print("WRONG: ", what)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, what)
}

// answer is what a dispatcher said.
type answer struct {
	status int
	body   []byte
}

// errUnknown says that a request may have taken effect or not.
var errUnknown = errors.New("outcome not known")

// try sends a request to one dispatcher after the other until there is an answer below 500, and returns it, with whether an
// attempt before it may have had an effect. ok is false when ctx ended or the patience did.
func (l *load) try(ctx context.Context, method, path string, body []byte, h http.Header, write bool) (a answer, doubt, ok bool) {
	begun := time.Now()
	var attempts []string
	defer func() {
		if took := time.Since(begun); ok {
			if took >= longStall {
				s := &stall{fmt.Sprintf("%s of %d bytes", method, max(len(body), len(a.body))), took, attempts, l.was.during(begun, time.Now())}
				log.Print(s)
				l.stalls.add(method, s)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if write {
				l.longestWrit = max(l.longestWrit, took)
			} else {
				l.longestRead = max(l.longestRead, took)
			}
		}
	}()
	for attempt := rand.IntN(dispatchers); time.Since(begun) < patience; attempt++ {
		sent := time.Now()
		a, err := l.send(ctx, method, l.c.urls[attempt%dispatchers]+path, body, h)
		outcome := fmt.Sprint(a.status)
		if err != nil {
			outcome = "broken off"
			if os.IsTimeout(err) {
				outcome = "timeout"
			}
		}
		attempts = append(attempts, fmt.Sprintf("%d: %s after %.1f s", attempt%dispatchers+1, outcome, time.Since(sent).Seconds()))
		switch {
		case err == nil && a.status < 500:
			return a, doubt, true
		case ctx.Err() != nil:
			return a, true, false
		case err != nil:
			doubt = true
		}
		l.mu.Lock()
		l.retries++
		l.mu.Unlock()
		pause(ctx, 100*time.Millisecond)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaveUp++
	log.Printf("gave up: %s %s", method, path)
	return a, true, false
}

func (l *load) send(ctx context.Context, method, url string, body []byte, h http.Header) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	for name, v := range h {
		req.Header[name] = v
	}
	resp, err := l.c.http.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return a, fmt.Errorf("%w: %w", errUnknown, err)
	}
	return a, nil
}

func (l *load) put(ctx context.Context, k *key, rnd *rand.Rand) {
	if time.Now().Before(k.until) {
		return
	}
	n := 1 + rnd.IntN(maxSmall)
	if rnd.IntN(40) == 0 {
		n = maxSmall + rnd.IntN(maxLarge-maxSmall)
	}
	c := content{rnd.IntN(blockSize - n), n}
	a, doubt, ok := l.try(ctx, "PUT", "/b/"+k.name, l.bytes(c), nil, true)
	switch {
	case !ok: // the run is over, or nobody knows: the name is left alone
		k.until = time.Now().Add(24 * time.Hour)
		k.name = "" // nothing is claimed of it
		return
	case a.status != http.StatusCreated:
		l.noteWrong(fmt.Sprintf("PUT %s: %d %.80q", k.name, a.status, a.body))
		return
	case doubt:
		k.until = time.Now().Add(quiet)
	}
	k.present, k.has = true, c
	l.count("PUT")
}

func (l *load) remove(ctx context.Context, k *key) {
	if !k.present || time.Now().Before(k.until) {
		return
	}
	a, doubt, ok := l.try(ctx, "DELETE", "/b/"+k.name, nil, nil, true)
	switch {
	case !ok:
		k.until = time.Now().Add(24 * time.Hour)
		k.name = ""
		return
	case a.status == http.StatusNotFound && !doubt:
		l.noteLost("DELETE " + k.name + ": not found")
	case a.status != http.StatusNoContent && a.status != http.StatusNotFound:
		l.noteWrong(fmt.Sprintf("DELETE %s: %d %.80q", k.name, a.status, a.body))
		return
	}
	if doubt {
		k.until = time.Now().Add(quiet)
	}
	k.present = false
	l.count("DELETE")
}

func (l *load) bytes(c content) []byte { return l.block[c.off : c.off+c.n] }

func (l *load) getRange(ctx context.Context, k *key, rnd *rand.Rand) {
	if !k.present || k.has.n < 2 {
		return
	}
	from := rnd.IntN(k.has.n)
	l.get(ctx, k, "range", from, 1+rnd.IntN(k.has.n-from))
}

// get reads an object, or n bytes of it, and compares.
func (l *load) get(ctx context.Context, k *key, op string, from, n int) {
	if k.name == "" {
		return
	}
	h := http.Header{}
	want, status := l.bytes(k.has), http.StatusOK
	if n >= 0 {
		h.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+n-1))
		want, status = want[from:from+n], http.StatusPartialContent
	}
	a, _, ok := l.try(ctx, "GET", "/b/"+k.name, nil, h, false)
	switch {
	case !ok:
		return
	case !k.present && a.status == http.StatusNotFound:
	case !k.present:
		l.noteWrong(fmt.Sprintf("GET %s: %d, but it was deleted", k.name, a.status))
	case a.status == http.StatusNotFound:
		l.noteLost("GET " + k.name + ": not found")
	case a.status != status:
		l.noteWrong(fmt.Sprintf("GET %s: %d %.80q", k.name, a.status, a.body))
	case !bytes.Equal(a.body, want):
		l.noteWrong(fmt.Sprintf("GET %s: %d bytes that are not the %d that were stored", k.name, len(a.body), len(want)))
	}
	l.count(op)
}

// list compares a client's names with the listing.
func (l *load) list(ctx context.Context, client int) {
	prefix := fmt.Sprintf("c%02d/", client)
	a, _, ok := l.try(ctx, "GET", "/b?list&limit=1000&prefix="+prefix, nil, nil, false)
	if !ok {
		return
	}
	var got store.Listing
	if err := json.Unmarshal(a.body, &got); err != nil || a.status != http.StatusOK {
		l.noteWrong(fmt.Sprintf("list %s: %d %v", prefix, a.status, err))
		return
	}
	have := map[string]bool{}
	for _, o := range got.Objects {
		have[o.Name] = true
	}
	for _, k := range l.keys[client] {
		switch {
		case k.name == "":
		case k.present && !have[k.name]:
			l.noteLost("list: no " + k.name)
		case !k.present && have[k.name]:
			l.noteWrong("list: " + k.name + ", which was deleted")
		}
	}
	l.count("list")
}

// verify reads everything through each dispatcher.
func (l *load) verify(ctx context.Context) {
	urls := l.c.urls
	defer func() { l.c.urls = urls }()
	for _, u := range urls {
		l.c.urls = slices.Repeat([]string{u}, dispatchers)
		var wg sync.WaitGroup
		for _, keys := range l.keys {
			wg.Go(func() {
				for _, k := range keys {
					l.get(ctx, k, "verify", 0, -1)
				}
			})
		}
		wg.Wait()
	}
}
