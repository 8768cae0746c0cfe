package http1

import (
	"net"
	"os"
	"testing"
)

func TestZZSmoke(t *testing.T) {
	if os.Getenv("SMOKE") == "" {
		t.Skip()
	}
	body := make([]byte, 10240)
	for i := range body {
		body[i] = 'x'
	}
	os.WriteFile("/tmp/h1smoke/10k", body, 0644)
	os.WriteFile("/tmp/h1smoke/1m", make([]byte, 1<<20), 0644)
	f10, _ := os.Open("/tmp/h1smoke/10k")
	f1, _ := os.Open("/tmp/h1smoke/1m")
	s := NewServer(HandlerFunc(func(x Exchange) {
		switch string(x.Request().Path) {
		case "/10k":
			x.Start(200, 10240)
			x.SendFile(f10, 0, 10240)
		case "/1m":
			x.Start(200, 1<<20)
			x.SendFile(f1, 0, 1<<20)
		case "/mem":
			x.Header().Set("Content-Type", "text/plain")
			x.Reply(200, body)
		default:
			x.Reply(200, []byte("hello\n"))
		}
	}), Options{})
	ln, _ := net.Listen("tcp", "127.0.0.1:18999")
	t.Log(s.Serve(ln))
}
