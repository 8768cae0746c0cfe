package catalog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// topologyAt is a topology and when it was known to be current.
type topologyAt struct {
	*store.Topology
	at time.Time
}

// Topology returns what the installation consists of. The answer is shared and must not be changed. A change made through
// this handle is seen at once, one made by another process within TopologyAge.
func (c *SQLite) Topology(ctx context.Context) (*store.Topology, error) {
	have := c.topology.Load()
	now := c.opts.Now()
	if have != nil && have.Version >= c.topologyLeast.Load() && now.Sub(have.at) < c.opts.TopologyAge && !now.Before(have.at) {
		return have.Topology, nil
	}
	return c.TopologyNow(ctx)
}

// TopologyNow is Topology as it is at the moment.
func (c *SQLite) TopologyNow(ctx context.Context) (*store.Topology, error) {
	have, now := c.topology.Load(), c.opts.Now()
	var t *store.Topology
	err := c.view(ctx, func(conn *sqldb.Conn) error {
		v, err := topologyVersion(conn)
		if err != nil {
			return err
		}
		if have != nil && have.Version == v {
			t = have.Topology
			return nil
		}
		t, err = readTopology(conn, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.keepTopology(&topologyAt{t, now}), nil
}

// keepTopology stores what was read, unless that is older than what this handle has written or read meanwhile: then a
// caller that began later must not be given it.
func (c *SQLite) keepTopology(t *topologyAt) *store.Topology {
	for {
		have := c.topology.Load()
		if have != nil && have.Version > t.Version || t.Version < c.topologyLeast.Load() {
			return t.Topology
		}
		if c.topology.CompareAndSwap(have, t) {
			return t.Topology
		}
	}
}

func topologyVersion(s selector) (uint64, error) {
	st, err := s.Select("SELECT value FROM counter WHERE name='topology'")
	if err != nil {
		return 0, err
	}
	_, err = st.Step()
	return uint64(st.ColumnInt64(0)), err
}

func readTopology(s selector, version uint64) (*store.Topology, error) {
	t := &store.Topology{Version: version}
	st, err := s.Select("SELECT id,name,mode FROM cluster ORDER BY id")
	if err != nil {
		return nil, err
	}
	err = each(st, func() {
		t.Clusters = append(t.Clusters, store.Cluster{
			ID: store.ClusterID(st.ColumnInt64(0)), Name: st.ColumnText(1),
			Mode: store.ClusterMode(st.ColumnInt64(2)),
		})
	})
	if err != nil {
		return nil, err
	}
	if st, err = s.Select("SELECT id,cluster_id,uri,mode,capacity,used,created,by_system,down_since,down_reason,down_uncounted FROM storage ORDER BY id"); err != nil {
		return nil, err
	}
	err = each(st, func() {
		s := store.Storage{
			ID: store.StorageID(st.ColumnInt64(0)), Cluster: store.ClusterID(st.ColumnInt64(1)),
			URI: st.ColumnText(2), Set: store.StorageMode(st.ColumnInt64(3)), Capacity: st.ColumnInt64(4), Used: st.ColumnInt64(5),
			Created: unixTime(st.ColumnInt64(6)), BySystem: st.ColumnInt64(7) != 0,
		}
		if since := st.ColumnInt64(8); since != 0 {
			s.Down = store.Outage{Since: unixTime(since), Reason: st.ColumnText(9), Uncounted: time.Duration(st.ColumnInt64(10)) * time.Second}
		}
		s.Mode = inForce(s.Set, s.Down)
		t.Storages = append(t.Storages, s)
	})
	if err != nil {
		return nil, err
	}
	t.Classes, err = readClasses(s)
	return t, err
}

func readClasses(s selector) ([]store.Class, error) {
	st, err := s.Select("SELECT name,clusters,min_durable FROM class ORDER BY name")
	if err != nil {
		return nil, err
	}
	var list []store.Class
	var bad error
	err = each(st, func() {
		k := store.Class{Name: st.ColumnText(0), MinDurable: st.ColumnInt(2)}
		var err error
		if k.Clusters, err = parseClusters(st.ColumnText(1)); err != nil {
			bad = fmt.Errorf("%w: class %s: %w", store.ErrCatalogDamage, k.Name, err)
		}
		list = append(list, k)
	})
	if err == nil {
		err = bad
	}
	return list, err
}

// parseClusters reads what formatClusters writes.
func parseClusters(s string) ([]store.ClusterID, error) {
	if s == "" {
		return nil, nil
	}
	var ids []store.ClusterID
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return nil, err
		}
		ids = append(ids, store.ClusterID(n))
	}
	return ids, nil
}

func formatClusters(ids []store.ClusterID) string {
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = strconv.FormatUint(uint64(id), 10)
	}
	return strings.Join(parts, ",")
}

// changeTopology runs f in a transaction; if it reports a change, the version grows and this handle sees it at once.
func (c *SQLite) changeTopology(ctx context.Context, f func(t *txn) (changed bool, err error)) error {
	return c.write(ctx, func(t *txn) error {
		changed, err := f(t)
		if err != nil || !changed {
			return err
		}
		t.rearranged()
		var version uint64
		_, err = t.Returning("UPDATE counter SET value=value+1 WHERE name='topology' RETURNING value",
			func(*sqldb.Stmt) {}, func(st *sqldb.Stmt) { version = uint64(st.ColumnInt64(0)) })
		if err != nil {
			return err
		}
		t.AfterCommit(func() { c.topologyLeast.Store(version) })
		return nil
	})
}
