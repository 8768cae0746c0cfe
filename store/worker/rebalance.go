package worker

import (
	"context"
	"errors"
	"fmt"

	"wheelhouse/store"
)

// RebalanceOptions are the options of an operation of kind [store.OpRebalance] between clusters.
type RebalanceOptions struct {
	// Within is how far apart the fullest and the emptiest cluster may be, in per cent of their space. 0: 5.
	Within float64 `json:"within,omitempty"`
	// From, To and Bytes name one move instead: so many bytes of objects from one cluster to another. To 0: where placement says.
	From  store.ClusterID `json:"from,omitempty"`
	To    store.ClusterID `json:"to,omitempty"`
	Bytes int64           `json:"bytes,omitempty"`
}

const defaultWithin = 5

// move is a part of a plan.
type move struct {
	From  store.ClusterID `json:"from"`
	To    store.ClusterID `json:"to"`
	Bytes int64           `json:"bytes"` // still to be moved
}

// rebalance evens out space between clusters, or, within one cluster, what its storages hold.
func (w *Worker) rebalance(ctx context.Context, r *Running) error {
	op := r.Operation()
	if op.Cluster != 0 {
		return w.rebalanceWithin(ctx, r, op.Cluster)
	}
	var opt RebalanceOptions
	var cur moveCursor
	if err := errors.Join(r.Options(&opt), r.Cursor(&cur)); err != nil {
		return err
	}
	if cur.Plan == nil {
		plan := []move{{opt.From, opt.To, opt.Bytes}}
		if opt.From == 0 {
			rooms, err := w.rooms(ctx)
			if err != nil {
				return err
			}
			within := opt.Within
			if within == 0 {
				within = defaultWithin
			}
			plan = planMoves(rooms, within/100)
		}
		// The plan is made once: what is deleted by and by in the old places would make any later one too greedy.
		cur.Plan = append([]move{}, plan...)
		r.Checkpoint(cur)
	}
	var bytes int64
	for _, m := range cur.Plan {
		bytes += m.Bytes
	}
	r.mu.Lock()
	bytes += r.now.Bytes
	r.mu.Unlock()
	r.Total(0, bytes)
	for len(cur.Plan) > 0 {
		m := &cur.Plan[0]
		before := cur.From
		n, err := w.moveAll(ctx, r, &cur, m.From, m.To, min(m.Bytes, moveStep))
		if err != nil {
			return err
		}
		if m.Bytes -= n; m.Bytes <= 0 || cur.From == before { // moved, or no more objects
			cur.Plan, cur.From = cur.Plan[1:], 0
		}
		r.Checkpoint(cur)
	}
	return nil
}

// moveStep is how much is moved between two notes of what is left, in bytes.
const moveStep = 64 << 20

// room is a cluster's space as far as it is ours: what it holds, and what it could.
type room struct {
	id              store.ClusterID
	used, available int64
}

func (m room) fill() float64 { return float64(m.used) / float64(max(1, m.used+m.available)) }

// rooms measures the clusters that take writes. A cluster is as full as the fullest of its storages.
func (w *Worker) rooms(ctx context.Context) ([]room, error) {
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return nil, err
	}
	var list []room
	for _, c := range top.Clusters {
		if c.Mode != store.ClusterRW {
			continue
		}
		m := room{id: c.ID, available: -1}
		for i := range top.Storages {
			s := &top.Storages[i]
			if s.Cluster != c.ID || !s.Mode.Writable() || !s.Mode.Readable() {
				continue
			}
			u, err := w.usage(ctx, s)
			if err != nil {
				return nil, fmt.Errorf("storage %d: %w", s.ID, err)
			}
			m.used = max(m.used, u.Live)
			if free := u.Free + u.Garbage; m.available < 0 || free < m.available {
				m.available = free
			}
		}
		if m.available >= 0 {
			list = append(list, m)
		}
	}
	return list, nil
}

// planMoves says what has to move so that no two clusters' fills are further apart than within, 0 to 1: from the fullest to
// the emptiest, by half of the difference at most, until it is so.
func planMoves(rooms []room, within float64) (plan []move) {
	for range 4 * len(rooms) {
		if len(rooms) < 2 {
			return plan
		}
		high, low := 0, 0
		for i, m := range rooms {
			if m.fill() > rooms[high].fill() {
				high = i
			}
			if m.fill() < rooms[low].fill() {
				low = i
			}
		}
		a, b := &rooms[high], &rooms[low]
		if a.fill()-b.fill() <= within {
			return plan
		}
		// After moving n both are as full as the two together.
		mean := float64(a.used+b.used) / float64(max(1, a.used+a.available+b.used+b.available))
		n := int64(float64(a.used) - mean*float64(a.used+a.available))
		if n < 1 {
			return plan
		}
		plan = append(plan, move{a.id, b.id, n})
		a.used, a.available = a.used-n, a.available+n
		b.used, b.available = b.used+n, b.available-n
	}
	return plan
}

// rebalanceWithin gives each storage of a cluster what the others hold and it does not.
func (w *Worker) rebalanceWithin(ctx context.Context, r *Running, id store.ClusterID) error {
	top, err := w.cat.Topology(ctx)
	if err != nil {
		return err
	}
	for i := range top.Storages {
		to := &top.Storages[i]
		if to.Cluster != id || !to.Mode.Writable() || !to.Mode.Readable() {
			continue
		}
		r.WorksWith(to.ID)
		for k := range top.Storages {
			from := &top.Storages[k]
			if from.Cluster != id || from.ID == to.ID || !from.Mode.Readable() {
				continue
			}
			if err := w.equalise(ctx, r, []*store.Storage{from}, to, map[store.ObjectID]int{}); err != nil {
				return err
			}
		}
		if err := w.settleOwed(ctx, to); err != nil {
			return err
		}
	}
	return nil
}
