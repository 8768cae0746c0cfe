package http1_test

import (
	"context"
	"fmt"
	"io"
	"net"

	"wheelhouse/internal/http1"
)

func Example() {
	s := http1.NewServer(http1.HandlerFunc(func(x http1.Exchange) {
		x.Header().Set("Content-Type", "text/plain")
		x.Reply(200, append([]byte("you asked for "), x.Request().Path...))
	}), http1.Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error)
	go func() { done <- s.Serve(ln) }()

	ctx := context.Background()
	c := http1.NewClient(http1.ClientOptions{})
	res, err := c.Do(ctx, &http1.OutRequest{Method: "GET", Addr: ln.Addr().String(), Target: "/a"})
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := io.ReadAll(res.Body)
	fmt.Println(res.Status, res.Header.Get("content-type"), string(b), err)
	res.Body.Close()
	c.Close()

	fmt.Println(s.Shutdown(ctx))
	fmt.Println(<-done)
	// Output:
	// 200 text/plain you asked for /a <nil>
	// <nil>
	// http1: server closed
}
