package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// Commit makes an object visible. Committing the version again that is visible already does nothing and succeeds: a caller
// that did not learn the outcome may repeat it. ErrExists when its id is in use under another name.
func (c *SQLite) Commit(ctx context.Context, cm store.Commit) (replaced store.Object, err error) {
	replaced, _, _, err = c.commitFresh(ctx, cm)
	return replaced, err
}

// commitFresh is Commit, and says what is owed of the object, and whether it did something.
func (c *SQLite) commitFresh(ctx context.Context, cm store.Commit) (replaced store.Object, missing []store.StorageID, fresh bool, err error) {
	if err := checkObject(&cm.Object); err != nil {
		return store.Object{}, nil, false, err
	}
	err = c.write(ctx, func(t *txn) (err error) {
		var gone error
		if cm.Written != nil {
			if cm.Object.Missing, err = t.owing(cm.Object.Cluster, cm.Written); errors.Is(err, store.ErrNoWritable) {
				gone = err
			} else if err != nil {
				return err
			}
		}
		replaced, fresh, err = t.commit(&cm, gone)
		return err
	})
	if err != nil {
		return store.Object{}, nil, false, err
	}
	return replaced, cm.Object.Missing, fresh, nil
}

// checkObject refuses what the tables must not hold.
func checkObject(o *store.Object) error {
	switch {
	case o.ID == 0 || o.ID >= 1<<63:
		return fmt.Errorf("catalog: object id %d is out of range", o.ID)
	case o.Size < 0:
		return fmt.Errorf("catalog: object %d: size %d", o.ID, o.Size)
	}
	return checkName("object", o.Name, store.MaxObjectName)
}

func checkName(what, name string, most int) error {
	if name == "" || len(name) > most {
		return fmt.Errorf("catalog: %s name of %d bytes: want 1 to %d", what, len(name), most)
	}
	return nil
}

// commit makes the object visible unless it is so already; where gone says why it must not be, it does not.
func (t *txn) commit(cm *store.Commit, gone error) (replaced store.Object, fresh bool, err error) {
	o := &cm.Object
	if err := t.needLease(o.ID); err != nil {
		return replaced, false, err
	}
	if err := t.needBucket(o.Bucket); err != nil {
		return replaced, false, err
	}
	if gone == nil && cm.Condition.Holds(nil) {
		// Usually there is no object with the name, and then one statement is enough.
		inserted, err := t.insertObject(o)
		if err != nil {
			return replaced, false, err
		}
		if inserted {
			return replaced, true, t.addCommitted(o)
		}
	}
	old, status, err := t.objectNamed(o.Bucket, o.Name)
	if errors.Is(err, store.ErrNoObject) {
		return replaced, false, cmp.Or(gone, store.ErrPrecondition) // or it would have been inserted
	}
	if err != nil {
		return replaced, false, err
	}
	if old.ID == o.ID {
		return replaced, false, nil
	}
	if gone != nil {
		return replaced, false, gone
	}
	if !cm.Condition.Holds(&old) {
		return replaced, false, store.ErrPrecondition
	}
	if err := t.bury(&old, status); err != nil {
		return replaced, false, err
	}
	if err := t.replaceObject(o); err != nil {
		return replaced, false, err
	}
	return old, true, t.addCommitted(o)
}

func statusOf(o *store.Object) int64 {
	if len(o.Missing) > 0 {
		return hasMissing
	}
	return 0
}

// insertObject makes a row unless there is one with the name.
func (t *txn) insertObject(o *store.Object) (fresh bool, err error) {
	n, err := t.putObject(o, `INSERT INTO object(bucket_id,name,id,cluster_id,size,etag,content_type,created,status,replicas,
		cache_control,meta) VALUES(?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT(bucket_id,name) DO NOTHING`)
	return n == 1, err
}

// replaceObject changes the row with the name.
func (t *txn) replaceObject(o *store.Object) error {
	_, err := t.putObject(o, `UPDATE object SET id=?3, cluster_id=?4, size=?5, etag=?6, content_type=?7, created=?8, status=?9,
		replicas=?10, cache_control=?11, meta=?12 WHERE bucket_id=?1 AND name=?2`)
	return err
}

func (t *txn) putObject(o *store.Object, query string) (changed int, err error) {
	ct, err := t.c.types.id(t, o.ContentType)
	if err != nil {
		return 0, err
	}
	n, err := t.Exec(query, func(st *sqldb.Stmt) { bindObject(st, o, ct, statusOf(o)) })
	if sqldb.IsConstraint(err) {
		return 0, fmt.Errorf("%w: object id %d is in use", store.ErrExists, o.ID)
	}
	return n, err
}

// addCommitted does what an object that has just become visible entails.
func (t *txn) addCommitted(o *store.Object) error {
	t.count(o.Cluster, 1, o.Size, 0)
	t.digest(o.Cluster, o.ID, o.Size, 1)
	if len(o.Missing) == 0 {
		return nil
	}
	if err := t.addMissing(o.ID, o.Missing); err != nil {
		return err
	}
	t.enqueue(store.NewReplicate(o.ID))
	return nil
}

// objectNamed reads an object by bucket and name, without what is missing. ErrNoObject.
func (t *txn) objectNamed(bucket store.BucketID, name string) (o store.Object, status int64, err error) {
	st, err := t.Select(`SELECT ` + objectColumns + ` FROM object o WHERE o.bucket_id=? AND o.name=?`)
	if err != nil {
		return o, 0, err
	}
	st.BindInt64(1, int64(bucket))
	sqldb.BindString(st, 2, name)
	row, err := st.Step()
	if err != nil {
		return o, 0, err
	}
	if !row {
		return o, 0, fmt.Errorf("%w: %q in bucket %d", store.ErrNoObject, name, bucket)
	}
	o.Bucket, o.Name = bucket, name
	status, err = t.c.scanObject(t, st, 0, &o)
	return o, status, err
}

// bury lists a visible object as deleted, with the task that deletes its entities after the grace time. The caller
// removes or replaces its row.
func (t *txn) bury(o *store.Object, status int64) error {
	if status&hasMissing != 0 {
		if err := t.dropMissing(o.ID); err != nil {
			return err
		}
	}
	now := t.c.opts.Now()
	_, err := t.Exec(`INSERT INTO deleted_object(id,bucket_id,name,cluster_id,size,etag,content_type,created,status,replicas,
		cache_control,meta,deleted_at) SELECT id,bucket_id,name,cluster_id,size,etag,content_type,created,0,replicas,
		cache_control,meta,?3 FROM object WHERE bucket_id=?1 AND name=?2`, func(st *sqldb.Stmt) {
		st.BindInt64(1, int64(o.Bucket))
		sqldb.BindString(st, 2, o.Name)
		st.BindInt64(3, now.Unix())
	})
	if err != nil {
		return err
	}
	t.count(o.Cluster, -1, -o.Size, 1)
	t.enqueue(store.NewDeleteObject(o.ID, now.Add(t.c.opts.Grace)))
	return nil
}
