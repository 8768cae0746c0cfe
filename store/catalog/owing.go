package catalog

import (
	"fmt"
	"slices"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// owing is what the storages of a cluster are owed of an object that is being committed. It goes by the topology of this
// transaction, and not by what the writer knew when it chose the storages: between the two a storage may have been added, or begun
// to be filled again, and nobody else would ever notice that it lacks the object. ErrNoWritable where too few hold it.
func (t *txn) owing(cluster store.ClusterID, w *store.Written) ([]store.StorageID, error) {
	g := t.group
	if g.expecting == nil {
		if err := t.readExpecting(); err != nil {
			return nil, err
		}
	}
	var missing []store.StorageID
	held := 0
	for _, m := range g.expecting.members[cluster] {
		// What it took before it was begun anew may have gone with its old disk.
		if !slices.Contains(w.On, m.id) || m.blank > w.Topology {
			missing = append(missing, m.id)
		} else {
			held++
		}
	}
	if least := max(1, w.Durable); held < least {
		return nil, fmt.Errorf("%w: of storages %d, which took it, %d are in cluster %d and hold it now, and %d must", store.ErrNoWritable, w.On, held, cluster, least)
	}
	return missing, nil
}

// expecting are the storages that are to hold all objects of their clusters, at one version of the topology.
type expecting struct {
	version uint64
	members map[store.ClusterID][]expectant
}

// expectant is one of them. blank is the version of the topology with which it was last begun to be filled.
type expectant struct {
	id    store.StorageID
	blank uint64
}

// readExpecting finds out whom the transaction has to reckon with. What was read before is used again as long as the topology is the
// same; what this transaction itself has changed is not kept, as it may yet be undone.
func (t *txn) readExpecting() error {
	g := t.group
	version, err := topologyVersion(t)
	if err != nil {
		return err
	}
	if have := t.c.expecting.Load(); have != nil && have.version == version && !g.rearranged {
		g.expecting = have
		return nil
	}
	e := &expecting{version: version, members: map[store.ClusterID][]expectant{}}
	st, err := t.Select("SELECT id,cluster_id,blank FROM storage WHERE mode<>? ORDER BY id")
	if err != nil {
		return err
	}
	st.BindInt64(1, int64(store.ModeDead))
	err = each(st, func() {
		c := store.ClusterID(st.ColumnInt64(1))
		e.members[c] = append(e.members[c], expectant{store.StorageID(st.ColumnInt64(0)), uint64(st.ColumnInt64(2))})
	})
	if err != nil {
		return err
	}
	if g.expecting = e; !g.rearranged {
		t.c.expecting.Store(e)
	}
	return nil
}

// rearranged must be called when the transaction has changed the topology.
func (t *txn) rearranged() { t.group.expecting, t.group.rearranged = nil, true }

// begunAnew notes that a storage is to be filled from now on, and has nothing yet. It is part of a change of the topology.
func (t *txn) begunAnew(id store.StorageID) error {
	_, err := t.Exec("UPDATE storage SET blank=(SELECT value+1 FROM counter WHERE name='topology') WHERE id=?",
		func(st *sqldb.Stmt) { st.BindInt64(1, int64(id)) })
	return err
}
