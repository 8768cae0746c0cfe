package catalog

import (
	"context"
	"errors"
	"fmt"
	"math"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// A catalog that was restored from a backup does not know what was stored after it. Ids that may have been used then are
// fenced: they are blocks in id_lease of an owner of their own, closed, and seen so late that no sweep looks at them, until
// what the storages hold with these ids has been adopted.
const (
	fenceOwner = "restored"
	fenceSeen  = math.MaxInt64
	// fenceMargin is how far beyond the greatest id that was found new ids begin: greater ones may have been used of which nothing is left.
	fenceMargin = 1 << 20
)

// Fence makes a restored catalog safe: ids up to largest, and some more, are never handed out again, and nothing that was
// stored after the backup will be taken for the remains of unfinished uploads (see Fenced). What was deleted is kept for the grace time from
// now on, for it may have been brought back after the backup.
func (c *SQLite) Fence(ctx context.Context, largest store.ObjectID) error {
	return c.write(ctx, func(t *txn) error { return t.fence(largest, fenceOwner) })
}

func (t *txn) fence(largest store.ObjectID, owner string) error {
	if largest > math.MaxInt64-2*fenceMargin {
		return fmt.Errorf("catalog: object id %d is out of range", largest)
	}
	t.group.leases = nil
	next, err := t.nextIDs(0)
	if err != nil {
		return err
	}
	fence := max(next, largest+1) + fenceMargin
	exec := func(query string, args ...int64) {
		if err == nil {
			_, err = t.Exec(query, func(st *sqldb.Stmt) {
				for i, v := range args {
					st.BindInt64(i+1, v)
				}
			})
		}
	}
	exec(`UPDATE id_lease SET owner='`+owner+`', closed=1, seen=?`, fenceSeen)
	exec(`INSERT INTO id_lease(first,n,owner,seen,closed) VALUES(?,?,'`+owner+`',?,1)`, int64(next), int64(fence-next), fenceSeen)
	exec(`UPDATE counter SET value=? WHERE name='next_object_id'`, int64(fence))
	exec(`UPDATE deleted_object SET deleted_at=?`, t.c.now())
	exec(`DELETE FROM counter WHERE name='backup_due'`)
	if err != nil {
		return err
	}
	return t.dropReserved()
}

// Fenced lists the blocks of ids that Fence has closed and Unfence has not released, in order.
func (c *SQLite) Fenced(ctx context.Context) ([]store.Lease, error) {
	var list []store.Lease
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT first,n,owner FROM id_lease WHERE owner IN (?,?) AND seen=? ORDER BY first")
		if err != nil {
			return err
		}
		bindFence(st)
		return each(st, func() {
			list = append(list, store.Lease{First: store.ObjectID(st.ColumnInt64(0)), N: st.ColumnInt(1), Owner: st.ColumnText(2)})
		})
	})
	return list, err
}

// Unfence forgets the blocks of Fenced, when all that is on the storages has been adopted.
func (c *SQLite) Unfence(ctx context.Context) error {
	return c.write(ctx, func(t *txn) error {
		t.group.leases = nil
		_, err := t.Exec("DELETE FROM id_lease WHERE owner IN (?,?) AND seen=?", bindFence)
		return err
	})
}

func bindFence(st *sqldb.Stmt) {
	st.BindText(1, fenceOwner)
	st.BindText(2, store.FencedBehind)
	st.BindInt64(3, fenceSeen)
}

// Found is an object that storages hold and the catalog does not know.
type Found struct {
	Object  store.Object // Bucket is ignored
	Bucket  string       // name
	Deleted bool         // it is not to be seen any more, and what is left of it is to be deleted
}

// Adopted says what became of one Found.
type Adopted uint8

// What Adopt did with an object.
const (
	AdoptKnown    Adopted = iota // nothing: the catalog knows the id
	AdoptVisible                 // made visible
	AdoptReplaced                // made visible in the place of an older version, which is deleted after the grace time
	AdoptDeleted                 // deleted after the grace time: a newer version is visible, or Found says so
)

// Adopt makes objects known with ids that need not be leased. Of several versions with one name the one that was created last is visible;
// later says it of two that were created in the same second. Buckets that are not there are made: private, and nobody's.
func (c *SQLite) Adopt(ctx context.Context, list []Found, later func(a, b store.ObjectID) bool) ([]Adopted, error) {
	for i := range list {
		if err := checkObject(&list[i].Object); err != nil {
			return nil, err
		}
		if err := checkName("bucket", list[i].Bucket, store.MaxBucketName); err != nil {
			return nil, err
		}
	}
	var did []Adopted
	err := c.write(ctx, func(t *txn) error {
		did = make([]Adopted, len(list))
		t.forgetBuckets()
		for i := range list {
			var err error
			if did[i], err = t.adopt(&list[i], later); err != nil {
				return fmt.Errorf("adopt object %d: %w", list[i].Object.ID, err)
			}
		}
		return t.dropReserved()
	})
	return did, err
}

func (t *txn) adopt(f *Found, later func(a, b store.ObjectID) bool) (Adopted, error) {
	o := f.Object
	known, err := t.queryInt("SELECT EXISTS(SELECT 1 FROM object WHERE id=?1) OR EXISTS(SELECT 1 FROM deleted_object WHERE id=?1)", int64(o.ID))
	if err != nil || known != 0 {
		return AdoptKnown, err
	}
	if o.Bucket, err = t.bucketFor(f.Bucket); err != nil {
		return 0, err
	}
	if f.Deleted {
		return AdoptDeleted, t.insertDeleted(&o)
	}
	old, status, err := t.objectNamed(o.Bucket, o.Name)
	switch {
	case errors.Is(err, store.ErrNoObject):
		if _, err := t.insertObject(&o); err != nil {
			return 0, err
		}
		return AdoptVisible, t.addCommitted(&o)
	case err != nil:
		return 0, err
	case old.Created.After(o.Created), old.Created.Equal(o.Created) && !later(o.ID, old.ID):
		return AdoptDeleted, t.insertDeleted(&o)
	}
	if err := t.bury(&old, status); err != nil {
		return 0, err
	}
	if err := t.replaceObject(&o); err != nil {
		return 0, err
	}
	return AdoptReplaced, t.addCommitted(&o)
}

