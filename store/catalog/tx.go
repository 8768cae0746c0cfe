package catalog

import (
	"context"
	"errors"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// txn is one call's part of a transaction.
type txn struct {
	*sqldb.Tx
	c     *SQLite
	group *group
	tasks []store.Task
	// What this call changes in the totals.
	tallies []tally
	digests []digestChange
	missing int64
}

// tally is a change of one cluster's totals.
type tally struct {
	cluster                 store.ClusterID
	objects, bytes, deleted int64
}

// group is what the calls of one transaction share.
type group struct {
	visible map[store.BucketID]bool // buckets that were looked up
	leases  []openLease             // blocks that were looked up
	totals  map[store.ClusterID]*tally
	digests map[digestKey]*store.BlockDigest
	missing int64

	expecting  *expecting // who is to hold what is committed; nil: not looked up
	rearranged bool       // the topology has been changed in this transaction
}

type groupKey struct{ c *SQLite }

func (c *SQLite) groupOf(tx *sqldb.Tx) *group {
	key := groupKey{c}
	if g, ok := tx.Value(key).(*group); ok {
		return g
	}
	g := &group{visible: make(map[store.BucketID]bool), totals: make(map[store.ClusterID]*tally), digests: make(map[digestKey]*store.BlockDigest)}
	tx.SetValue(key, g, g.flush)
	return g
}

// write runs f in a transaction that is shared with other calls, and enqueues the tasks that f leaves. f may run twice.
func (c *SQLite) write(ctx context.Context, f func(t *txn) error) error {
	err := translate(c.db.Write(ctx, func(tx *sqldb.Tx) error {
		t := txn{Tx: tx, c: c, group: c.groupOf(tx)}
		if err := f(&t); err != nil {
			return err
		}
		if len(t.tasks) > 0 && c.opts.Enqueue != nil {
			if err := c.opts.Enqueue(tx, t.tasks); err != nil {
				return err
			}
		}
		t.settle() // the last step, see sqldb.Tx.SetValue
		return nil
	}))
	if errors.Is(err, store.ErrNoChanges) {
		c.unchanged.Store(&err)
	} else if err == nil && c.unchanged.Load() != nil {
		c.unchanged.Store(nil)
	}
	return err
}

// Unchanged is why the file did not take the last change: store.ErrNoChanges. nil: it did.
func (c *SQLite) Unchanged() error {
	if err := c.unchanged.Load(); err != nil {
		return *err
	}
	return nil
}

// enqueue leaves a task.
func (t *txn) enqueue(task store.Task) { t.tasks = append(t.tasks, task) }

// count adds to a cluster's totals.
func (t *txn) count(cluster store.ClusterID, objects, bytes, deleted int64) {
	t.tallies = append(t.tallies, tally{cluster, objects, bytes, deleted})
}

// settle adds what this call counted to what its group writes down.
func (t *txn) settle() {
	for _, y := range t.tallies {
		t.group.add(y)
	}
	for _, d := range t.digests {
		t.group.addDigest(d)
	}
	t.group.missing += t.missing
}

func (g *group) add(y tally) {
	sum := g.totals[y.cluster]
	if sum == nil {
		sum = &tally{cluster: y.cluster}
		g.totals[y.cluster] = sum
	}
	sum.objects += y.objects
	sum.bytes += y.bytes
	sum.deleted += y.deleted
}

// flush writes the totals, once per transaction.
func (g *group) flush(tx *sqldb.Tx) error {
	for _, y := range g.totals {
		_, err := tx.Exec(`INSERT INTO total(cluster_id,objects,bytes,deleted) VALUES(?1,?2,?3,?4) ON CONFLICT(cluster_id)
			DO UPDATE SET objects=objects+?2, bytes=bytes+?3, deleted=deleted+?4`, func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(y.cluster))
			st.BindInt64(2, y.objects)
			st.BindInt64(3, y.bytes)
			st.BindInt64(4, y.deleted)
		})
		if err != nil {
			return err
		}
	}
	if err := g.flushDigests(tx); err != nil || g.missing == 0 {
		return err
	}
	_, err := tx.Exec("UPDATE counter SET value=value+? WHERE name='missing'", func(st *sqldb.Stmt) { st.BindInt64(1, g.missing) })
	return err
}

// needBucket returns ErrNoBucket unless the bucket is visible. The answer is remembered for the transaction; who changes
// buckets in it calls forgetBuckets.
func (t *txn) needBucket(id store.BucketID) error {
	visible, known := t.group.visible[id]
	if !known {
		st, err := t.Select("SELECT 1 FROM bucket WHERE id=?")
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(id))
		if visible, err = st.Step(); err != nil {
			return err
		}
		t.group.visible[id] = visible
	}
	if !visible {
		return fmt.Errorf("%w: id %d", store.ErrNoBucket, id)
	}
	return nil
}

// forgetBuckets must be the first step of a call that changes which buckets are visible, after it has made sure that it
// will; it also keeps what it changes from being looked up by needBucket in the same call.
func (t *txn) forgetBuckets() { clear(t.group.visible) }
