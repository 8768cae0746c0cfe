package storaged

import (
	"context"
	"fmt"
	"sync"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/store"
)

// Fleet is all storages as one process reaches them: its own disks directly, the others over HTTP. Safe for concurrent
// use.
type Fleet struct {
	client *http1.Client
	secret Secret
	local  map[store.StorageID]store.Device
	bulk   *http1.Client // for long requests; nil: client

	mu     sync.Mutex // guards remote
	remote map[string]store.Device
}

// NewFleet makes a Fleet. local are the disks of this process, which may be none.
func NewFleet(client *http1.Client, secret Secret, local map[store.StorageID]store.Device) *Fleet {
	return &Fleet{client: client, secret: secret, local: local, remote: map[string]store.Device{}}
}

// LongRequests sets the client for requests that may take minutes: those of [store.Bulk]. It must be set before Bulk is used.
func (f *Fleet) LongRequests(client *http1.Client) { f.bulk = client }

// Bulk returns the means to work on all of a storage.
func (f *Fleet) Bulk(s *store.Storage) (store.Bulk, error) {
	if d, ok := f.local[s.ID]; ok {
		if b, ok := d.(interface{ Bulk() store.Bulk }); ok {
			return b.Bulk(), nil
		}
		return nil, fmt.Errorf("storage %d offers no work in bulk", s.ID)
	}
	client := f.bulk
	if client == nil {
		client = f.client
	}
	r, err := NewRemote(client, s.URI, f.secret)
	if err != nil {
		return nil, fmt.Errorf("storage %d: %w", s.ID, err)
	}
	if d, ok := f.Device(s).(*Remote); ok {
		r.clock = d.clock
	}
	return remoteBulk{r}, nil
}

// Device returns the means to reach a storage. Of one whose URI is not usable it returns a device that fails and says so.
func (f *Fleet) Device(s *store.Storage) store.Device {
	if d, ok := f.local[s.ID]; ok {
		return d
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.remote[s.URI]
	if !ok {
		r, err := NewRemote(f.client, s.URI, f.secret)
		if d = r; err != nil {
			d = broken{fmt.Errorf("storage %d: %w", s.ID, err)}
		}
		f.remote[s.URI] = d
	}
	return d
}

// Local reports whether a storage's disk is in this process.
func (f *Fleet) Local(s *store.Storage) bool {
	_, ok := f.local[s.ID]
	return ok
}

// URL is where a proxy can fetch an entity until expires.
func (f *Fleet) URL(s *store.Storage, id store.ObjectID, expires time.Time) string {
	u := s.URI + "/" + store.EntityPath(id)
	if len(f.secret) == 0 {
		return u
	}
	if d, ok := f.Device(s).(*Remote); ok {
		expires = expires.Add(d.clock.offset()) // it is the storage's clock that it expires by
	}
	return u + "?" + f.secret.SignURL(pathOf(u), expires)
}

// pathOf cuts scheme and host off a URL that is known to have them.
func pathOf(u string) string {
	slashes := 0
	for i := range len(u) {
		if u[i] == '/' {
			if slashes++; slashes == 3 {
				return u[i:]
			}
		}
	}
	return "/"
}

// broken is a storage that cannot be reached because of what is configured.
type broken struct{ err error }

var _ store.Device = broken{}

func (b broken) Put(context.Context, store.EntityInfo, []byte) error { return b.err }

func (b broken) Create(context.Context, store.EntityInfo) (store.EntityWriter, error) {
	return nil, b.err
}

func (b broken) Get(context.Context, store.ObjectID, int64, []byte) ([]byte, error) {
	return nil, b.err
}

func (b broken) Open(context.Context, store.ObjectID, int64, int64) (store.EntityReader, error) {
	return nil, b.err
}

func (b broken) Stat(context.Context, store.ObjectID) (store.EntityInfo, error) {
	return store.EntityInfo{}, b.err
}

func (b broken) Delete(context.Context, []store.ObjectID) error { return b.err }

func (b broken) Manifest(context.Context, store.ObjectID, store.ObjectID, int) ([]store.ManifestEntry, error) {
	return nil, b.err
}

func (b broken) Digest(context.Context, store.ObjectID, store.ObjectID) (store.RangeDigest, error) {
	return store.RangeDigest{}, b.err
}

func (b broken) Usage(context.Context) (store.Usage, error) { return store.Usage{}, b.err }
