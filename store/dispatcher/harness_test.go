package dispatcher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/internal/faultfs"
	"wheelhouse/internal/http1"
	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/disk"
	"wheelhouse/store/dispatcher"
)

// testStore is a whole store in this process: a real catalog, real disks, and the dispatcher behind a real socket.
type testStore struct {
	t       *testing.T
	url     string
	path    string // of the catalog
	cat     *catalog.SQLite
	devices map[store.StorageID]*faultyDevice
	d       *dispatcher.Dispatcher
	key     store.AccessKey
	http    *http.Client
	local   bool
	inside  bool
}

// setup changes what newStore makes.
type setup struct {
	clusters int // of three storages each; 0: one
	auth     dispatcher.Auth
	options  dispatcher.Options
	cached   bool // look-ups from memory, as in up
	powered  bool // the disks' power can be cut
	local    bool // the disks are this process's own, and never fail
	inside   bool // they seem to be this process's own, and can be told to fail
}

func newStore(t *testing.T, s setup) *testStore {
	t.Helper()
	ctx := t.Context()
	age := time.Nanosecond // changes of the topology are seen at once
	if s.cached {
		age = time.Hour
	}
	path := filepath.Join(t.TempDir(), "catalog.db")
	cat, err := catalog.OpenSQLite(ctx, path, catalog.Options{TopologyAge: age})
	if err != nil {
		t.Fatal(err)
	}
	ts := &testStore{t: t, path: path, cat: cat, devices: map[store.StorageID]*faultyDevice{}, http: &http.Client{Transport: &http.Transport{}}, local: s.local, inside: s.inside}
	for range max(1, s.clusters) {
		cluster, err := cat.PutCluster(ctx, store.Cluster{Name: "c"})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			ts.addStorage(cluster, s.powered)
		}
	}
	ts.key = ts.account("root", store.RoleAdmin)
	auth := dispatcher.NewAuthenticator(s.auth, cat, time.Now)
	var front dispatcher.Catalog = cat
	if s.cached {
		front = catalog.Cached(cat, 1<<20)
	}
	ts.d = dispatcher.New(front, ts, auth, s.options)
	runCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { _ = ts.d.Run(runCtx) })
	srv := http1.NewServer(ts.d, http1.Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() { _ = srv.Serve(ln) })
	ts.url = "http://" + ln.Addr().String()
	t.Cleanup(func() {
		ts.http.CloseIdleConnections()
		for _, dev := range ts.devices {
			dev.set(fault{}) // what hangs must end
		}
		_ = srv.Close()
		stop()
		running.Wait()
		for _, dev := range ts.devices {
			_ = dev.Device.(*disk.Disk).Close()
		}
		_ = cat.Close()
	})
	return ts
}

func (ts *testStore) addStorage(cluster store.ClusterID, powered bool) {
	ts.t.Helper()
	id, err := ts.cat.PutStorage(ts.t.Context(), store.Storage{Cluster: cluster, URI: fmt.Sprintf("http://10.0.0.1:7500/dev%d", len(ts.devices)+1)})
	if err != nil {
		ts.t.Fatal(err)
	}
	dev := &faultyDevice{dir: ts.t.TempDir(), options: disk.Options{StorageID: id, MinFree: -1}}
	if powered {
		dev.power = faultfs.NewPowerCut(ts.t.TempDir(), -1)
		dev.options.FS = dev.power
	}
	if dev.Device, err = disk.Open(dev.dir, dev.options); err != nil {
		ts.t.Fatal(err)
	}
	ts.devices[id] = dev
}

// account makes an account with a key.
func (ts *testStore) account(name string, role store.Role) store.AccessKey {
	ts.t.Helper()
	a, err := ts.cat.CreateAccount(ts.t.Context(), store.Account{Name: name, Role: role})
	if err != nil {
		ts.t.Fatal(err)
	}
	k := store.AccessKey{ID: "KEY" + name, Secret: "secret-of-" + name, Account: a.ID}
	if err := ts.cat.PutKey(ts.t.Context(), k); err != nil {
		ts.t.Fatal(err)
	}
	return k
}

func (ts *testStore) Device(s *store.Storage) store.Device {
	if ts.local {
		return ts.devices[s.ID].Device
	}
	if ts.inside {
		return insideDevice{ts.devices[s.ID]}
	}
	return ts.devices[s.ID]
}

// insideDevice is a device as a disk of this process is one.
type insideDevice struct{ *faultyDevice }

func (d insideDevice) PutAsync(info store.EntityInfo, data []byte, done func(error)) {
	go func() { done(d.Put(context.Background(), info, data)) }()
}

