package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/placement"
)

// drain empties a storage or a cluster, so that it can be removed.
func (w *Worker) drain(ctx context.Context, r *Running) error {
	op := r.Operation()
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return err
	}
	if op.Storage != 0 {
		return w.drainStorage(ctx, r, top, op.Storage)
	}
	return w.drainCluster(ctx, r, op.Cluster)
}

// drainStorage gives a storage's siblings what it alone holds. Its entities stay where they are: they go with the disk.
func (w *Worker) drainStorage(ctx context.Context, r *Running, top *store.Topology, id store.StorageID) error {
	s, err := locate(top, id)
	if err != nil {
		return err
	}
	if s.Mode != store.ModeDrain {
		err := fmt.Errorf("storage %d is %s; a storage that is drained is %s", id, s.Mode, store.ModeDrain)
		if w.opt.Now().Sub(r.Operation().Created) < w.opt.TopologyLag {
			return err // this process may not have heard of it yet: it is tried again
		}
		return Impossible(err)
	}
	// What is being written there by those who do not know yet is to be seen.
	if err := sleep(ctx, w.opt.TopologyLag-time.Since(r.begun)); err != nil {
		return err
	}
	siblings := 0
	for i := range top.Storages {
		to := &top.Storages[i]
		if to.Cluster != s.Cluster || to.ID == id || !to.Mode.Writable() || !to.Mode.Readable() {
			continue
		}
		siblings++
		r.WorksWith(id, to.ID)
		if err := w.equalise(ctx, r, []*store.Storage{s}, to, map[store.ObjectID]int{}); err != nil {
			return err
		}
		if err := w.settleOwed(ctx, to); err != nil {
			return err
		}
	}
	if siblings == 0 {
		return fmt.Errorf("storage %d has no sibling that can be written", id)
	}
	w.opt.Log.Info("storage is drained: its siblings hold all that it holds", "storage", uint32(id))
	return nil
}

// moveCursor is where the moving of a cluster's objects stands.
type moveCursor struct {
	From store.ObjectID `json:"from"`
	Plan []move         `json:"plan,omitempty"`
}

// movePage is how many objects are moved under one lease of ids.
const movePage = 64

// drainCluster moves all objects of a cluster to others.
func (w *Worker) drainCluster(ctx context.Context, r *Running, id store.ClusterID) error {
	var cur moveCursor
	if err := r.Cursor(&cur); err != nil {
		return err
	}
	total, bytes, err := w.clusterSum(ctx, id)
	if err != nil {
		return err
	}
	r.AddTotal(total, bytes)
	for {
		moved, err := w.moveAll(ctx, r, &cur, id, 0, -1)
		if err != nil {
			return err
		}
		// Once more from the beginning: what was overwritten has new ids, and a dispatcher may not know of the drain yet.
		cur = moveCursor{}
		r.Checkpoint(cur)
		left, err := w.cat.ObjectsByID(ctx, id, 0, 1<<64-1, 1)
		if err != nil {
			return err
		}
		if len(left) == 0 {
			return nil
		}
		if moved == 0 {
			if err := sleep(ctx, w.opt.RetryAfter); err != nil {
				return err
			}
		}
	}
}

func (w *Worker) clusterSum(ctx context.Context, id store.ClusterID) (objects, bytes int64, err error) {
	list, err := w.cat.IDDigests(ctx, id)
	for _, d := range list {
		objects += d.Count
		bytes += d.Bytes
	}
	return objects, bytes, err
}

// moveAll moves a cluster's objects, in order of id, to another one (0: where placement says), until there are no more or
// about most bytes have been moved (negative: no bound). It returns how many bytes were moved.
func (w *Worker) moveAll(ctx context.Context, r *Running, cur *moveCursor, from, to store.ClusterID, most int64) (moved int64, err error) {
	for most < 0 || moved < most {
		list, err := w.cat.ObjectsByID(ctx, from, cur.From, 1<<64-1, movePage)
		if err != nil || len(list) == 0 {
			return moved, err
		}
		if most >= 0 {
			var sum int64
			n := slices.IndexFunc(list, func(o store.Object) bool {
				sum += o.Size
				return moved+sum >= most
			})
			if n >= 0 {
				list = list[:n+1]
			}
		}
		n, err := w.movePage(ctx, r, list, to)
		moved += n
		if err != nil {
			return moved, err
		}
		cur.From = list[len(list)-1].ID + 1
		r.Checkpoint(*cur)
	}
	return moved, nil
}

