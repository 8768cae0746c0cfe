package dispatcher_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/dispatcher"
)

// upper is a deriver that makes upper-case text of objects that are asked for with ?as=NAME. It waits for letGo where that is
// not nil.
type upper struct {
	n     atomic.Int32
	letGo chan struct{}
	err   error
	panic bool
}

func (u *upper) Variant(q url.Values, contentType string) (string, bool, error) {
	if q.Get("as") == "nonsense" {
		return "", true, errors.New("as=nonsense: want a sensible name")
	}
	return q.Get("as"), q.Has("as") && contentType == "text/plain; charset=utf-8", nil
}

func (u *upper) Derive(ctx context.Context, key, variant string, original []byte) ([]byte, string, error) {
	u.n.Add(1)
	if u.letGo != nil {
		select {
		case <-u.letGo:
		case <-ctx.Done():
			return nil, "", fmt.Errorf("%w: %w", dispatcher.ErrDeriverBusy, ctx.Err())
		}
	}
	if u.panic {
		panic("upper")
	}
	return []byte(variant + ": " + strings.ToUpper(string(original))), "text/x-upper", u.err
}

func deriving(t *testing.T, u *upper, o dispatcher.Options) *testStore {
	o.Deriver = u
	ts := newStore(t, setup{auth: dispatcher.AuthNone, options: o})
	ts.must(http.MethodPut, "/b", "", http.StatusCreated)
	ts.must(http.MethodPut, "/b/hello.txt", "hello", http.StatusCreated)
	return ts
}

// must sends a request, demands a status, and returns the body.
func (ts *testStore) must(method, path, body string, status int) (string, http.Header) {
	ts.t.Helper()
	req, err := http.NewRequestWithContext(ts.t.Context(), method, ts.url+path, strings.NewReader(body))
	if err != nil {
		ts.t.Fatal(err)
	}
	resp, err := ts.http.Do(req)
	if err != nil {
		ts.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		ts.t.Errorf("%s %s: %s %q, %v; want %d", method, path, resp.Status, got, err, status)
	}
	return string(got), resp.Header
}

func TestDerived(t *testing.T) {
	u := &upper{}
	ts := deriving(t, u, dispatcher.Options{})
	for range 3 {
		got, h := ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusOK)
		if got != "a: HELLO" || h.Get("Content-Type") != "text/x-upper" || h.Get("ETag") == "" {
			t.Errorf("%q, %v", got, h)
		}
	}
	if u.n.Load() != 1 {
		t.Errorf("made %d times", u.n.Load())
	}
	if got, _ := ts.must(http.MethodGet, "/b/hello.txt?v=3", "", http.StatusOK); got != "hello" {
		t.Errorf("not asked for, but got %q", got)
	}
	// Ranges, conditions and HEAD are the variant's.
	_, h := ts.must(http.MethodHead, "/b/hello.txt?as=a", "", http.StatusOK)
	if h.Get("Content-Length") != "8" {
		t.Errorf("HEAD: %v", h)
	}
	// A new version has its own variants.
	ts.must(http.MethodPut, "/b/hello.txt", "bye", http.StatusCreated)
	if got, _ := ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusOK); got != "a: BYE" {
		t.Errorf("after the original was replaced: %q", got)
	}
	ts.must(http.MethodGet, "/b/nothing.txt?as=a", "", http.StatusNotFound)
	ts.must(http.MethodGet, "/b/hello.txt?as=nonsense", "", http.StatusBadRequest)
	ts.must(http.MethodPut, "/"+store.DerivedBucket, "", http.StatusBadRequest)
}

// A thousand requests at once for what has not been made yet make it once.
func TestDerivedOnce(t *testing.T) {
	u := &upper{letGo: make(chan struct{})}
	ts := deriving(t, u, dispatcher.Options{})
	ts.http.Transport.(*http.Transport).MaxConnsPerHost = 0
	var wg sync.WaitGroup
	var waiting atomic.Int32
	for range 1000 {
		wg.Go(func() {
			waiting.Add(1)
			if got, _ := ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusOK); got != "a: HELLO" {
				t.Errorf("got %q", got)
			}
		})
	}
	deadline := time.Now().Add(10 * time.Second)
	for waiting.Load() < 1000 || u.n.Load() == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the requests do not come")
		}
		time.Sleep(time.Millisecond)
	}
	close(u.letGo)
	wg.Wait()
	if u.n.Load() != 1 {
		t.Errorf("made %d times", u.n.Load())
	}
}

func TestDerivedFailures(t *testing.T) {
	t.Run("not derivable", func(t *testing.T) {
		u := &upper{err: fmt.Errorf("%w: it has no letters", dispatcher.ErrNotDerivable)}
		ts := deriving(t, u, dispatcher.Options{})
		for range 3 {
			if got, _ := ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusUnprocessableEntity); !strings.Contains(got, "no letters") {
				t.Errorf("the answer does not say why: %q", got)
			}
		}
		if u.n.Load() != 1 {
			t.Errorf("tried %d times in a row", u.n.Load())
		}
	})
	t.Run("busy", func(t *testing.T) {
		u := &upper{err: dispatcher.ErrDeriverBusy}
		ts := deriving(t, u, dispatcher.Options{})
		for range 2 {
			if _, h := ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusServiceUnavailable); h.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
		if u.n.Load() != 2 {
			t.Errorf("tried %d times", u.n.Load())
		}
	})
	t.Run("panic", func(t *testing.T) {
		ts := deriving(t, &upper{panic: true}, dispatcher.Options{})
		ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusInternalServerError)
		ts.must(http.MethodGet, "/b/hello.txt", "", http.StatusOK)
	})
	t.Run("timeout", func(t *testing.T) {
		ts := deriving(t, &upper{letGo: make(chan struct{})}, dispatcher.Options{DeriveTimeout: 50 * time.Millisecond})
		ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusServiceUnavailable)
	})
	t.Run("timeout before it begins", func(t *testing.T) {
		ts := deriving(t, &upper{}, dispatcher.Options{DeriveTimeout: time.Nanosecond})
		if _, h := ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusServiceUnavailable); h.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	})
	t.Run("too large", func(t *testing.T) {
		ts := deriving(t, &upper{}, dispatcher.Options{DeriveMost: 4})
		ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusUnprocessableEntity)
	})
	t.Run("too many", func(t *testing.T) {
		ts := deriving(t, &upper{}, dispatcher.Options{DeriveVariants: 2})
		ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusOK)
		ts.must(http.MethodGet, "/b/hello.txt?as=b", "", http.StatusOK)
		ts.must(http.MethodGet, "/b/hello.txt?as=c", "", http.StatusForbidden)
		ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusOK)
	})
}

// Photos of a private bucket are as private in other sizes.
func TestDerivedIsPrivate(t *testing.T) {
	ts := newStore(t, setup{auth: dispatcher.AuthKeys, options: dispatcher.Options{Deriver: &upper{}}})
	ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusNotFound)
	if _, err := ts.cat.CreateBucket(t.Context(), store.Bucket{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	ts.must(http.MethodGet, "/b/hello.txt?as=a", "", http.StatusUnauthorized)
	ts.must(http.MethodGet, "/"+store.DerivedBucket, "", http.StatusNotFound)
}
