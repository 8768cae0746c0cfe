package storaged

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// remoteBulk is a storage of another process as [store.Bulk] wants it.
type remoteBulk struct{ *Remote }

var _ store.Bulk = remoteBulk{}

// Bulk shows the storage to those who work on all of it. Its client should be one that waits long for answers.
func (r *Remote) Bulk() store.Bulk { return remoteBulk{r} }

// maxDigests bounds an answer with digests, in bytes: a thousand million ids or so.
const maxDigests = 64 << 20

func (r remoteBulk) Packs(ctx context.Context) (list []store.PackInfo, err error) {
	resp, err := r.do(ctx, r.request("GET", "packs"), http.StatusOK)
	if err != nil {
		return nil, err
	}
	return list, r.decode(resp, "packs", maxDigests, &list)
}

func (r remoteBulk) decode(resp *http1.Response, path string, most int64, v any) error {
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, most)).Decode(v); err != nil {
		return fmt.Errorf("read http://%s%s/%s: %w", r.addr, r.prefix, path, err)
	}
	return nil
}

func packPath(name string, uid uint64) string {
	return "packs/" + url.PathEscape(name) + "?uid=" + strconv.FormatUint(uid, 16)
}

func (r remoteBulk) OpenPack(ctx context.Context, name string, uid uint64, off int64) (io.ReadCloser, error) {
	resp, err := r.do(ctx, r.request("GET", packPath(name, uid)+"&off="+strconv.FormatInt(off, 10)), http.StatusOK)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (r remoteBulk) DeleteLog(ctx context.Context, name string, uid uint64) ([]byte, error) {
	resp, err := r.do(ctx, r.request("GET", packPath(name, uid)+"&log=1"), http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, maxDeleteLog))
}

func (r remoteBulk) Files(ctx context.Context, from store.ObjectID, limit int) ([]store.ManifestEntry, error) {
	return r.entries(ctx, r.request("GET", fmt.Sprintf("bulk/files?from=%d&limit=%d", from, limit)))
}

// entries sends a request that is answered by a manifest.
func (r remoteBulk) entries(ctx context.Context, q *http1.OutRequest) ([]store.ManifestEntry, error) {
	resp, err := r.do(ctx, q, http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDigests))
	if err != nil {
		return nil, fmt.Errorf("read http://%s%s: %w", r.addr, q.Target, err)
	}
	return parseManifest(body, "http://"+r.addr+q.Target)
}

func adoptPath(uid uint64) string { return "adopt/" + strconv.FormatUint(uid, 16) }

func (r remoteBulk) Adopting(ctx context.Context, uid uint64) (a store.Adoption, err error) {
	return a, r.getJSON(ctx, adoptPath(uid), &a)
}

func (r remoteBulk) AppendPack(ctx context.Context, uid uint64, off int64, src io.Reader) (int64, error) {
	q := r.request("PUT", adoptPath(uid)+"?off="+strconv.FormatInt(off, 10))
	q.BodyReader, q.Size, q.Idempotent = src, -1, false
	resp, err := r.do(ctx, q, http.StatusOK)
	if err != nil {
		return 0, err
	}
	var a store.Adoption
	err = r.decode(resp, "adopt", 1<<10, &a)
	return a.Size - off, err
}

func (r remoteBulk) FinishPack(ctx context.Context, uid uint64, size int64, log []byte) (a store.Adoption, err error) {
	q := r.request("POST", adoptPath(uid)+"?size="+strconv.FormatInt(size, 10))
	q.Body, q.Size = log, int64(len(log))
	resp, err := r.do(ctx, q, http.StatusOK)
	if err != nil {
		return a, err
	}
	return a, r.decode(resp, "adopt", 1<<10, &a)
}

func (r remoteBulk) BlockDigests(ctx context.Context, from, to store.ObjectID) ([]store.BlockDigest, error) {
	resp, err := r.do(ctx, r.request("GET", fmt.Sprintf("blocks?from=%d&to=%d", from, to)), http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDigests))
	if err != nil {
		return nil, fmt.Errorf("read digests of http://%s%s: %w", r.addr, r.prefix, err)
	}
	var list []store.BlockDigest
	for line := range strings.Lines(string(body)) {
		var d store.BlockDigest
		if _, err := fmt.Sscanf(line, "%d %d %d %x %x", &d.Block, &d.Count, &d.Bytes, &d.Size, &d.CRC); err != nil {
			return nil, fmt.Errorf("digests of http://%s%s: bad line %q", r.addr, r.prefix, line)
		}
		list = append(list, d)
	}
	return list, nil
}

func (r remoteBulk) Entities(ctx context.Context, ids []store.ObjectID) ([]store.ManifestEntry, error) {
	var b bytes.Buffer
	for _, id := range ids {
		fmt.Fprintf(&b, "%d\n", id)
	}
	q := r.request("POST", "entities")
	q.Body, q.Size = b.Bytes(), int64(b.Len())
	return r.entries(ctx, q)
}

func (r remoteBulk) Scrub(ctx context.Context, cursor string, most int64) (part store.ScrubPart, err error) {
	resp, err := r.do(ctx, r.request("POST", "scrub?cursor="+url.QueryEscape(cursor)+"&most="+strconv.FormatInt(most, 10)), http.StatusOK)
	if err != nil {
		return part, err
	}
	return part, r.decode(resp, "scrub", maxDigests, &part)
}
