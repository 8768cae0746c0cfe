package storaged

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// Disk is one of a node's storages.
type Disk struct {
	ID     store.StorageID
	Device store.Device
	Packs  PackSource // nil: /bulk answers 404
	Bulk   store.Bulk // nil: digests, adoption and scrubs are answered 404
	// Plain opens the directory of plain files, which is closed after each request, so that a disk can be unmounted. nil: only
	// entities are served.
	Plain func() (*os.Root, error)
}

// PackSource gives all that a disk holds as streams, for bulk copies.
type PackSource interface {
	// Packs lists the packs there are now.
	Packs() []PackInfo
	// OpenPack opens one for reading; its bytes up to Size do not change. The caller closes it.
	OpenPack(name string) (PackReader, error)
	// Files lists the entities that are files of their own, with ids >= from, in order of id, up to limit.
	Files(ctx context.Context, from store.ObjectID, limit int) ([]store.ManifestEntry, error)
}

// PackInfo describes one pack.
type PackInfo struct {
	Name     string         `json:"name"`
	Size     int64          `json:"size"` // bytes that hold members
	Sealed   bool           `json:"sealed"`
	MinID    store.ObjectID `json:"min_id"`
	MaxID    store.ObjectID `json:"max_id"`
	Entities int64          `json:"entities"`
}

// PackReader reads a pack that is kept from being removed until it is closed.
type PackReader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Options tune a Node.
type Options struct {
	Secret Secret // empty: requests need no signature, which is for loopback and closed networks
	Log    *slog.Logger
	Now    func() time.Time
}

// Node serves disks over HTTP. Safe for concurrent use.
type Node struct {
	disks   map[string]*Disk // by "dev<N>"
	opt     Options
	metrics Metrics
}

// Metrics counts what a Node has done.
type Metrics struct {
	Reads, Writes, Deletes, Refused, Failures atomic.Int64
	BytesIn, BytesOut                         atomic.Int64
}

// NewNode makes a node of disks.
func NewNode(disks []Disk, o Options) (*Node, error) {
	n := &Node{disks: map[string]*Disk{}, opt: o}
	if n.opt.Log == nil {
		n.opt.Log = slog.New(slog.DiscardHandler)
	}
	if n.opt.Now == nil {
		n.opt.Now = time.Now
	}
	if len(o.Secret) > 0 && len(o.Secret) < MinSecret {
		return nil, fmt.Errorf("storaged: the secret is %d bytes long; at least %d are needed", len(o.Secret), MinSecret)
	}
	for i := range disks {
		name := DeviceName(disks[i].ID)
		if n.disks[name] != nil {
			return nil, fmt.Errorf("storaged: storage %d is given twice", disks[i].ID)
		}
		n.disks[name] = &disks[i]
	}
	return n, nil
}

// DeviceName is the first segment of the paths of a storage: dev3.
func DeviceName(id store.StorageID) string { return "dev" + strconv.FormatUint(uint64(id), 10) }

// Metrics returns the counters, which go on counting.
func (n *Node) Metrics() *Metrics { return &n.metrics }

