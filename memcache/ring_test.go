package memcache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func servers(t testing.TB, list ...string) []Server {
	t.Helper()
	s, err := ParseServers(list...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ring(t testing.TB, kind Distribution, list ...string) *Ring {
	t.Helper()
	r, err := NewRing(servers(t, list...), kind)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func someKeys(n int) []string {
	rnd := rand.New(rand.NewPCG(1, 2))
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("user:%d:%x", i, rnd.Uint64()>>rnd.IntN(64))
		if i%7 == 0 {
			keys[i] += "é\xff" // bytes beyond ASCII
		}
	}
	return keys
}

var peerSets = map[string][]string{
	"one":         {"10.0.0.1"},
	"default":     {"10.0.0.1", "10.0.0.2", "10.0.0.3"},
	"mixed":       {"cache1", "cache1:11212", "127.0.0.1:22122", "10.0.0.2:11211"},
	"weights":     {"10.0.0.1/?1", "10.0.0.2/?3", "10.0.0.3:11212/?7", "10.0.0.4/?2"},
	"odd weights": {"a:1/?600", "b:2/?300", "c:3/?200", "d:4/?350", "e:5/?1000", "f:6/?800", "g:7/?950", "h:8/?100"},
	"sockets":     {"/run/a.sock", "/run/b.sock/?2", "10.0.0.1"},
	"many":        {"h0:1", "h1:2", "h2:3", "h3:4", "h4:5", "h5:6", "h6:7", "h7:8", "h8:9", "h9:10", "h10:11", "h11:12", "h12:13/?9"},
}

// 10,000 keys must come to the servers where libmemcached's own code puts them.
func TestKetamaIsLibmemcacheds(t *testing.T) {
	place := filepath.Join(t.TempDir(), "place")
	if out, err := exec.Command("gcc", "-o", place, "testdata/place.c", "-lmemcached").CombinedOutput(); err != nil {
		t.Fatalf("%v (make tools)\n%s", err, out)
	}
	keys := someKeys(10000)
	for name, list := range peerSets {
		for mode, kind := range map[string]Distribution{"plain": Ketama, "md5": KetamaMD5, "weighted": KetamaWeighted} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				r := ring(t, kind, list...)
				args := []string{mode}
				for _, s := range r.Servers() {
					args = append(args, s.Host, strconv.Itoa(s.Port), strconv.Itoa(s.Weight))
				}
				compare(t, r, keys, exec.Command(place, args...))
			})
		}
	}
}

