package gearman

import (
	"fmt"
	"testing"
)

// Keys spread evenly, and a server that is added takes its share and moves no others.
func TestOrder(t *testing.T) {
	const n, keys = 5, 20000
	var servers []*server
	for i := range n + 1 {
		servers = append(servers, newServer(fmt.Sprintf("10.0.0.%d:4730", i), nil))
	}
	counts := map[string]int{}
	moved := 0
	for k := range keys {
		key := fmt.Sprint("photo-", k)
		before, after := order(servers[:n], key), order(servers, key)
		counts[before[0].addr]++
		if before[0] != after[0] {
			moved++
			if after[0] != servers[n] {
				t.Fatalf("%s went from %s to %s, which was there before", key, before[0].addr, after[0].addr)
			}
		}
		if again := order([]*server{servers[3], servers[1], servers[0], servers[4], servers[2]}, key); again[0] != before[0] || again[1] != before[1] {
			t.Fatalf("%s: the order in which the servers are given matters", key)
		}
	}
	for addr, c := range counts {
		if c < keys/n*9/10 || c > keys/n*11/10 {
			t.Errorf("%s has %d keys of %d", addr, c, keys)
		}
	}
	if moved < keys/(n+1)*9/10 || moved > keys/(n+1)*11/10 {
		t.Errorf("%d keys of %d moved; want about one in %d", moved, keys, n+1)
	}
}
