package storaged

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"wheelhouse/internal/byterange"
	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// The headers in which an entity's description travels.
const (
	headerTimestamp = "X-STF-Object-Timestamp" // the object's time of creation, unix seconds: STF's name for it
	headerName      = "X-Wheelhouse-Name"      // its path, percent-encoded: /bucket/name
	headerStored    = "X-Wheelhouse-Stored"    // when this storage made the entity durable, unix seconds
	headerSize      = "X-Wheelhouse-Size"      // its length in bytes, where the body comes in chunks
	headerETag      = "ETag"                   // MD5 of the content in hex, quoted
)

// read answers GET and HEAD of an entity. The bytes have been verified when they leave.
func (n *Node) read(x http1.Exchange, d *Disk, id store.ObjectID) {
	info, err := d.Device.Stat(x.Context(), id)
	if err != nil {
		n.fail(x, err)
		return
	}
	r, h := x.Request(), x.Header()
	describe(h, &info)
	if since := r.Header.Get("If-Modified-Since"); since != "" {
		if when, err := http.ParseTime(since); err == nil && info.Created.Unix() <= when.Unix() {
			_ = x.Reply(http.StatusNotModified, nil)
			return
		}
	}
	if r.Method == "HEAD" {
		_ = x.Start(http.StatusOK, info.Size)
		return
	}
	off, size, status := int64(0), info.Size, http.StatusOK
	switch part, kind := byterange.Single(r.Header.Get("Range"), info.Size); kind { // any other is ignored (RFC 9110 §14.2)
	case byterange.Outside:
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(info.Size, 10))
		refuse(x, http.StatusRequestedRangeNotSatisfiable, "the entity has %d bytes", info.Size)
		return
	case byterange.Part:
		off, size, status = part.Off, part.N, http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.Off, part.Last(), info.Size))
	}
	n.send(x, d, id, off, size, status)
}

func (n *Node) send(x http1.Exchange, d *Disk, id store.ObjectID, off, size int64, status int) {
	if size == 0 {
		_ = x.Reply(status, nil)
		return
	}
	body, err := d.Device.Open(x.Context(), id, off, size)
	if err != nil {
		n.fail(x, err)
		return
	}
	defer body.Close()
	if v, ok := body.(verifier); ok { // while it can still be told apart from a connection that broke
		if err := v.Verify(); err != nil {
			n.fail(x, err)
			return
		}
	}
	if err := x.Start(status, size); err != nil {
		return
	}
	sent, err := body.WriteTo(x)
	n.metrics.BytesOut.Add(sent)
	if err != nil {
		if store.IsReadError(err) {
			n.opt.Log.Error("an entity broke off", "object", uint64(id), "storage", uint32(d.ID), "err", err)
		}
		x.Abort() // so that whoever asked sees that bytes are missing, and asks a sibling
	}
}

// verifier is a reader that can tell beforehand what is wrong with the bytes that it gives first.
type verifier interface{ Verify() error }

