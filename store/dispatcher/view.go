package dispatcher

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/placement"
)

// view is a topology with the means to reach its storages. It is never changed once made.
type view struct {
	top      *store.Topology
	clusters map[store.ClusterID][]*member
	classes  map[string]*store.Class
}

// member is a storage as a member of its cluster.
type member struct {
	store.Storage
	dev   store.Device
	sus   *suspicion
	local bool // a disk of this process
}

// viewCache makes a view of each new topology.
type viewCache struct {
	devices Devices
	alarm   func() // called when a storage has failed
	current atomic.Pointer[view]
	mu      sync.Mutex // guards suspects, and that one view is made at a time
	suspect map[store.StorageID]*suspicion
}

func (c *viewCache) get(ctx context.Context, cat Catalog) (*view, error) {
	top, err := cat.Topology(ctx)
	if err != nil {
		return nil, err
	}
	return c.of(top), nil
}

// now is get with the topology as it is at the moment.
func (c *viewCache) now(ctx context.Context, cat Catalog) (*view, error) {
	top, err := cat.TopologyNow(ctx)
	if err != nil {
		return nil, err
	}
	return c.of(top), nil
}

// holding is a view in which the object's cluster is known: one that another process has just added is not yet in a topology that is a
// second old.
func (c *viewCache) holding(ctx context.Context, cat Catalog, o *store.Object) (*view, error) {
	v, err := c.get(ctx, cat)
	if err != nil || v.clusters[o.Cluster] != nil {
		return v, err
	}
	return c.now(ctx, cat)
}

// of is the view of a topology.
func (c *viewCache) of(top *store.Topology) *view {
	if v := c.current.Load(); v != nil && (v.top == top || v.top.Version == top.Version) {
		return v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.suspect == nil {
		c.suspect = map[store.StorageID]*suspicion{}
	}
	v := &view{top: top, clusters: map[store.ClusterID][]*member{}, classes: map[string]*store.Class{}}
	for i := range top.Storages {
		s := top.Storages[i]
		if c.suspect[s.ID] == nil {
			c.suspect[s.ID] = &suspicion{alarm: c.alarm}
		}
		dev := c.devices.Device(&s)
		_, local := dev.(asyncPutter)
		v.clusters[s.Cluster] = append(v.clusters[s.Cluster], &member{Storage: s, dev: dev, sus: c.suspect[s.ID], local: local})
	}
	for i := range top.Classes {
		v.classes[top.Classes[i].Name] = &top.Classes[i]
	}
	c.current.Store(v)
	return v
}

// suspicionOf finds what is remembered of a storage, or nil.
func (c *viewCache) suspicionOf(id store.StorageID) *suspicion {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.suspect[id]
}

// class finds a bucket's class; one that is not there any more is as good as the default.
func (v *view) class(name string) *store.Class {
	if c := v.classes[name]; c != nil && name != "" {
		return c
	}
	return v.classes[store.DefaultClass]
}

// maxMembers bounds a mirror group in read order; nobody keeps more copies of everything.
const maxMembers = 16

// readers is the order in which the storages of an object are asked for it.
type readers struct {
	n    int
	list [maxMembers]*member
}

func (r *readers) add(m *member) {
	if r.n < maxMembers {
		r.list[r.n] = m
		r.n++
	}
}

// readersOf orders the storages that may hold an object: the readable ones that should have it, in placement order, then
// those of them that failed of late, then, as a last resort, those that may have it all the same.
func (v *view) readersOf(o *store.Object, now time.Time) (r readers) {
	members := v.clusters[o.Cluster]
	var ids [maxMembers]store.StorageID
	n := 0
	for _, m := range members {
		if n < maxMembers {
			ids[n] = m.ID
			n++
		}
	}
	placement.Storages(o.ID, ids[:n])
	for pass := range 4 {
		for _, id := range ids[:n] {
			for _, m := range members {
				if m.ID == id && m.readPass(o, now) == pass {
					r.add(m)
				}
			}
		}
	}
	return r
}

func (m *member) readPass(o *store.Object, now time.Time) int {
	const good, suspect, unwell, lastResort, never = 0, 1, 2, 3, 4
	switch {
	case m.Set == store.ModeDead || m.Set == store.ModeDown:
		return never
	case !m.Mode.Readable() || o.Missing != nil && slices.Contains(o.Missing, m.ID):
		return lastResort
	case m.sus.unwell.Load():
		return unwell
	case m.sus.active(now):
		return suspect
	}
	return good
}

// crew is how the storages of a cluster take part in a write.
type crew struct {
	writers []*member // the new entity is sent to them
	reserve []*member // may be asked if that does not go well: they failed of late, and are owed the entity otherwise
	away    int       // those that cannot be written, and will be owed it
}

func (c *crew) size() int { return len(c.writers) + len(c.reserve) + c.away }

// blameless counts the storages of a cluster that a new entity can be sent to and that have not failed of late.
func (v *view) blameless(c store.ClusterID, now time.Time) (n int) {
	for _, m := range v.clusters[c] {
		if m.Mode.Writable() && !m.sus.active(now) && !m.sus.refuses(now) {
			n++
		}
	}
	return n
}

// writersOf divides a cluster's storages up for a write. A storage that failed of late is left out where enough others remain.
func (v *view) writersOf(c store.ClusterID, enough int, now time.Time) (w crew) {
	var suspects, unwell []*member
	for _, m := range v.clusters[c] {
		switch {
		case m.Mode == store.ModeDead:
		case !m.Mode.Writable():
			w.away++
		case m.sus.unwell.Load():
			unwell = append(unwell, m)
		case m.sus.active(now), m.sus.refuses(now):
			suspects = append(suspects, m)
		default:
			w.writers = append(w.writers, m)
		}
	}
	// When those without blame do not suffice, all that may answer are asked, and those that have just failed a probe only if
	// there is no other way.
	for _, list := range [][]*member{suspects, unwell} {
		if len(w.writers) < enough {
			w.writers = append(w.writers, list...)
		} else {
			w.reserve = append(w.reserve, list...)
		}
	}
	return w
}
