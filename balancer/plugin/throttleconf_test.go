package plugin_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/balancer/balancertest"
	"wheelhouse/balancer/plugin"
)

// throttled is a running balancer whose proxy has Throttle, with some of its parameters set as a file sets them.
func throttled(t *testing.T, o plugin.Options, node string, params ...string) *balancertest.Balancer {
	t.Helper()
	return startWith(t, balancertest.Proxy([]string{node}, "SET plugins = Throttle\nSET max_concurrent = 1000\nSET "+strings.Join(params, "\nSET ")), o)
}

// statuses are those of n requests, one after the other; 0 is one that was cut off.
func statuses(b *balancertest.Balancer, n int) (list []int) {
	for range n {
		status := 0
		if res, err := balancertest.Client.Get(b.URL("rp", "/x")); err == nil {
			res.Body.Close()
			status = res.StatusCode
		}
		list = append(list, status)
	}
	return list
}

func count(list []int, status int) (n int) {
	for _, s := range list {
		if s == status {
			n++
		}
	}
	return n
}

// The first delay is initial_delay, the longest max_delay: with the defaults of either these requests would take the test's whole time.
func TestThrottleDelayParameters(t *testing.T) {
	node := mirror(t)
	b := throttled(t, plugin.Options{}, node, "initial_delay = 0")
	if got := statuses(b, 12); count(got, 200) != 12 {
		t.Errorf("initial_delay = 0: %v", got)
	}
	b = throttled(t, plugin.Options{}, node, "initial_delay = 1000", "max_delay = .001")
	if got := statuses(b, 12); count(got, 200) != 12 {
		t.Errorf("max_delay = .001: %v", got)
	}
	b.Do("SET rp.max_delay = .3")
	began := time.Now()
	if statuses(b, 1); time.Since(began) < 300*time.Millisecond {
		t.Errorf("max_delay = .3: it took %v", time.Since(began))
	}
	b = throttled(t, plugin.Options{}, node, "initial_delay = .3")
	began = time.Now()
	if statuses(b, 2); time.Since(began) < 300*time.Millisecond {
		t.Errorf("initial_delay = .3: two requests took %v", time.Since(began))
	}
}

// Who comes again later than throttle_threshold_seconds is let alone; ban_threshold delays in a row are too many, for ban_expiration.
func TestThrottleThresholds(t *testing.T) {
	node := mirror(t)
	b := throttled(t, plugin.Options{}, node, "throttle_threshold_seconds = 0", "initial_delay = 1000", "ban_threshold = 1")
	if got := statuses(b, 5); count(got, 200) != 5 {
		t.Errorf("throttle_threshold_seconds = 0: %v", got)
	}
	b.Do("SET rp.throttle_threshold_seconds = 3600\nSET rp.ban_expiration = 3600")
	if got := statuses(b, 5); got[0] != 200 && got[0] != 0 || count(got, 0) != 1 || count(got[2:], 403) != 3 {
		t.Errorf("throttle_threshold_seconds = 3600, ban_threshold = 1: %v; want one that is cut off, then 403", got)
	}
	b.Do("SET rp.log_only = on")
	if got := statuses(b, 2); count(got, 200) != 2 {
		t.Errorf("log_only: %v", got)
	}
	b = throttled(t, plugin.Options{}, node, "initial_delay = 0", "ban_threshold = 1", "ban_expiration = 0")
	if got := statuses(b, 6); count(got, 403) != 0 || count(got, 0) < 2 {
		t.Errorf("ban_expiration = 0: %v; want some that are cut off, and nobody shut out after that", got)
	}
}

// A client may have max_concurrent requests under way.
func TestThrottleMaxConcurrent(t *testing.T) {
	begun, gate := make(chan struct{}), make(chan struct{})
	node := balancertest.Backend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			begun <- struct{}{}
			<-gate
		}
	})
	b := throttled(t, plugin.Options{}, node, "default_action = allow", "max_concurrent = 3")
	var held sync.WaitGroup
	for range 3 {
		held.Go(func() { get(t, b.URL("rp", "/held")) })
		<-begun
	}
	if got := statuses(b, 2); count(got, 403) != 2 {
		t.Errorf("max_concurrent = 3, and a fourth: %v", got)
	}
	b.Do("SET rp.max_concurrent = 4")
	balancertest.Eventually(t, "max_concurrent = 4, and a fourth", func() bool { return statuses(b, 1)[0] == 200 }) // when those before it are forgotten
	close(gate)
	held.Wait()
}