func describe(h *http1.Header, info *store.EntityInfo) {
	if info.ContentType != "" {
		h.Set("Content-Type", info.ContentType)
	}
	h.Set("Last-Modified", info.Created.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	if info.ETag != ([16]byte{}) {
		h.Set(headerETag, `"`+hex.EncodeToString(info.ETag[:])+`"`)
	}
	if info.Bucket != "" {
		h.Set(headerName, store.ObjectPath(info.Bucket, info.Name))
	}
	h.Set(headerStored, strconv.FormatInt(info.Stored.Unix(), 10))
}

// write answers PUT of an entity: 201 when it is durable.
func (n *Node) write(x http1.Exchange, d *Disk, id store.ObjectID) {
	info, wantMD5, err := parseInfo(x.Request(), id, n.opt.Now())
	if err != nil {
		refuse(x, http.StatusBadRequest, "%v", err)
		return
	}
	known := info.ETag != ([16]byte{})
	w, err := d.Device.Create(x.Context(), info)
	if err != nil {
		n.fail(x, err)
		return
	}
	defer w.Abort()
	hash := md5.New()
	var sum io.Writer = hash
	if known && wantMD5 == nil {
		sum = io.Discard // the sender has computed it, and the storage keeps checksums of its own
	}
	size, err := copyBody(w, sum, x.Body())
	n.metrics.BytesIn.Add(size)
	if err != nil {
		n.fail(x, err)
		return
	}
	if info.Size >= 0 && size != info.Size {
		refuse(x, http.StatusBadRequest, "the body has %d bytes; %d were announced", size, info.Size)
		return
	}
	etag := info.ETag
	if sum == hash {
		hash.Sum(etag[:0])
		if wantMD5 != nil && string(wantMD5) != string(etag[:]) {
			refuse(x, http.StatusBadRequest, "Content-MD5 mismatch: the body's is %s", base64.StdEncoding.EncodeToString(etag[:]))
			return
		}
	}
	if err := w.Commit(x.Context(), etag); err != nil {
		n.fail(x, err)
		return
	}
	x.Header().Set(headerETag, `"`+hex.EncodeToString(etag[:])+`"`)
	_ = x.Reply(http.StatusCreated, nil)
}

func copyBody(w, sum io.Writer, r io.Reader) (int64, error) {
	buf := make([]byte, 64<<10)
	var total int64
	for {
		n, err := r.Read(buf)
		if n > 0 {
			_, _ = sum.Write(buf[:n])
			if _, err := w.Write(buf[:n]); err != nil {
				return total, err
			}
			total += int64(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// parseInfo reads an entity's description from the headers of a PUT. A plain HTTP client sends none of them.
func parseInfo(r *http1.Request, id store.ObjectID, now time.Time) (info store.EntityInfo, wantMD5 []byte, err error) {
	h := &r.Header
	info = store.EntityInfo{ID: id, Size: r.ContentLength, ContentType: h.Get("Content-Type"), Created: now}
	if len(info.ContentType) > store.MaxContentType {
		return info, nil, fmt.Errorf("Content-Type is longer than %d bytes", store.MaxContentType)
	}
	if v := h.Get(headerSize); v != "" && info.Size < 0 {
		if info.Size, err = strconv.ParseInt(v, 10, 64); err != nil || info.Size < 0 {
			return info, nil, fmt.Errorf("%s is not a number of bytes: %q", headerSize, v)
		}
	}
	if v := h.Get(headerTimestamp); v != "" {
		seconds, err := strconv.ParseInt(v, 10, 64)
		if err != nil || seconds < 0 {
			return info, nil, fmt.Errorf("%s is not a number of seconds: %q", headerTimestamp, v)
		}
		info.Created = time.Unix(seconds, 0)
	}
	if v := h.Get(headerName); v != "" {
		if info.Bucket, info.Name, err = parseName(v); err != nil {
			return info, nil, err
		}
	}
	if v := h.Get(headerETag); v != "" {
		if len(v) != 34 || v[0] != '"' || v[33] != '"' {
			return info, nil, fmt.Errorf("%s is not 32 hex digits in quotes: %q", headerETag, v)
		}
		if _, err := hex.Decode(info.ETag[:], []byte(v[1:33])); err != nil {
			return info, nil, fmt.Errorf("%s is not 32 hex digits in quotes: %q", headerETag, v)
		}
	}
	if v := h.Get("Content-MD5"); v != "" {
		wantMD5, err = base64.StdEncoding.DecodeString(v)
		if err != nil || len(wantMD5) != md5.Size {
			return info, nil, fmt.Errorf("Content-MD5 is not 16 bytes in base64: %q", v)
		}
	}
	return info, wantMD5, nil
}

// parseName splits what store.ObjectPath made.
func parseName(v string) (bucket, name string, err error) {
	b, rest, ok := strings.Cut(strings.TrimPrefix(v, "/"), "/")
	if !ok || v[0] != '/' {
		return "", "", fmt.Errorf("%s is not of the form /bucket/name: %q", headerName, v)
	}
	if bucket, err = url.PathUnescape(b); err == nil {
		name, err = url.PathUnescape(rest)
	}
	if err != nil || len(bucket) > store.MaxBucketName || len(name) > store.MaxObjectName {
		return "", "", fmt.Errorf("%s is not a valid name: %q", headerName, v)
	}
	return bucket, name, nil
}
