package storaged

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// Remote is a storage of another process, over HTTP. Safe for concurrent use.
type Remote struct {
	http   *http1.Client
	addr   string // host:port
	prefix string // path of the storage, /dev3
	secret Secret
	now    func() time.Time
	clock  *peerClock
}

var _ store.Device = (*Remote)(nil)

// NewRemote makes the device at a storage's URI, http://host:port/dev3. client is shared between devices and not closed.
func NewRemote(client *http1.Client, uri string, secret Secret) (*Remote, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("storage URI %q: want http://HOST:PORT/PATH", uri)
	}
	addr := u.Host
	if u.Port() == "" {
		addr += ":80"
	}
	return &Remote{http: client, addr: addr, prefix: strings.TrimRight(u.EscapedPath(), "/"), secret: secret, now: time.Now, clock: &peerClock{}}, nil
}

func (r *Remote) request(method, path string) *http1.OutRequest {
	target := r.prefix + "/" + path
	q := &http1.OutRequest{Method: method, Addr: r.addr, Host: r.addr, Target: target, Idempotent: true}
	if len(r.secret) > 0 {
		q.Header.Set("Authorization", r.secret.Authorization(method, target, r.clock.time(r.now())))
	}
	return q
}

// maxErrorText is how much of an answer's body goes into an error.
const maxErrorText = 512

// do sends a request and returns the answer if its status is one of ok. The caller closes its body.
func (r *Remote) do(ctx context.Context, q *http1.OutRequest, ok ...int) (*http1.Response, error) {
	resp, err := r.http.Do(ctx, q)
	if err == nil && resp.Status == http.StatusForbidden && r.clock.learn(r.secret, q.Header.Get("Authorization"), &resp.Header, r.now()) && q.BodyReader == nil {
		finish(resp)
		q.Header.Set("Authorization", r.secret.Authorization(q.Method, q.Target, r.clock.time(r.now())))
		resp, err = r.http.Do(ctx, q)
	}
	if err != nil {
		return nil, fmt.Errorf("%s http://%s%s: %w", q.Method, r.addr, q.Target, err)
	}
	for _, status := range ok {
		if resp.Status == status {
			return resp, nil
		}
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorText)) // what could be read of it is enough
	return nil, fmt.Errorf("%s http://%s%s: %w", q.Method, r.addr, q.Target, remoteError(resp, strings.TrimSpace(string(text))))
}

func remoteError(resp *http1.Response, text string) error {
	code := resp.Header.Get(headerError)
	for _, s := range statuses {
		if code == s.code || code == "" && s.err == store.ErrNoEntity && resp.Status == http.StatusNotFound {
			return fmt.Errorf("%w (%s)", s.err, text)
		}
	}
	return fmt.Errorf("answered %d: %s", resp.Status, text)
}

// finish reads an answer that has nothing to say, so that its connection can be used again.
func finish(resp *http1.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
}

func (r *Remote) putRequest(info *store.EntityInfo) (*http1.OutRequest, error) {
	if info.ID == 0 {
		return nil, errors.New("store entity: object id 0")
	}
	q := r.request("PUT", store.EntityPath(info.ID))
	if info.ContentType != "" {
		q.Header.Set("Content-Type", info.ContentType)
	}
	q.Header.Set(headerTimestamp, strconv.FormatInt(info.Created.Unix(), 10))
	if info.Bucket != "" {
		q.Header.Set(headerName, store.ObjectPath(info.Bucket, info.Name))
	}
	if info.ETag != ([16]byte{}) {
		q.Header.Set(headerETag, `"`+hex.EncodeToString(info.ETag[:])+`"`)
	}
	return q, nil
}

// Put stores a small entity.
func (r *Remote) Put(ctx context.Context, info store.EntityInfo, data []byte) error {
	q, err := r.putRequest(&info)
	if err != nil {
		return err
	}
	q.Body, q.Size = data, int64(len(data))
	resp, err := r.do(ctx, q, http.StatusCreated)
	if err != nil {
		return err
	}
	finish(resp)
	return nil
}