// movePage moves some objects, several at a time, under ids of its own.
func (w *Worker) movePage(ctx context.Context, r *Running, list []store.Object, to store.ClusterID) (int64, error) {
	first, err := w.guard.LeaseIDs(ctx, w.opt.Owner, len(list))
	if err != nil {
		return 0, err
	}
	renewing, stop := context.WithCancel(ctx)
	var renewer sync.WaitGroup
	renewer.Go(func() {
		for sleep(renewing, min(10*time.Second, w.opt.Grace/4)) == nil {
			_ = w.cat.RenewLeases(renewing, w.opt.Owner, []store.ObjectID{first}) // a Commit will say if it is lost
		}
	})
	defer renewer.Wait()
	defer stop()
	var mu sync.Mutex
	var moved int64
	next := make(chan int)
	err = together(ctx, min(copiers, len(list))+1, func(ctx context.Context, i int) error {
		if i == 0 {
			defer close(next)
			for k := range list {
				select {
				case next <- k:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}
		for k := range next {
			n, err := w.moveObject(ctx, r, &list[k], first+store.ObjectID(k), to)
			if err != nil {
				return err
			}
			mu.Lock()
			moved += n
			mu.Unlock()
		}
		return nil
	})
	return moved, err
}

// moveObject copies an object to another cluster under a new id, and gives it that id and that cluster, unless it has been
// overwritten or deleted meanwhile. Its old entities are deleted after the grace time, so that readers in flight finish.
func (w *Worker) moveObject(ctx context.Context, r *Running, o *store.Object, id store.ObjectID, to store.ClusterID) (moved int64, err error) {
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return 0, err
	}
	b, err := w.cat.BucketByID(ctx, o.Bucket)
	if errors.Is(err, store.ErrNoBucket) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	target, durable, err := destination(top, &b, o, id, to)
	if err != nil {
		return 0, err
	}
	info := store.EntityInfo{ID: id, Size: o.Size, Bucket: b.Name, Name: o.Name, ContentType: o.ContentType, ETag: o.ETag, Created: o.Created}
	var has []store.StorageID
	var problems []error
	for i := range top.Storages {
		s := &top.Storages[i]
		switch {
		case s.Cluster != target || !s.Mode.Writable():
		default:
			if err := w.moveTo(ctx, r, top, o, info, s); err != nil {
				problems = append(problems, err)
				continue
			}
			has = append(has, s.ID)
		}
	}
	if len(has) < durable {
		w.unmove(ctx, top, id, has)
		if _, err := w.cat.ObjectByID(ctx, o.ID); errors.Is(err, store.ErrNoObject) {
			return 0, ctx.Err()
		}
		return 0, fmt.Errorf("move object %d to cluster %d: %d of %d entities: %w", o.ID, target, len(has), durable, errors.Join(problems...))
	}
	err = w.cat.MoveObject(ctx, o.ID, store.Object{ID: id, Cluster: target}, &store.Written{On: has, Topology: top.Version, Durable: durable})
	if errors.Is(err, store.ErrNoObject) { // it was overwritten or deleted: there is nothing to move any more
		w.unmove(ctx, top, id, has)
		return 0, nil
	}
	if err != nil {
		return 0, err // whether it was committed is not known: what is left over is the sweep's
	}
	return o.Size, r.Pace(ctx, 1, o.Size)
}

// destination chooses the cluster that an object moves to.
func destination(top *store.Topology, b *store.Bucket, o *store.Object, id store.ObjectID, to store.ClusterID) (store.ClusterID, int, error) {
	name := b.Class
	if name == "" {
		name = store.DefaultClass
	}
	var class *store.Class
	for i := range top.Classes {
		if top.Classes[i].Name == name {
			class = &top.Classes[i]
		}
	}
	durable := 2
	if class != nil && class.MinDurable > 0 {
		durable = class.MinDurable
	}
	durable = min(durable, placement.Largest(top, class))
	list := placement.Clusters(top, class, id, placement.Need{Durable: durable, Size: o.Size})
	list = slices.DeleteFunc(list, func(c store.ClusterID) bool { return c == o.Cluster || to != 0 && c != to })
	if len(list) == 0 {
		if to != 0 {
			return 0, 0, fmt.Errorf("object %d cannot move to cluster %d: it is not writable, not of the bucket's class, or full", o.ID, to)
		}
		return 0, 0, fmt.Errorf("object %d: no other cluster of its class takes writes and has room", o.ID)
	}
	return list[0], max(1, durable), nil
}

// moveTo stores an object under its new id on one storage, from the first of its entities that is good.
func (w *Worker) moveTo(ctx context.Context, r *Running, top *store.Topology, o *store.Object, info store.EntityInfo, to *store.Storage) error {
	problems := []error{fmt.Errorf("no storage gave good bytes of object %d", o.ID)}
	for _, from := range siblings(top, o, 0) {
		r.WorksWith(from.ID)
		err := w.copyUnder(ctx, from, to, o.ID, info)
		if err == nil || ctx.Err() != nil {
			return err
		}
		problems = append(problems, fmt.Errorf("from storage %d to %d: %w", from.ID, to.ID, err))
	}
	return errors.Join(problems...)
}

// unmove deletes what was copied in vain.
func (w *Worker) unmove(ctx context.Context, top *store.Topology, id store.ObjectID, has []store.StorageID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for _, s := range has {
		_ = w.devices.Device(find(top, s)).Delete(ctx, []store.ObjectID{id}) // the sweep does what fails here
	}
}
