package storaged_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
	"wheelhouse/store/disk"
	"wheelhouse/store/storaged"
	"wheelhouse/store/storetest"
)

var secret = storaged.Secret("a secret of the installation")

// node is a storage node behind a real socket, with one disk, dev1.
type node struct {
	addr string
	disk *disk.Disk
}

func startNode(t *testing.T, s storaged.Secret, o disk.Options) *node {
	t.Helper()
	o.StorageID, o.MinFree = 1, -1
	d, err := disk.Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plain := func() (*os.Root, error) { return os.OpenRoot(dir) }
	n, err := storaged.NewNode([]storaged.Disk{{ID: 1, Device: d, Packs: packs{d}, Bulk: d.Bulk(), Plain: plain}}, storaged.Options{Secret: s})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := http1.NewServer(n, http1.Options{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
		_ = d.Close()
	})
	return &node{ln.Addr().String(), d}
}

type packs struct{ d *disk.Disk }

func (p packs) Packs() []storaged.PackInfo {
	var out []storaged.PackInfo
	for _, k := range p.d.Packs() {
		out = append(out, storaged.PackInfo{Name: k.Name, Size: k.Size, Sealed: k.Sealed, MinID: k.MinID, MaxID: k.MaxID, Entities: k.Entities})
	}
	return out
}

func (p packs) Files(ctx context.Context, from store.ObjectID, limit int) ([]store.ManifestEntry, error) {
	return p.d.Files(ctx, from, limit)
}

func (p packs) OpenPack(name string) (storaged.PackReader, error) { return p.d.OpenPack(name) }