// Create begins an entity that is streamed. The body goes in chunks even where its size is known, so that it is not
// complete, and nothing is stored, before Commit.
func (r *Remote) Create(ctx context.Context, info store.EntityInfo) (store.EntityWriter, error) {
	q, err := r.putRequest(&info)
	if err != nil {
		return nil, err
	}
	pr, pw := io.Pipe()
	q.BodyReader, q.Size, q.Idempotent = pr, -1, false
	if info.Size >= 0 {
		q.Header.Set(headerSize, strconv.FormatInt(info.Size, 10))
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &remoteWriter{pipe: pw, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		resp, err := r.do(ctx, q, http.StatusCreated)
		if err == nil {
			w.etag = resp.Header.Get(headerETag)
			finish(resp)
		}
		w.err = err
		_ = pr.CloseWithError(errors.Join(errAnswered, err)) // a writer that is still at it is told why it cannot go on
	}()
	return w, nil
}

var errAnswered = errors.New("the storage answered before the end of the entity")

// remoteWriter is an upload in a goroutine of its own. done is closed when the storage has answered.
type remoteWriter struct {
	pipe   *io.PipeWriter
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid once done is closed
	etag   string
}

func (w *remoteWriter) Write(p []byte) (int, error) { return w.pipe.Write(p) }

// Commit ends the body and waits for the storage to have it durable.
func (w *remoteWriter) Commit(ctx context.Context, etag [16]byte) error {
	defer w.cancel()
	_ = w.pipe.Close()
	select {
	case <-w.done:
	case <-ctx.Done():
		w.cancel()
		<-w.done
	}
	if w.err != nil {
		return w.err
	}
	if want := `"` + hex.EncodeToString(etag[:]) + `"`; w.etag != want {
		return fmt.Errorf("%w: the storage received content with MD5 %s; %s was sent", store.ErrCorrupt, w.etag, want)
	}
	return nil
}

// Abort breaks the request off, so that the storage drops what it has of it.
func (w *remoteWriter) Abort() {
	_ = w.pipe.CloseWithError(context.Canceled)
	w.cancel()
	<-w.done
}

// Get reads a whole entity.
func (r *Remote) Get(ctx context.Context, id store.ObjectID, size int64, buf []byte) ([]byte, error) {
	resp, err := r.do(ctx, r.request("GET", store.EntityPath(id)), http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.ContentLength != size {
		return nil, fmt.Errorf("%w: entity %d has %d bytes on http://%s%s; %d were expected", store.ErrCorrupt, id, resp.ContentLength, r.addr, r.prefix, size)
	}
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(resp.Body, buf); err != nil {
		return nil, fmt.Errorf("read entity %d from http://%s%s: %w", id, r.addr, r.prefix, err)
	}
	// To the end, for the connection to be used again.
	_, _ = io.Copy(io.Discard, resp.Body)
	return buf, nil
}

// Open reads a part of an entity.
func (r *Remote) Open(ctx context.Context, id store.ObjectID, off, n int64) (store.EntityReader, error) {
	q := r.request("GET", store.EntityPath(id))
	whole := off == 0 && n < 0
	if !whole && n != 0 {
		spec := "bytes=" + strconv.FormatInt(off, 10) + "-"
		if n > 0 {
			spec += strconv.FormatInt(off+n-1, 10)
		}
		q.Header.Set("Range", spec)
	}
	resp, err := r.do(ctx, q, http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	if err != nil {
		return nil, err
	}
	if resp.Status == http.StatusRequestedRangeNotSatisfiable && resp.Header.Get("Content-Range") == "bytes */"+strconv.FormatInt(off, 10) {
		finish(resp)
		return emptyReader{}, nil // from the very end on there is nothing
	}
	if n == 0 {
		_ = resp.Body.Close()
		return emptyReader{}, nil
	}
	if !whole && resp.Status != http.StatusPartialContent {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: entity %d on http://%s%s has no bytes %d to %d", store.ErrCorrupt, id, r.addr, r.prefix, off, off+n)
	}
	return &remoteReader{resp.Body}, nil
}

type remoteReader struct{ body *http1.Body }

func (r *remoteReader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if err != nil && err != io.EOF {
		err = &store.ReadError{Err: err}
	}
	return n, err
}

// WriteTo hands the connection to w, which splices where it can.
func (r *remoteReader) WriteTo(w io.Writer) (int64, error) {
	n, err := r.body.WriteTo(w)
	if e, ok := errors.AsType[*http1.BodyReadError](err); ok {
		err = &store.ReadError{Err: e}
	}
	return n, err
}

// Watch bounds how slow the node may be (see [http1.Body.Watch]).
func (r *remoteReader) Watch(silence time.Duration, f func(n int64, waited time.Duration) error) {
	r.body.Watch(silence, f)
}

func (r *remoteReader) Close() error { return r.body.Close() }

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error)         { return 0, io.EOF }
func (emptyReader) WriteTo(io.Writer) (int64, error) { return 0, nil }
func (emptyReader) Close() error                     { return nil }

// Stat asks for an entity's description.
func (r *Remote) Stat(ctx context.Context, id store.ObjectID) (store.EntityInfo, error) {
	resp, err := r.do(ctx, r.request("HEAD", store.EntityPath(id)), http.StatusOK)
	if err != nil {
		return store.EntityInfo{}, err
	}
	defer resp.Body.Close()
	info := store.EntityInfo{ID: id, Size: resp.ContentLength, ContentType: resp.Header.Get("Content-Type")}
	if v := resp.Header.Get(headerName); v != "" {
		if info.Bucket, info.Name, err = parseName(v); err != nil {
			return info, err
		}
	}
	if v := resp.Header.Get(headerETag); len(v) == 34 {
		if _, err := hex.Decode(info.ETag[:], []byte(v[1:33])); err != nil {
			return info, fmt.Errorf("stat entity %d: bad ETag %q", id, v)
		}
	}
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		info.Created = t
	}
	if s, err := strconv.ParseInt(resp.Header.Get(headerStored), 10, 64); err == nil {
		info.Stored = time.Unix(s, 0)
	}
	return info, nil
}

// maxDelete is how many ids go into one request: safely below the node's limit on its body.
const maxDelete = 10_000

// Delete removes entities.
func (r *Remote) Delete(ctx context.Context, ids []store.ObjectID) error {
	for len(ids) > 0 {
		n := min(len(ids), maxDelete)
		var b bytes.Buffer
		for _, id := range ids[:n] {
			fmt.Fprintf(&b, "%d\n", id)
		}
		ids = ids[n:]
		q := r.request("POST", "delete")
		q.Body, q.Size = b.Bytes(), int64(b.Len())
		resp, err := r.do(ctx, q, http.StatusNoContent)
		if err != nil {
			return err
		}
		finish(resp)
	}
	return nil
}

// Manifest lists entities.
func (r *Remote) Manifest(ctx context.Context, from, to store.ObjectID, limit int) ([]store.ManifestEntry, error) {
	resp, err := r.do(ctx, r.request("GET", fmt.Sprintf("manifest?from=%d&to=%d&limit=%d", from, to, limit)), http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	const longestLine = 80
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest*longestLine))
	if err != nil {
		return nil, fmt.Errorf("read manifest of http://%s%s: %w", r.addr, r.prefix, err)
	}
	return parseManifest(body, "http://"+r.addr+r.prefix)
}

