package storaged

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// maxDeleteLog bounds the delete log that comes with a pack, in bytes: 32 for each entity.
const maxDeleteLog = 256 << 20

// bulkWork answers requests of [store.Bulk]; false: the path is not one of them.
func (n *Node) bulkWork(x http1.Exchange, b store.Bulk, path, method string) bool {
	what, arg, _ := strings.Cut(path, "/")
	read := method == "GET" || method == "HEAD"
	q, err := url.ParseQuery(string(x.Request().Query))
	if err != nil {
		q = url.Values{}
	}
	switch {
	case what == "packs" && read && arg == "":
		list, err := b.Packs(x.Context())
		n.answer(x, list, err)
	case what == "packs" && read:
		n.packVersion(x, b, arg, q)
	case what == "adopt":
		n.adopt(x, b, arg, method, q)
	case path == "bulk/files" && read:
		limit, err := parseLimit(q)
		from, _, rangeErr := idRange(q)
		if err = errors.Join(err, rangeErr); err != nil {
			refuse(x, http.StatusBadRequest, "%v", err)
			return true
		}
		list, err := b.Files(x.Context(), from, limit)
		n.sendEntries(x, list, err)
	case path == "blocks" && read:
		n.blocks(x, b)
	case path == "entities" && method == "POST":
		n.entities(x, b)
	case path == "scrub" && method == "POST":
		most, err := strconv.ParseInt(q.Get("most"), 10, 64)
		if err != nil {
			refuse(x, http.StatusBadRequest, "most is not a number of bytes: %q", q.Get("most"))
			return true
		}
		part, err := b.Scrub(x.Context(), q.Get("cursor"), most)
		n.answer(x, part, err)
	default:
		return false
	}
	return true
}

func (n *Node) answer(x http1.Exchange, v any, err error) {
	if err != nil {
		n.fail(x, err)
		return
	}
	replyJSON(x, v)
}

func parseUID(s string) (uint64, error) {
	uid, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("not the uid of a pack: %q", s)
	}
	return uid, nil
}

// packVersion sends a version of a pack, or its delete log.
func (n *Node) packVersion(x http1.Exchange, b store.Bulk, name string, q url.Values) {
	uid, err := parseUID(q.Get("uid"))
	if err != nil {
		refuse(x, http.StatusBadRequest, "%v", err)
		return
	}
	if q.Get("log") != "" {
		log, err := b.DeleteLog(x.Context(), name, uid)
		if err != nil {
			n.fail(x, err)
			return
		}
		_ = x.Reply(http.StatusOK, log)
		return
	}
	off, err := strconv.ParseInt(q.Get("off"), 10, 64)
	if err != nil || off < 0 {
		refuse(x, http.StatusBadRequest, "off is not an offset: %q", q.Get("off"))
		return
	}
	r, err := b.OpenPack(x.Context(), name, uid, off)
	if err != nil {
		n.fail(x, err)
		return
	}
	defer r.Close()
	x.Header().Set("Content-Type", "application/x-tar")
	size := int64(-1)
	if s, ok := r.(interface{ Size() int64 }); ok {
		size = s.Size()
	}
	if err := x.Start(http.StatusOK, size); err != nil || x.Request().Method == "HEAD" {
		return
	}
	sent, err := io.Copy(x, r)
	n.metrics.BytesOut.Add(sent)
	if err != nil {
		x.Abort()
	}
}

// adopt takes over a pack of another storage: GET tells how far it is, PUT adds bytes at off, POST ends it, with the delete
// log in the body.
func (n *Node) adopt(x http1.Exchange, b store.Bulk, arg, method string, q url.Values) {
	uid, err := parseUID(arg)
	if err != nil {
		refuse(x, http.StatusBadRequest, "%v", err)
		return
	}
	number := func(name string) (int64, bool) {
		v, err := strconv.ParseInt(q.Get(name), 10, 64)
		if err != nil || v < 0 {
			refuse(x, http.StatusBadRequest, "%s is not a number of bytes: %q", name, q.Get(name))
			return 0, false
		}
		return v, true
	}
	switch method {
	case "GET":
		a, err := b.Adopting(x.Context(), uid)
		n.answer(x, a, err)
	case "PUT":
		off, ok := number("off")
		if !ok {
			return
		}
		got, err := b.AppendPack(x.Context(), uid, off, x.Body())
		n.metrics.BytesIn.Add(got)
		n.answer(x, store.Adoption{Size: off + got}, err)
	case "POST":
		size, ok := number("size")
		if !ok {
			return
		}
		log, err := io.ReadAll(io.LimitReader(x.Body(), maxDeleteLog+1))
		if err == nil && len(log) > maxDeleteLog {
			err = errors.New("the delete log is too long")
		}
		if err != nil {
			n.fail(x, err)
			return
		}
		a, err := b.FinishPack(x.Context(), uid, size, log)
		n.answer(x, a, err)
	default:
		x.Header().Set("Allow", "GET, PUT, POST")
		refuse(x, http.StatusMethodNotAllowed, "a pack that is taken over takes GET, PUT and POST")
	}
}

// blocks answers with digests, one a line.
func (n *Node) blocks(x http1.Exchange, b store.Bulk) {
	_, from, to, err := rangeQuery(x)
	if err != nil {
		refuse(x, http.StatusBadRequest, "%v", err)
		return
	}
	list, err := b.BlockDigests(x.Context(), from, to)
	if err != nil {
		n.fail(x, err)
		return
	}
	body := make([]byte, 0, 64*len(list))
	for _, d := range list {
		body = fmt.Appendf(body, "%d %d %d %x %x\n", d.Block, d.Count, d.Bytes, d.Size, d.CRC)
	}
	x.Header().Set("Content-Type", "text/plain")
	_ = x.Reply(http.StatusOK, body)
}

// entities answers with what there is of the ids in the body, one a line, in the form of a manifest.
func (n *Node) entities(x http1.Exchange, b store.Bulk) {
	body, err := io.ReadAll(io.LimitReader(x.Body(), maxDeleteBody+1))
	if err != nil {
		n.fail(x, err)
		return
	}
	ids, err := parseIDs(body)
	if err == nil && (len(body) > maxDeleteBody || len(ids) > store.MaxEntities) {
		err = fmt.Errorf("more than %d ids", store.MaxEntities)
	}
	if err != nil {
		refuse(x, http.StatusBadRequest, "%v", err)
		return
	}
	list, err := b.Entities(x.Context(), ids)
	n.sendEntries(x, list, err)
}

// parseIDs reads object ids, one a line.
func parseIDs(body []byte) ([]store.ObjectID, error) {
	var ids []store.ObjectID
	for line := range strings.Lines(string(body)) {
		id, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("not an object id: %q", strings.TrimSpace(line))
		}
		ids = append(ids, store.ObjectID(id))
	}
	return ids, nil
}
