package balancertest

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wheelhouse/internal/freeport"
)

// Perlbal starts Debian's perlbal on n ports of its own, with the configuration that conf makes of their addresses, which it returns. It serves the
// last of them when Perlbal returns, and ends with the test.
func Perlbal(t testing.TB, n int, conf func(addrs []string) string) []string {
	t.Helper()
	addrs := make([]string, n)
	for i := range addrs {
		addrs[i] = freeport.ForTest(t)
	}
	file := filepath.Join(t.TempDir(), "perlbal.conf")
	if err := os.WriteFile(file, []byte(conf(addrs)), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command("perlbal", "--config", file)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it was killed, or has said why it ends
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	Eventually(t, "perlbal serves", func() bool {
		select {
		case <-ended:
			t.Fatalf("perlbal has ended: %s", &out)
		default:
		}
		nc, err := net.Dial("tcp", addrs[n-1])
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	return addrs
}

// Client takes answers as they are: neither uncompressed nor redirected.
var Client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Ask sends a request with [Client], and returns the response with its body, which is closed. fields are "Name: value".
func Ask(t testing.TB, method, url string, in io.Reader, fields ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, in)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Add(name, value)
	}
	res, err := Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}
