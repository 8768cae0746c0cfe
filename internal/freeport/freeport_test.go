package freeport_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"wheelhouse/internal/freeport"
)

const asChild = "FREEPORT_TEST_CHILD"

// TestMain has the program print ports and wait, where it is a child.
func TestMain(m *testing.M) {
	if os.Getenv(asChild) == "" {
		os.Exit(m.Run())
	}
	for range many {
		addr, err := freeport.Addr()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(addr)
	}
	fmt.Println("end")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

const many = 500

// Three processes at once are given ports that are all different, and that can be listened on.
func TestNoneTwice(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	var asking sync.WaitGroup
	for range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asChild+"=1")
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { // its ports are its own until then
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
		asking.Go(func() {
			for {
				var addr string
				if _, err := fmt.Fscanln(out, &addr); err != nil {
					t.Error(err)
					return
				}
				if addr == "end" {
					return
				}
				mu.Lock()
				seen[addr]++
				mu.Unlock()
			}
		})
	}
	for range many {
		addr, err := freeport.Addr()
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		seen[addr]++
		mu.Unlock()
	}
	asking.Wait()
	for addr, n := range seen {
		if n > 1 || !strings.HasPrefix(addr, "127.0.0.1:") {
			t.Errorf("%s was given %d times", addr, n)
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Error(err)
			continue
		}
		ln.Close()
	}
	if len(seen) != 3*many {
		t.Errorf("%d ports were given, want %d", len(seen), 3*many)
	}
}