// Disks returns the ids of the node's storages, in order.
func (n *Node) Disks() []store.StorageID {
	ids := make([]store.StorageID, 0, len(n.disks))
	for _, d := range n.disks {
		ids = append(ids, d.ID)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

// ServeExchange answers one request.
func (n *Node) ServeExchange(x http1.Exchange) {
	r := x.Request()
	if len(n.opt.Secret) > 0 {
		if err := n.opt.Secret.check(r, n.opt.Now()); err != nil {
			n.metrics.Refused.Add(1)
			if _, skewed := errors.AsType[skewError](err); skewed {
				x.Header().Set(headerTime, n.opt.Secret.timeFor(r.Header.Get("Authorization"), n.opt.Now()))
			}
			refuse(x, http.StatusForbidden, "%v", err)
			return
		}
	}
	if len(r.Path) == 0 || r.Path[0] != '/' {
		refuse(x, http.StatusBadRequest, "the path must begin with a slash")
		return
	}
	dev, rest, _ := bytes.Cut(r.Path[1:], []byte{'/'})
	d := n.disks[string(dev)]
	if d == nil {
		if len(dev) == 0 && len(rest) == 0 && (r.Method == "GET" || r.Method == "HEAD") { // mogadm check
			n.index(x)
			return
		}
		refuse(x, http.StatusNotFound, "this node has no device %q", dev)
		return
	}
	if id, ok := store.ParseEntityPath(string(rest)); ok {
		n.entity(x, d, id)
		return
	}
	n.special(x, d, string(rest))
}

func (n *Node) index(x http1.Exchange) {
	var b strings.Builder
	for _, id := range n.Disks() {
		fmt.Fprintf(&b, "/%s/\n", DeviceName(id))
	}
	text(x, http.StatusOK, b.String())
}

// entity answers requests for an entity by its path.
func (n *Node) entity(x http1.Exchange, d *Disk, id store.ObjectID) {
	switch x.Request().Method {
	case "GET", "HEAD":
		n.metrics.Reads.Add(1)
		n.read(x, d, id)
	case "PUT":
		n.metrics.Writes.Add(1)
		n.write(x, d, id)
	case "DELETE":
		n.metrics.Deletes.Add(1)
		if _, err := d.Device.Stat(x.Context(), id); err != nil {
			n.fail(x, err)
			return
		}
		if err := d.Device.Delete(x.Context(), []store.ObjectID{id}); err != nil {
			n.fail(x, err)
			return
		}
		_ = x.Reply(http.StatusNoContent, nil)
	default:
		x.Header().Set("Allow", "GET, HEAD, PUT, DELETE")
		refuse(x, http.StatusMethodNotAllowed, "an entity takes GET, HEAD, PUT and DELETE")
	}
}

// special answers requests for what is not an entity.
func (n *Node) special(x http1.Exchange, d *Disk, path string) {
	method := cmp.Or(x.Request().Method, "GET")
	read := method == "GET" || method == "HEAD"
	switch {
	case method == "MKCOL":
		_ = x.Reply(http.StatusCreated, nil) // directories are made when they are needed
	case path == "usage" && read:
		n.usage(x, d)
	case path == "manifest" && read:
		n.manifest(x, d)
	case path == "digest" && read:
		n.digest(x, d)
	case path == "probe" && method == "POST":
		n.probe(x, d)
	case path == "accept" && method == "POST":
		n.accept(x, d)
	case path == "delete" && method == "POST":
		n.bulkDelete(x, d)
	case d.Bulk != nil && n.bulkWork(x, d.Bulk, path, method):
	case (path == "bulk" || strings.HasPrefix(path, "bulk/")) && read:
		n.bulk(x, d, strings.TrimPrefix(strings.TrimPrefix(path, "bulk"), "/"))
	case d.Plain != nil:
		n.plain(x, d, path)
	default:
		refuse(x, http.StatusNotFound, "no such path on this device: %q", path)
	}
}

// statuses translates a device's errors, both ways: the node sends the status and names the error in a header, and the
// client makes the error of it again.
var statuses = []struct {
	err    error
	status int
	code   string
}{
	{store.ErrNoEntity, http.StatusNotFound, "no-entity"},
	{store.ErrCorrupt, http.StatusInternalServerError, "corrupt"},
	{store.ErrFull, http.StatusInsufficientStorage, "full"},
	{store.ErrReadOnly, http.StatusServiceUnavailable, "read-only"},
	{store.ErrNoPack, http.StatusNotFound, "no-pack"},
	{store.ErrNoPacks, http.StatusConflict, "no-packs"},
	{store.ErrAbsent, http.StatusServiceUnavailable, "absent"},
}

const headerError = "X-Wheelhouse-Error"

// fail answers with the status of a device's error, and logs what an operator has to know.
func (n *Node) fail(x http1.Exchange, err error) {
	if e, ok := errors.AsType[*http1.Error](err); ok {
		refuse(x, e.Status, "%s", e.Reason)
		return
	}
	if x.Started() {
		x.Abort()
		return
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			if s.status >= 500 {
				n.metrics.Failures.Add(1)
				n.opt.Log.Warn("request failed", "path", string(x.Request().Path), "err", err)
			}
			x.Header().Reset()
			x.Header().Set(headerError, s.code)
			refuse(x, s.status, "%v", err)
			return
		}
	}
	n.metrics.Failures.Add(1)
	n.opt.Log.Error("request failed", "path", string(x.Request().Path), "err", err)
	refuse(x, http.StatusInternalServerError, "%v", err)
}

func refuse(x http1.Exchange, status int, format string, args ...any) {
	if x.Started() {
		x.Abort()
		return
	}
	text(x, status, fmt.Sprintf(format, args...)+"\n")
}

func text(x http1.Exchange, status int, body string) {
	x.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = x.Reply(status, []byte(body))
}