// parseManifest reads the lines in which a node lists entities: id, size, checksum, and when it was stored. from is for errors.
func parseManifest(body []byte, from string) ([]store.ManifestEntry, error) {
	var entries []store.ManifestEntry
	for line := range strings.Lines(string(body)) {
		var e store.ManifestEntry
		var stored int64
		if _, err := fmt.Sscanf(line, "%d %d %x %d", &e.ID, &e.Size, &e.CRC, &stored); err != nil {
			return nil, fmt.Errorf("manifest of %s: bad line %q", from, line)
		}
		e.Stored = time.Unix(stored, 0)
		entries = append(entries, e)
	}
	return entries, nil
}

// Digest summarises a range of ids.
func (r *Remote) Digest(ctx context.Context, from, to store.ObjectID) (d store.RangeDigest, err error) {
	err = r.getJSON(ctx, fmt.Sprintf("digest?from=%d&to=%d", from, to), &d)
	return d, err
}

// Usage reports space.
func (r *Remote) Usage(ctx context.Context) (u store.Usage, err error) {
	err = r.getJSON(ctx, "usage", &u)
	return u, err
}

func (r *Remote) getJSON(ctx context.Context, path string, v any) error {
	q := r.request("GET", path)
	q.Header.Set("Accept", "application/json")
	resp, err := r.do(ctx, q, http.StatusOK)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(v); err != nil {
		return fmt.Errorf("read http://%s%s/%s: %w", r.addr, r.prefix, path, err)
	}
	return nil
}