// The lists and patterns decide who is throttled at all.
func TestThrottleListParameters(t *testing.T) {
	list := filepath.Join(files(t, map[string]string{"nets": "127.0.0.0/8\n"}), "nets")
	node := mirror(t)
	for _, tt := range []struct {
		params string
		want   int // of the second request
	}{
		{"", 0},
		{"whitelist_file = " + list, 200},
		{"blacklist_file = " + list, 403},
		{"blacklist_file = " + list + "\nSET blacklist_action = throttle\nSET default_action = allow", 0},
		{"default_action = allow", 200},
		{"path_regex = ^/login", 200},
		{"path_regex = ^/x", 0},
		{"method_regex = ^POST$", 200},
		{"method_regex = ^GET$", 0},
	} {
		params := []string{"ban_threshold = 1", "log_events = ban"}
		if tt.params != "" {
			params = append(params, tt.params)
		}
		b := throttled(t, plugin.Options{}, node, params...)
		if got := statuses(b, 2); got[1] != tt.want {
			t.Errorf("%q: %v; want %d", tt.params, got, tt.want)
		}
		if banned := strings.Contains(b.Log.String(), "event=ban "); banned != (tt.want == 0) || strings.Contains(b.Log.String(), "listed") {
			t.Errorf("%q: log_events = ban: %s", tt.params, b.Log)
		}
	}
}

// A list that has gone stays in force, and refuses no change of anything else; one that was never good is refused.
func TestThrottleListHasGone(t *testing.T) {
	list := filepath.Join(files(t, map[string]string{"nets": "127.0.0.0/8\n"}), "nets")
	b := throttled(t, plugin.Options{}, mirror(t), "blacklist_file = "+list)
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	b.Do("SET rp.idle_timeout = 9\nUSE rp\nTHROTTLE RELOAD blacklist")
	if got := statuses(b, 1); got[0] != 403 || !strings.Contains(b.Log.String(), "list cannot be read, it stays as it was") {
		t.Errorf("%v\n%s", got, b.Log)
	}
	if err := b.Try("SET rp.blacklist_file = " + list + "2"); err == nil || !strings.Contains(err.Error(), "Couldn't load "+list+"2") {
		t.Errorf("a list that is not there: %v", err)
	}
}

// common is what several balancers remember, by key.
type common struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (c *common) Get(_ context.Context, key string) (time.Time, int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, ok := c.last[key]
	return last, 0, ok
}

func (c *common) Set(_ context.Context, key string, last time.Time, _ int, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[key] = last
}

// Balancers with the same memcached_servers remember together, if they have one instance_name.
func TestThrottleInstanceName(t *testing.T) {
	memory := &common{last: map[string]time.Time{}}
	var asked []string
	var conns int
	o := plugin.Options{ThrottleStore: func(servers []string, n int) (plugin.ThrottleMemory, error) {
		asked, conns = servers, n
		return memory, nil
	}}
	node := mirror(t)
	one := func(name string) int {
		b := throttled(t, o, node, "memcached_servers = 127.0.0.1:1, 127.0.0.1:2", "memcached_async_clients = 7", "ban_threshold = 1", "instance_name = "+name)
		return statuses(b, 1)[0]
	}
	for i, tt := range []struct {
		name string
		want int
	}{{"a", 200}, {"b", 200}, {"a", 0}, {"b", 0}} {
		if got := one(tt.name); got != tt.want {
			t.Errorf("balancer %d, instance_name = %s: %d; want %d", i, tt.name, got, tt.want)
		}
	}
	if strings.Join(asked, " ") != "127.0.0.1:1 127.0.0.1:2" || conns != 7 {
		t.Errorf("asked for %q with %d connections", asked, conns)
	}
}
