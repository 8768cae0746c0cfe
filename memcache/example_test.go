package memcache_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strconv"
	"time"

	"wheelhouse/memcache"
	"wheelhouse/memcache/memcached"
)

// server runs a cache server for an example.
func server() (addr string, stop func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s, err := memcached.Open(memcached.Options{})
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(ln) }()
	return ln.Addr().String(), func() { _ = s.Close(); <-done }
}

func connect(addr string, opts ...memcache.Option) *memcache.Client {
	servers, err := memcache.ParseServers(addr)
	if err != nil {
		log.Fatal(err)
	}
	c, err := memcache.New(servers, append(opts, memcache.WithTimeout(time.Minute, time.Minute))...)
	if err != nil {
		log.Fatal(err)
	}
	return c
}

func Example() {
	addr, stop := server()
	defer stop()
	c := connect(addr)
	defer c.Close()
	ctx := context.Background()

	if err := c.Set(ctx, &memcache.Item{Key: "greeting", Value: []byte("hello"), Expiration: memcache.Expire(time.Hour)}); err != nil {
		log.Fatal(err)
	}
	item, err := c.Get(ctx, "greeting")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", item.Value)
	_, err = c.Get(ctx, "nothing")
	fmt.Println(errors.Is(err, memcache.ErrCacheMiss))
	// Output:
	// hello
	// true
}

func ExampleClient_GetMulti() {
	addr, stop := server()
	defer stop()
	c := connect(addr)
	defer c.Close()
	ctx := context.Background()

	for _, k := range []string{"a", "c"} {
		if err := c.Set(ctx, &memcache.Item{Key: k, Value: []byte("value of " + k)}); err != nil {
			log.Fatal(err)
		}
	}
	items, err := c.GetMulti(ctx, []string{"a", "b", "c"})
	if err != nil {
		log.Fatal(err) // in earnest: go on with the items there are
	}
	fmt.Println(len(items), string(items["c"].Value))
	// Output: 2 value of c
}

func ExampleClient_Increment() {
	addr, stop := server()
	defer stop()
	c := connect(addr)
	defer c.Close()
	ctx := context.Background()

	// Add decides who begins, so that nobody's visit is lost.
	if err := c.Add(ctx, &memcache.Item{Key: "visits", Value: []byte("0")}); err != nil && !errors.Is(err, memcache.ErrNotStored) {
		log.Fatal(err)
	}
	for range 3 {
		if _, err := c.Increment(ctx, "visits", 1); err != nil {
			log.Fatal(err)
		}
	}
	n, err := c.Decrement(ctx, "visits", 1)
	fmt.Println(n, err)
	// Output: 2 <nil>
}

func ExampleClient_Update() {
	addr, stop := server()
	defer stop()
	c := connect(addr)
	defer c.Close()

	double := func(old *memcache.Item) (*memcache.Item, error) {
		n := 1
		if old != nil {
			var err error
			if n, err = strconv.Atoi(string(old.Value)); err != nil {
				return nil, err
			}
		}
		return &memcache.Item{Value: []byte(strconv.Itoa(2 * n))}, nil
	}
	for range 3 {
		if err := c.Update(context.Background(), "n", double); err != nil {
			log.Fatal(err)
		}
	}
	item, err := c.Get(context.Background(), "n")
	fmt.Println(string(item.Value), err)
	// Output: 8 <nil>
}

func ExampleWithCompression() {
	addr, stop := server()
	defer stop()
	c := connect(addr, memcache.WithCompression(1024, memcache.Gzip{Level: 1}))
	defer c.Close()
	plain := connect(addr)
	defer plain.Close()
	ctx := context.Background()

	if err := c.Set(ctx, &memcache.Item{Key: "page", Value: make([]byte, 100000)}); err != nil {
		log.Fatal(err)
	}
	whole, err := c.Get(ctx, "page")
	if err != nil {
		log.Fatal(err)
	}
	stored, err := plain.Get(ctx, "page")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(whole.Value), len(stored.Value) < 1000)
	// Output: 100000 true
}

func ExampleRing() {
	servers, err := memcache.ParseServers("10.0.0.1", "10.0.0.2", "10.0.0.3/?2")
	if err != nil {
		log.Fatal(err)
	}
	ring, err := memcache.NewRing(servers, memcache.KetamaWeighted)
	if err != nil {
		log.Fatal(err)
	}
	counts := make([]int, len(servers))
	for i := range 10000 {
		counts[ring.Place(fmt.Sprintf("key:%d", i))]++
	}
	fmt.Println(counts[2] > counts[0], counts[2] > counts[1])
	// Output: true true
}
