package gearman_test

import (
	"context"
	"net"
	"testing"
	"time"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/gearman/gearmantest"
)

func TestWithOurServer(t *testing.T) {
	gearmantest.Client(t, func(t *testing.T) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s, err := gearmand.Open(t.Context(), gearmand.Options{})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := s.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			<-served
		})
		return ln.Addr().String()
	})
}