func remote(t *testing.T, n *node, s storaged.Secret) *storaged.Remote {
	t.Helper()
	c := http1.NewClient(http1.ClientOptions{})
	t.Cleanup(c.Close)
	r, err := storaged.NewRemote(c, "http://"+n.addr+"/dev1", s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A disk over HTTP is as good as a disk.
func TestRemoteIsADevice(t *testing.T) {
	for _, layout := range []string{disk.LayoutPacks, disk.LayoutFiles} {
		t.Run(layout, func(t *testing.T) {
			storetest.Device(t, func(t *testing.T) store.Device {
				return remote(t, startNode(t, secret, disk.Options{Layout: layout}), secret)
			})
		})
	}
}

func TestRequestsMustBeSigned(t *testing.T) {
	n := startNode(t, secret, disk.Options{})
	ctx := t.Context()
	if err := remote(t, n, secret).Put(ctx, store.EntityInfo{ID: 5, Size: 1, Bucket: "b", Name: "n", Created: time.Now()}, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := remote(t, n, storaged.Secret("another secret, too long to guess")).Stat(ctx, 5); err == nil {
		t.Error("a request with another secret was answered")
	}
	path := "/dev1/" + store.EntityPath(5)
	for _, tt := range []struct {
		name, method, target string
		header               string
		status               int
	}{
		{"unsigned", "GET", path, "", 403},
		{"unsigned PUT", "PUT", path, "", 403},
		{"signed URL", "GET", path + "?" + secret.SignURL(path, time.Now().Add(time.Minute)), "", 200},
		{"HEAD with it", "HEAD", path + "?" + secret.SignURL(path, time.Now().Add(time.Minute)), "", 200},
		{"DELETE with it", "DELETE", path + "?" + secret.SignURL(path, time.Now().Add(time.Minute)), "", 403},
		{"expired", "GET", path + "?" + secret.SignURL(path, time.Now().Add(-time.Minute)), "", 403},
		{"for another path", "GET", path + "?" + secret.SignURL("/dev1/usage", time.Now().Add(time.Minute)), "", 403},
		{"header", "GET", path, secret.Authorization("GET", path, time.Now()), 200},
		{"header of another method", "DELETE", path, secret.Authorization("GET", path, time.Now()), 403},
		{"old header", "GET", path, secret.Authorization("GET", path, time.Now().Add(-time.Hour)), 403},
	} {
		if got, _, body := ask(t, n, tt.method, tt.target, nil, "Authorization: "+tt.header); got != tt.status {
			t.Errorf("%s: %d %q; want %d", tt.name, got, body, tt.status)
		}
	}
	if _, err := storaged.NewNode(nil, storaged.Options{Secret: storaged.Secret("short")}); err == nil {
		t.Error("a short secret was accepted")
	}
}

// ask makes a plain HTTP request, as a client that knows nothing of us would.
func ask(t *testing.T, n *node, method, target string, body []byte, headers ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.addr+target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		if name, value, _ := strings.Cut(h, ": "); value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// What mogstored and STF's storages answer, to a plain client.
func TestPlainProtocol(t *testing.T) {
	n := startNode(t, nil, disk.Options{})
	sum := md5.Sum([]byte("hello"))
	good, bad := base64.StdEncoding.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(make([]byte, 16))
	fid := "/dev1/0/000/000/0000000025.fid"
	for _, step := range []struct {
		method, path, body, header string
		status                     int
		want                       string
	}{
		{"GET", "/", "", "", 200, "/dev1/"},
		{"MKCOL", "/dev1/0/000/", "", "", 201, ""},
		{"PUT", fid, "hello", "Content-MD5: " + bad, 400, "Content-MD5 mismatch"},
		{"GET", fid, "", "", 404, ""},
		{"PUT", fid, "hello", "Content-MD5: " + good, 201, ""},
		{"GET", fid, "", "", 200, "hello"},
		{"GET", fid, "", "Range: bytes=1-3", 206, "ell"},
		{"GET", fid, "", "Range: bytes=-2", 206, "lo"},
		{"GET", fid, "", "Range: bytes=9-", 416, ""},
		{"HEAD", fid, "", "", 200, ""},
		{"PUT", fid, "hullo", "X-STF-Object-Timestamp: 1000000000", 201, ""},
		{"GET", fid, "", "", 200, "hullo"},
		{"GET", fid, "", "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT", 304, ""},
		{"GET", fid, "", "If-Modified-Since: Sun, 09 Sep 2001 01:46:39 GMT", 200, "hullo"},
		{"DELETE", fid, "", "", 204, ""},
		{"DELETE", fid, "", "", 404, ""},
		{"PUT", "/dev1/test-write/test-write-7", "probe", "", 201, ""},
		{"GET", "/dev1/test-write/test-write-7", "", "", 200, "probe"},
		{"PUT", "/dev1/a/b/c/d/abcdefghijabcdefghijabcdefghij.jpg", "stf", "X-STF-Object-Timestamp: 1000000000", 201, ""},
		{"GET", "/dev1/a/b/c/d/abcdefghijabcdefghijabcdefghij.jpg", "", "", 200, "stf"},
		{"GET", "/dev1/a/b/c/d/abcdefghijabcdefghijabcdefghij.jpg", "", "Range: bytes=1-", 206, "tf"},
		{"DELETE", "/dev1/a/b/c/d/abcdefghijabcdefghijabcdefghij.jpg", "", "", 204, ""},
		{"DELETE", "/dev1/a/b/c/d/abcdefghijabcdefghijabcdefghij.jpg", "", "", 404, ""},
		{"GET", "/dev1/a/b", "", "", 404, ""},
		{"GET", "/dev9/" + store.EntityPath(1), "", "", 404, "no device"},
		{"PUT", "/dev1/..%2f..%2fetc%2fpasswd", "x", "", 400, ""},
		{"GET", "/dev1/manifest?from=x", "", "", 400, "from is not an object id"},
		{"PATCH", fid, "", "", 405, ""},
	} {
		status, _, body := ask(t, n, step.method, step.path, []byte(step.body), step.header)
		if status != step.status || !strings.Contains(body, step.want) {
			t.Errorf("%s %s %s = %d %q; want %d %q", step.method, step.path, step.header, status, body, step.status, step.want)
		}
	}
	_, _, usage := ask(t, n, "GET", "/dev1/usage", nil)
	for _, key := range []string{"available: ", "device: ", "disk: ", "time: ", "total: ", "use: ", "used: ", "load: "} {
		if !strings.Contains("\n"+usage, "\n"+key) {
			t.Errorf("usage has no %q:\n%s", key, usage)
		}
	}
	if _, _, text := ask(t, n, "GET", "/dev1/usage", nil, "Accept: application/json"); !strings.Contains(text, `"Capacity":`) || !strings.Contains(text, `"Load":[`) {
		t.Errorf("usage as JSON: %s", text)
	}
}

func TestManifestAndBulk(t *testing.T) {
	n := startNode(t, nil, disk.Options{})
	for id := 1; id <= 5; id++ {
		ask(t, n, "PUT", "/dev1/"+store.EntityPath(store.ObjectID(id)), fmt.Appendf(nil, "body %d", id))
	}
	_, _, text := ask(t, n, "GET", "/dev1/manifest?from=2&to=5&limit=2", nil)
	if lines := strings.Split(strings.TrimSpace(text), "\n"); len(lines) != 2 || !strings.HasPrefix(lines[0], "2 6 ") || !strings.HasPrefix(lines[1], "3 6 ") {
		t.Errorf("manifest:\n%s", text)
	}
	if status, _, body := ask(t, n, "POST", "/dev1/delete", []byte("1\n2\n")); status != 204 {
		t.Errorf("delete = %d %s", status, body)
	}
	if status, _, _ := ask(t, n, "POST", "/dev1/delete", []byte("1\nx\n")); status != 400 {
		t.Errorf("delete of nonsense = %d", status)
	}
	if status, _, text := ask(t, n, "GET", "/dev1/digest?from=0", nil); status != 200 || !strings.Contains(text, `"Count":3`) {
		t.Errorf("digest = %d %s", status, text)
	}
	_, _, list := ask(t, n, "GET", "/dev1/bulk", nil)
	name, _, ok := strings.Cut(strings.SplitAfterN(list, `"name":"`, 2)[1], `"`)
	if !ok {
		t.Fatalf("bulk: %s", list)
	}
	_, h, whole := ask(t, n, "GET", "/dev1/bulk/"+name, nil)
	if len(whole) == 0 || !strings.Contains(whole, "body 4") || h.Get("Content-Type") != "application/x-tar" {
		t.Errorf("pack %s: %d bytes", name, len(whole))
	}
	if status, _, part := ask(t, n, "GET", "/dev1/bulk/"+name, nil, "Range: bytes=512-"); status != 206 || part != whole[512:] {
		t.Errorf("the rest of pack %s: %d, %d bytes", name, status, len(part))
	}
	large := make([]byte, 3<<20)
	for id := store.ObjectID(10); id <= 12; id++ {
		ask(t, n, "PUT", "/dev1/"+store.EntityPath(id), large)
	}
	if _, _, files := ask(t, n, "GET", "/dev1/bulk/files?from=11&limit=5", nil); !strings.HasPrefix(files, "11 3145728 ") || strings.Count(files, "\n") != 2 {
		t.Errorf("files:\n%s", files)
	}
	if status, _, _ := ask(t, n, "GET", "/dev1/bulk/..%2fmarker", nil); status != 404 {
		t.Errorf("bulk of another file = %d", status)
	}
}

// An upload that breaks off leaves nothing, and the storage's own idea of the content is compared with the sender's.
func TestBrokenUpload(t *testing.T) {
	n := startNode(t, secret, disk.Options{})
	r := remote(t, n, secret)
	ctx := t.Context()
	info := store.EntityInfo{ID: 7, Size: -1, Bucket: "b", Name: "n", Created: time.Now()}
	w, err := r.Create(ctx, info)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 3<<20)); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if _, err := r.Stat(ctx, 7); !errors.Is(err, store.ErrNoEntity) {
		t.Errorf("after Abort: %v", err)
	}
	if w, err = r.Create(ctx, info); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("content")); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(ctx, [16]byte{1}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Commit with another MD5: %v", err)
	}
	sum := md5.Sum([]byte("content"))
	if w, err = r.Create(ctx, info); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("content"))
	if err := w.Commit(ctx, sum); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Stat(ctx, 7); err != nil || got.ETag != sum || got.Name != "n" || got.Bucket != "b" {
		t.Errorf("Stat = %+v %s, %v", got, hex.EncodeToString(got.ETag[:]), err)
	}
}