// compare asks cmd, which reads keys and prints numbers of servers.
func compare(t *testing.T, r *Ring, keys []string, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stdin = strings.NewReader(strings.Join(keys, "\n") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	want := strings.Fields(string(out))
	if len(want) != len(keys) {
		t.Fatalf("%d answers for %d keys", len(want), len(keys))
	}
	wrong := 0
	for i, k := range keys {
		if got := strconv.Itoa(r.Place(k)); got != want[i] {
			if wrong++; wrong < 5 {
				t.Errorf("%q is on %s; want %s", k, got, want[i])
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d keys are elsewhere", wrong, len(keys))
	}
}

// A new server takes its part of the keys from the others, and no key moves between those.
func TestAddingAServerMovesFewKeys(t *testing.T) {
	keys := someKeys(20000)
	for _, kind := range []Distribution{Ketama, KetamaMD5, KetamaWeighted, Jump, Rendezvous} {
		for _, n := range []int{1, 4, 9} {
			t.Run(fmt.Sprintf("%v/%d", kind, n), func(t *testing.T) {
				var list []string
				for i := range n + 1 {
					list = append(list, fmt.Sprintf("10.0.0.%d", i))
				}
				before, after := ring(t, kind, list[:n]...), ring(t, kind, list...)
				moved := 0
				for _, k := range keys {
					if from, to := before.Place(k), after.Place(k); from != to {
						moved++
						if to != n {
							t.Fatalf("%q moved from %d to %d, which both were there", k, from, to)
						}
					}
				}
				part := float64(moved) / float64(len(keys)) * float64(n+1)
				t.Logf("%.3f of 1/%d moved", part, n+1)
				// The keys and the servers are always the same: nothing here is chance.
				if part < 0.8 || moved > len(keys)/n {
					t.Errorf("%d of %d keys moved; want about 1/%d, and no more than 1/%d", moved, len(keys), n+1, n)
				}
			})
		}
	}
}

// Without a server, its keys alone go elsewhere; without any, there is no place.
func TestPlaceWithoutAServer(t *testing.T) {
	for kind := range Distribution(len(distributions)) {
		r := ring(t, kind, "a", "b", "c", "d/?2")
		for _, k := range someKeys(2000) {
			first := r.Place(k)
			other := r.place(k, func(i int) bool { return i != 1 })
			if other == 1 || first != 1 && other != first {
				t.Fatalf("%v: %q: %d without server 1; it was on %d", kind, k, other, first)
			}
			if got := r.place(k, func(i int) bool { return i == 2 }); got != 2 {
				t.Fatalf("%v: %q: %d; want 2, the only one", kind, k, got)
			}
			asked := map[int]int{}
			if got := r.place(k, func(i int) bool { asked[i]++; return false }); got != -1 || len(asked) != 4 || asked[0]+asked[1]+asked[2]+asked[3] != 4 {
				t.Fatalf("%v: %q: %d, asked %v; want -1 and each once", kind, k, got, asked)
			}
		}
	}
}

func TestRendezvousWeights(t *testing.T) {
	r, got := ring(t, Rendezvous, "a", "b/?3"), 0
	for _, k := range someKeys(20000) {
		got += r.Place(k)
	}
	if got < 14600 || got > 15400 { // 15000 ± 6 standard deviations
		t.Errorf("3/4 of the weight has %d of 20000 keys", got)
	}
}

func TestParseServer(t *testing.T) {
	for text, want := range map[string]Server{
		"a": {"a", 11211, 1}, "a:1": {"a", 1, 1}, "a/?7": {"a", 11211, 7}, "a:1/?2": {"a", 1, 2}, "/run/x": {"/run/x", 0, 1}, "/x/?3": {"/x", 0, 3},
		"::1": {"::1", 11211, 1}, "[::1]": {"::1", 11211, 1}, "[::1]:5": {"::1", 5, 1}, "10.0.0.1:65535": {"10.0.0.1", 65535, 1},
	} {
		got, err := ParseServer(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
		if again, err := ParseServer(got.String()); err != nil || again != want {
			t.Errorf("%q printed as %q: %+v, %v", text, got.String(), again, err)
		}
	}
	for _, text := range []string{"", ":1", "a:", "a:0", "a:65536", "a:x", "a/?0", "a/?", "a/?65537", "a b", "[::1", "a/b"} {
		if got, err := ParseServer(text); err == nil {
			t.Errorf("%q: %+v; want an error", text, got)
		}
	}
	for _, list := range [][]Server{nil, {{"a", 1, 1}, {"a", 1, 2}}, {{"a", 1, 0}}, {{"a", 0, 1}}, {{"/x", 1, 1}}, {{"a", 1, 40000}, {"b", 1, 40000}}} {
		if _, err := NewRing(list, Ketama); err == nil {
			t.Errorf("a ring of %v", list)
		}
	}
	if _, err := NewRing([]Server{{"a", 1, 1}}, 99); err == nil {
		t.Error("a ring of distribution 99")
	}
}

func TestDistributionNames(t *testing.T) {
	for kind := range Distribution(len(distributions)) {
		if got, err := ParseDistribution(kind.String()); err != nil || got != kind {
			t.Errorf("%v: %v, %v", kind, got, err)
		}
	}
	if got, err := ParseDistribution("modula"); err == nil {
		t.Errorf("modula is %v", got)
	}
}