// bucketFor gives the id of a visible bucket, which is made when there is none.
func (t *txn) bucketFor(name string) (store.BucketID, error) {
	b, err := bucketNamed(t, name)
	if err == nil {
		return b.ID, nil
	}
	if !errors.Is(err, store.ErrNoBucket) {
		return 0, err
	}
	now := t.c.now()
	_, err = t.Exec(`INSERT INTO bucket(name,access,class,cache_control,owner,created,gen) VALUES(?1,?2,?3,?4,?5,?6,1)`, func(st *sqldb.Stmt) {
		bindBucket(st, &store.Bucket{Name: name, Access: store.Private})
		st.BindInt64(6, now)
	})
	return store.BucketID(t.LastInsertID()), err
}

// insertDeleted lists a version as deleted now that was never visible here.
func (t *txn) insertDeleted(o *store.Object) error {
	ct, err := t.c.types.id(t, o.ContentType)
	if err != nil {
		return err
	}
	now := t.c.opts.Now()
	_, err = t.Exec(`INSERT INTO deleted_object(bucket_id,name,id,cluster_id,size,etag,content_type,created,status,replicas,
		cache_control,meta,deleted_at) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)`, func(st *sqldb.Stmt) {
		bindObject(st, o, ct, 0)
		st.BindInt64(13, now.Unix())
	})
	if err != nil {
		return err
	}
	t.count(o.Cluster, 0, 0, 1)
	t.enqueue(store.NewDeleteObject(o.ID, now.Add(t.c.opts.Grace)))
	return nil
}

// Known is an id that the catalog knows.
type Known struct {
	ID      store.ObjectID
	Cluster store.ClusterID
	Deleted bool // no longer visible
}

// KnownIDs lists the ids of visible and deleted objects from one on, in order, up to limit.
func (c *SQLite) KnownIDs(ctx context.Context, from store.ObjectID, limit int) ([]Known, error) {
	var list []Known
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select(`SELECT * FROM (SELECT id, cluster_id, 0 FROM object WHERE id>=?1 ORDER BY id LIMIT ?2)
			UNION ALL SELECT * FROM (SELECT id, cluster_id, 1 FROM deleted_object WHERE id>=?1 ORDER BY id LIMIT ?2) ORDER BY 1 LIMIT ?2`)
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(from))
		st.BindInt64(2, int64(max(0, limit)))
		return each(st, func() {
			list = append(list, Known{store.ObjectID(st.ColumnInt64(0)), store.ClusterID(st.ColumnInt64(1)), st.ColumnBool(2)})
		})
	})
	return list, err
}

// Forget removes objects that no storage holds any more, without a trace. It returns how many of them were visible.
func (c *SQLite) Forget(ctx context.Context, ids []store.ObjectID) (removed int, err error) {
	err = c.write(ctx, func(t *txn) error {
		removed = 0
		for _, id := range ids {
			var size int64
			var cluster store.ClusterID
			if err := t.dropMissing(id); err != nil {
				return err
			}
			n, err := t.Returning("DELETE FROM object WHERE id=?1 RETURNING size, cluster_id",
				func(st *sqldb.Stmt) { st.BindInt64(1, int64(id)) },
				func(st *sqldb.Stmt) { size, cluster = st.ColumnInt64(0), store.ClusterID(st.ColumnInt64(1)) })
			if err != nil {
				return err
			}
			if n == 1 {
				t.count(cluster, -1, -size, 0)
				removed++
			}
		}
		return t.dropReserved()
	})
	return removed, err
}

// Relocate says that visible objects are in other clusters than they were thought to be.
func (c *SQLite) Relocate(ctx context.Context, list []Known) error {
	return c.write(ctx, func(t *txn) error {
		for _, k := range list {
			o, err := t.queryObject(k.ID)
			if errors.Is(err, store.ErrNoObject) {
				continue
			}
			if err != nil {
				return err
			}
			if err := t.dropMissing(k.ID); err != nil {
				return err
			}
			_, err = t.Exec("UPDATE object SET cluster_id=?2, status=status&~?3 WHERE id=?1", func(st *sqldb.Stmt) {
				st.BindInt64(1, int64(k.ID))
				st.BindInt64(2, int64(k.Cluster))
				st.BindInt64(3, hasMissing)
			})
			if err != nil {
				return err
			}
			t.count(o.Cluster, -1, -o.Size, 0)
			t.count(k.Cluster, 1, o.Size, 0)
		}
		return t.dropReserved()
	})
}

// queryObject reads a visible object's cluster and size alone.
func (t *txn) queryObject(id store.ObjectID) (o store.Object, err error) {
	st, err := t.Select("SELECT cluster_id, size FROM object WHERE id=?")
	if err != nil {
		return o, err
	}
	st.BindInt64(1, int64(id))
	row, err := st.Step()
	if err == nil && !row {
		err = fmt.Errorf("%w: id %d", store.ErrNoObject, id)
	}
	return store.Object{ID: id, Cluster: store.ClusterID(st.ColumnInt64(0)), Size: st.ColumnInt64(1)}, err
}
