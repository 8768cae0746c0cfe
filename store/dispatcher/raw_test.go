package dispatcher_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// raw sends a request whose path net/http would not send as it is.
func raw(t *testing.T, ts *testStore, method, path string) answer {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(ts.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	auth := base64.StdEncoding.EncodeToString([]byte(ts.key.ID + ":" + ts.key.Secret))
	if _, err := io.WriteString(c, method+" "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic "+auth+"\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// boundaries are those of all answers of several parts.
var boundaries sync.Map

func checkMultipart(t *testing.T, a answer, want [][]byte) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" {
		t.Fatalf("Content-Type %q: %v", a.header.Get("Content-Type"), err)
	}
	if _, taken := boundaries.LoadOrStore(params["boundary"], true); taken { // what can be foreseen can be forged by whoever uploads
		t.Errorf("the boundary %q was that of another answer", params["boundary"])
	}
	r := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
	for i, w := range want {
		p, err := r.NextPart()
		if err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		got, err := io.ReadAll(p)
		if err != nil || !bytes.Equal(got, w) {
			t.Errorf("part %d: %d bytes, %v; want %q", i, len(got), err, w)
		}
		if p.Header.Get("Content-Range") == "" || p.Header.Get("Content-Type") == "" {
			t.Errorf("part %d: headers %v", i, p.Header)
		}
	}
	if _, err := r.NextPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
}
