// Package freeport finds ports of the loopback interface for servers whose address must be known before they start, in tests and measurements.
//
// A port that was free a moment ago (listen on 0, close) may be given away again at once: to the next who asks that way, or to any connection.
// Ports of this package lie below those that the kernel gives away by itself, and no two callers on a machine get the same.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
)

const (
	lowest = 10_000
	tries  = 1000
)

var (
	mu    sync.Mutex     // guards below
	taken []net.Listener // one for each port that this process has been given
)

// Addr is an IPv4 address, 127.0.0.1 with a port of TCP on which nobody listens. It is the caller's until the process ends: no other call, in this
// process or another, returns the same. It is safe for concurrent use.
func Addr() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	end, err := firstOfKernel()
	if err != nil {
		return "", err
	}
	for range tries {
		port := lowest + rand.IntN(end-lowest)
		claim, err := net.Listen("unix", fmt.Sprintf("@wheelhouse-freeport-%d", port)) // ends with the process, however that ends
		if err != nil {
			continue // another has it
		}
		taken = append(taken, claim)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if ln, err := net.Listen("tcp", addr); err == nil {
			return addr, ln.Close()
		}
	}
	return "", errors.New("freeport: no free port was found")
}

// ForTest is [Addr] for a test, which fails where there is none.
func ForTest(t testing.TB) string {
	t.Helper()
	addr, err := Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// firstOfKernel is the first of the ports that the kernel gives to who asks for any.
func firstOfKernel() (int, error) {
	const file = "/proc/sys/net/ipv4/ip_local_port_range"
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	var first int
	if _, err := fmt.Sscan(string(text), &first); err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	if first < lowest+tries { // it gives nearly all of them: then those are as good as others
		return 1 << 16, nil
	}
	return first, nil
}