func (ts *testStore) URL(s *store.Storage, id store.ObjectID, expires time.Time) string {
	return s.URI + "/" + store.EntityPath(id)
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// do makes a request as root. headers are "Name: value".
func (ts *testStore) do(method, path string, body io.Reader, headers ...string) answer {
	ts.t.Helper()
	return ts.as(ts.key, method, path, body, headers...)
}

func (ts *testStore) as(key store.AccessKey, method, path string, body io.Reader, headers ...string) answer {
	ts.t.Helper()
	req, err := http.NewRequestWithContext(ts.t.Context(), method, ts.url+path, body)
	if err != nil {
		ts.t.Fatal(err)
	}
	if key.ID != "" {
		req.SetBasicAuth(key.ID, key.Secret)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := ts.http.Do(req)
	if err != nil {
		ts.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		ts.t.Fatalf("%s %s: read: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// want makes a request and demands a status.
func (ts *testStore) want(status int, method, path, body string, headers ...string) answer {
	ts.t.Helper()
	a := ts.do(method, path, strings.NewReader(body), headers...)
	if a.status != status {
		ts.t.Fatalf("%s %s %q = %d %q; want %d", method, path, headers, a.status, a.body, status)
	}
	return a
}

func (ts *testStore) bucket(name string, headers ...string) {
	ts.t.Helper()
	ts.want(201, "PUT", "/"+name, "", headers...)
}

// fault is what a device does instead of its work.
type fault struct {
	err       error         // fail at once
	hang      chan struct{} // wait until it is closed
	hangRead  chan struct{} // the same, for reads alone
	readBytes int64         // give so many bytes, then fail; 0: all
	corrupt   bool          // fail reads with ErrCorrupt
	failWrite int64         // fail a streamed write after so many bytes; 0: none
	once      bool          // fail one streamed write, and be well from then on
	failPut   bool          // fail writes alone
	full      bool          // refuse writes for want of space
}

// faultyDevice is a real device that can be told to fail.
type faultyDevice struct {
	store.Device
	dir      string
	options  disk.Options
	power    *faultfs.PowerCut // nil: always on
	reopened bool

	mu    sync.Mutex // guards what follows
	f     fault
	delay time.Duration // of reads
	n     int           // requests
}

// count is how many requests it has had.
func (d *faultyDevice) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

var errInjected = errors.New("injected failure")

func (d *faultyDevice) set(f fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.f.hang != nil && d.f.hang != f.hang {
		close(d.f.hang)
	}
	if d.f.hangRead != nil && d.f.hangRead != f.hangRead {
		close(d.f.hangRead)
	}
	d.f = f
}

func (d *faultyDevice) get() fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.f
}

func (d *faultyDevice) before(write bool) error {
	d.mu.Lock()
	f, delay := d.f, d.delay
	d.n++
	d.mu.Unlock()
	if !write && delay > 0 {
		<-time.After(delay)
	}
	if f.hang != nil {
		<-f.hang
	}
	if write && f.full {
		return store.ErrFull
	}
	if f.hangRead != nil && !write {
		<-f.hangRead
	}
	if write && f.failPut {
		return errInjected
	}
	return f.err
}

func (d *faultyDevice) Put(ctx context.Context, info store.EntityInfo, data []byte) error {
	if err := d.before(true); err != nil {
		return err
	}
	return d.Device.Put(ctx, info, data)
}

// Probe fails when the device does, and never touches the disk.
func (d *faultyDevice) Probe(context.Context) error {
	f := d.get()
	if f.hang != nil {
		<-f.hang
	}
	return f.err
}

func (d *faultyDevice) Create(ctx context.Context, info store.EntityInfo) (store.EntityWriter, error) {
	if f := d.get(); f.err != nil || f.failPut {
		return nil, errInjected
	} else if f.full {
		return nil, store.ErrFull
	}
	w, err := d.Device.Create(ctx, info)
	return &faultyWriter{EntityWriter: w, d: d}, err
}

type faultyWriter struct {
	store.EntityWriter
	d *faultyDevice
	n int64
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	w.n += int64(len(p))
	f := w.d.get()
	if f.hang != nil {
		<-f.hang
	}
	if f.failWrite > 0 && w.n > f.failWrite {
		if f.once {
			w.d.set(fault{})
		}
		return 0, errInjected
	}
	return w.EntityWriter.Write(p)
}

func (d *faultyDevice) Get(ctx context.Context, id store.ObjectID, size int64, buf []byte) ([]byte, error) {
	if err := d.before(false); err != nil {
		return nil, err
	}
	if d.get().corrupt {
		return nil, fmt.Errorf("entity %d: %w", id, store.ErrCorrupt)
	}
	return d.Device.Get(ctx, id, size, buf)
}

func (d *faultyDevice) Open(ctx context.Context, id store.ObjectID, off, n int64) (store.EntityReader, error) {
	if err := d.before(false); err != nil {
		return nil, err
	}
	r, err := d.Device.Open(ctx, id, off, n)
	if f := d.get(); err == nil && (f.readBytes > 0 || f.corrupt) {
		return &faultyReader{r, f.readBytes}, nil
	}
	return r, err
}

// faultyReader breaks off after some bytes.
type faultyReader struct {
	store.EntityReader
	left int64
}

func (r *faultyReader) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	if _, err := r.EntityReader.WriteTo(&b); err != nil {
		return 0, err
	}
	n, err := w.Write(b.Bytes()[:min(int64(b.Len()), r.left)])
	if err != nil {
		return int64(n), err
	}
	return int64(n), &store.ReadError{Err: fmt.Errorf("%w: %w", store.ErrCorrupt, errInjected)}
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
