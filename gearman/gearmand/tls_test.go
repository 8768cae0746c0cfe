package gearmand_test

import (
	"crypto/tls"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"wheelhouse/gearman/gearmand"
	"wheelhouse/gearman/gearmantest"
	"wheelhouse/gearman/packet"
)

// serveTLS serves with a certificate of net/http/httptest.
func serveTLS(t *testing.T) (*gearmand.Server, string) {
	web := httptest.NewTLSServer(nil) // for its certificate
	cert := web.TLS.Certificates
	web.Close()
	s, err := gearmand.Open(t.Context(), gearmand.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(tls.NewListener(ln, &tls.Config{Certificates: cert})) })
	t.Cleanup(func() {
		s.Close()
		serving.Wait()
	})
	return s, ln.Addr().String()
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s, addr := serveTLS(t)
	dial := func() *gearmantest.Conn {
		nc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) // the certificate is for another name
		if err != nil {
			t.Fatal(err)
		}
		return gearmantest.New(t, nc)
	}
	c, w := dial(), dial().Worker("f")
	data := strings.Repeat("x", 3<<20)
	for range 3 {
		h := c.Submit(packet.SubmitJob, "f", "", data)
		if got, _ := w.Grab(); got != h {
			t.Fatalf("got %q", got)
		}
		w.Send(packet.WorkComplete, h, data)
		c.Expect(packet.WorkComplete, h, data)
	}
	c.Raw("version\n")
	if l := c.Line(); l != "OK "+gearmand.Version {
		t.Error(l)
	}
	// Who speaks no TLS is sent away, and disturbs nobody.
	gearmantest.Dial(t, addr).Raw("status\n")
	c.Nothing()
	c.Close()
	w.Close()
	eventually(t, "all is given back", func() bool { st := s.Stats(); return st.Memory == 0 && st.Connections == 0 })
}
