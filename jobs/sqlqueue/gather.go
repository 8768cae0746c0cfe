package sqlqueue

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"wheelhouse/jobs"
)

// gather has callers of Insert who come while others' transactions are under way share the next one: with many callers the
// round trips and the flush of a commit are what insertion costs. (SQLite's writer does so by itself.)
//
// Whoever comes first inserts at once. Who comes later waits, and the first of those who wait leads the next transaction,
// which inserts for all of them; so nobody works for others after their own jobs are inserted.
type gather struct {
	mu      sync.Mutex // guards the rest
	running int        // transactions
	waiting []*insertion
}

// insertion is one call of Insert.
type insertion struct {
	list []jobs.Job
	ids  []jobs.ID
	err  error
	told chan bool // capacity 1; true: lead; false: it has been done
}

// Limits of what is shared.
const (
	maxLeaders    = 2    // transactions at a time
	maxSharedJobs = 1000 // in one transaction, if there are several callers
	maxSharedArgs = 4 << 20
)

// insert is Insert for servers.
func (g *gather) insert(ctx context.Context, q *Queue, list []jobs.Job) ([]jobs.ID, error) {
	in := &insertion{list: list, told: make(chan bool, 1)}
	if !g.enter(in) {
		lead := false
		select {
		case lead = <-in.told:
		case <-ctx.Done():
			if g.leave(in) {
				return nil, ctx.Err()
			}
			lead = <-in.told // somebody is inserting it already, or wants it to lead
		}
		if !lead {
			return in.ids, in.err
		}
	}
	group := g.group(in)
	q.insertGroup(ctx, group)
	g.pass()
	for _, other := range group[1:] {
		other.told <- false
	}
	return in.ids, in.err
}

// enter reports whether the caller may insert at once. If not, it waits in the queue.
func (g *gather) enter(in *insertion) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running < maxLeaders {
		g.running++
		return true
	}
	g.waiting = append(g.waiting, in)
	return false
}

// leave takes somebody out of the queue; false if they are not in it.
func (g *gather) leave(in *insertion) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, in)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	return i >= 0
}

// group is whom a leader inserts for: itself, and of those who wait as many as fit.
func (g *gather) group(in *insertion) []*insertion {
	g.mu.Lock()
	defer g.mu.Unlock()
	group := []*insertion{in}
	n, size := in.weight()
	taken := 0
	for _, w := range g.waiting {
		a, b := w.weight()
		if n, size = n+a, size+b; n > maxSharedJobs || size > maxSharedArgs {
			break
		}
		group = append(group, w)
		taken++
	}
	g.waiting = slices.Delete(g.waiting, 0, taken)
	return group
}

func (in *insertion) weight() (n, size int) {
	for i := range in.list {
		size += len(in.list[i].Arg)
	}
	return len(in.list), size
}

// pass hands the lead to the first who waits.
func (g *gather) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.running--
		return
	}
	next := g.waiting[0]
	g.waiting = slices.Delete(g.waiting, 0, 1)
	next.told <- true
}

// insertGroup inserts for all in one transaction. If the database refuses that, each is tried alone: it may be one's fault.
func (q *Queue) insertGroup(ctx context.Context, group []*insertion) {
	if len(group) > 1 {
		ctx = context.WithoutCancel(ctx) // it is the leader's
	}
	err := q.insertLists(ctx, group)
	if err == nil {
		return
	}
	alone := len(group) > 1 && refused(err)
	for _, in := range group {
		if in.err = err; alone {
			in.err = q.insertLists(ctx, []*insertion{in})
		}
		if in.err != nil {
			in.ids = nil
		}
	}
}

func (q *Queue) insertLists(ctx context.Context, group []*insertion) error {
	list := group[0].list
	if len(group) > 1 {
		list = nil
		for _, in := range group {
			list = append(list, in.list...)
		}
	}
	var ids []jobs.ID
	err := q.change(ctx, func(ctx context.Context, t tx, c *changes) (err error) {
		ids, err = q.insert(ctx, t, list, c)
		return err
	})
	if err != nil {
		return err
	}
	for _, in := range group {
		in.ids, ids = ids[:len(in.list):len(in.list)], ids[len(in.list):]
	}
	return nil
}

// refused reports whether the server itself has said no, and so nothing has happened.
func refused(err error) bool {
	_, pg := errors.AsType[*pgconn.PgError](err)
	_, my := errors.AsType[*mysql.MySQLError](err)
	return pg || my || errors.Is(err, mysql.ErrPktTooLarge)
}
