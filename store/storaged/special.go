package storaged

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"wheelhouse/internal/byterange"
	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// usage answers with a disk's space: in the format of mogstored's usage file (mogstored writes it; trackers read it), or as
// JSON.
func (n *Node) usage(x http1.Exchange, d *Disk) {
	u, err := d.Device.Usage(x.Context())
	if err != nil {
		n.fail(x, err)
		return
	}
	load := loadAverages()
	if bytes.Contains(x.Request().Header.Bytes("Accept"), []byte("application/json")) {
		replyJSON(x, struct {
			store.Usage
			Load []float64 // of the machine, over 1, 5 and 15 minutes; null where it is not known
		}{u, load})
		return
	}
	used, percent := u.Capacity-u.Free, int64(0)
	if u.Capacity > 0 {
		percent = (used*100 + u.Capacity - 1) / u.Capacity
	}
	text(x, http.StatusOK, fmt.Sprintf("available: %d\ndevice: %s\ndisk: %s\ntime: %d\ntotal: %d\nuse: %d%%\nused: %d\nload: %s\n",
		u.Free>>10, DeviceName(d.ID), DeviceName(d.ID), n.opt.Now().Unix(), u.Capacity>>10, percent, used>>10,
		strings.Trim(fmt.Sprint(load), "[]")))
}

// loadAverages are those of the machine, over 1, 5 and 15 minutes (proc_loadavg(5)); nil where there are none.
func loadAverages() []float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil
	}
	load := make([]float64, 3)
	if _, err := fmt.Sscan(string(text), &load[0], &load[1], &load[2]); err != nil {
		return nil
	}
	return load
}

const maxManifest = 100_000 // entries in one answer

// idRange reads from and to; to is open-ended when it is not given.
func idRange(q url.Values) (from, to store.ObjectID, err error) {
	to = 1<<64 - 1
	for _, p := range []struct {
		name string
		id   *store.ObjectID
	}{{"from", &from}, {"to", &to}} {
		if v := q.Get(p.name); v != "" {
			id, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("%s is not an object id: %q", p.name, v)
			}
			*p.id = store.ObjectID(id)
		}
	}
	return from, to, nil
}

// manifest answers with the entities in a range of ids, one a line: id, size, crc32c in hex, time stored.
func (n *Node) manifest(x http1.Exchange, d *Disk) {
	q, from, to, err := rangeQuery(x)
	if err == nil {
		var limit int
		if limit, err = parseLimit(q); err == nil {
			entries, err := d.Device.Manifest(x.Context(), from, to, limit)
			n.sendEntries(x, entries, err)
			return
		}
	}
	refuse(x, http.StatusBadRequest, "%v", err)
}

// files answers with the entities that are files of their own, in the form of a manifest; each is fetched by its path.
func (n *Node) files(x http1.Exchange, d *Disk) {
	q, from, _, err := rangeQuery(x)
	if err == nil {
		var limit int
		if limit, err = parseLimit(q); err == nil {
			entries, err := d.Packs.Files(x.Context(), from, limit)
			n.sendEntries(x, entries, err)
			return
		}
	}
	refuse(x, http.StatusBadRequest, "%v", err)
}

func (n *Node) sendEntries(x http1.Exchange, entries []store.ManifestEntry, err error) {
	if err != nil {
		n.fail(x, err)
		return
	}
	body := make([]byte, 0, 48*len(entries))
	for _, e := range entries {
		body = fmt.Appendf(body, "%d %d %08x %d\n", e.ID, e.Size, e.CRC, e.Stored.Unix())
	}
	x.Header().Set("Content-Type", "text/plain")
	_ = x.Reply(http.StatusOK, body)
}

func parseLimit(q url.Values) (int, error) {
	v := q.Get("limit")
	if v == "" {
		return maxManifest, nil
	}
	limit, err := strconv.Atoi(v)
	if err != nil || limit < 1 {
		return 0, fmt.Errorf("limit is not a positive number: %q", v)
	}
	return min(limit, maxManifest), nil
}

func rangeQuery(x http1.Exchange) (url.Values, store.ObjectID, store.ObjectID, error) {
	q, err := url.ParseQuery(string(x.Request().Query))
	if err != nil {
		return nil, 0, 0, errors.New("the query cannot be parsed")
	}
	from, to, err := idRange(q)
	return q, from, to, err
}

func (n *Node) digest(x http1.Exchange, d *Disk) {
	_, from, to, err := rangeQuery(x)
	if err != nil {
		refuse(x, http.StatusBadRequest, "%v", err)
		return
	}
	sum, err := d.Device.Digest(x.Context(), from, to)
	if err != nil {
		n.fail(x, err)
		return
	}
	replyJSON(x, sum)
}

const maxDeleteBody = 1 << 20

// bulkDelete deletes the entities whose ids the body lists, one a line.
func (n *Node) bulkDelete(x http1.Exchange, d *Disk) {
	body, err := io.ReadAll(io.LimitReader(x.Body(), maxDeleteBody+1))
	if err != nil {
		n.fail(x, err)
		return
	}
	if len(body) > maxDeleteBody {
		refuse(x, http.StatusRequestEntityTooLarge, "the list is longer than %d bytes", maxDeleteBody)
		return
	}
	var ids []store.ObjectID
	for line := range strings.Lines(string(body)) {
		id, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
		if err != nil {
			refuse(x, http.StatusBadRequest, "not an object id: %q", strings.TrimSpace(line))
			return
		}
		ids = append(ids, store.ObjectID(id))
	}
	n.metrics.Deletes.Add(int64(len(ids)))
	if err := d.Device.Delete(x.Context(), ids); err != nil {
		n.fail(x, err)
		return
	}
	_ = x.Reply(http.StatusNoContent, nil)
}

// bulk lists the packs, or sends one, from where Range says.
func (n *Node) bulk(x http1.Exchange, d *Disk, name string) {
	if d.Packs == nil {
		refuse(x, http.StatusNotFound, "this device keeps no packs")
		return
	}
	switch name {
	case "":
		replyJSON(x, d.Packs.Packs())
		return
	case "files":
		n.files(x, d)
		return
	}
	p, err := d.Packs.OpenPack(name)
	if err != nil {
		refuse(x, http.StatusNotFound, "no such pack: %q", name)
		return
	}
	defer p.Close()
	off, size, status := int64(0), p.Size(), http.StatusOK
	switch part, kind := byterange.Single(x.Request().Header.Get("Range"), size); kind { // any other is ignored (RFC 9110 §14.2)
	case byterange.Outside:
		x.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
		refuse(x, http.StatusRequestedRangeNotSatisfiable, "the pack has %d bytes", size)
		return
	case byterange.Part:
		x.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.Off, part.Last(), size))
		off, size, status = part.Off, part.N, http.StatusPartialContent
	}
	x.Header().Set("Content-Type", "application/x-tar")
	x.Header().Set("Accept-Ranges", "bytes")
	if err := x.Start(status, size); err != nil || x.Request().Method == "HEAD" {
		return
	}
	if _, err := io.Copy(x, io.NewSectionReader(p, off, size)); err != nil {
		x.Abort()
	}
}

func replyJSON(x http1.Exchange, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		refuse(x, http.StatusInternalServerError, "%v", err)
		return
	}
	x.Header().Set("Content-Type", "application/json")
	_ = x.Reply(http.StatusOK, append(body, '\n'))
}