func TestFleet(t *testing.T) {
	n := startNode(t, secret, disk.Options{})
	c := http1.NewClient(http1.ClientOptions{})
	t.Cleanup(c.Close)
	f := storaged.NewFleet(c, secret, map[store.StorageID]store.Device{2: n.disk})
	here := &store.Storage{ID: 2, URI: "http://10.0.0.1/dev2"}
	there := &store.Storage{ID: 1, URI: "http://" + n.addr + "/dev1"}
	if f.Device(here) != store.Device(n.disk) {
		t.Error("a disk of this process is not used directly")
	}
	if f.Device(there) != f.Device(there) {
		t.Error("a device is made anew for each call")
	}
	if err := f.Device(there).Put(t.Context(), store.EntityInfo{ID: 9, Size: 1, Created: time.Now()}, []byte("y")); err != nil {
		t.Fatal(err)
	}
	u := f.URL(there, 9, time.Now().Add(time.Minute))
	resp, err := http.Get(u)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("GET %s: %v, %v", u, resp, err)
	}
	_ = resp.Body.Close()
	bad := f.Device(&store.Storage{ID: 3, URI: "ftp://x"})
	if _, err := bad.Stat(context.Background(), 1); err == nil || !strings.Contains(err.Error(), "storage 3") {
		t.Errorf("a storage with a bad URI: %v", err)
	}
}
