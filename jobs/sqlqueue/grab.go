package sqlqueue

import (
	"context"
	"slices"
	"strings"

	"wheelhouse/jobs"
)

// maxGrab is how many bytes of arguments one Grab returns, if there are several jobs.
const maxGrab = 64 << 20

// Grab is as in [jobs.Queue]. When there is nothing to grab it does not write. It returns fewer jobs than there are when
// their arguments are longer than 64 MiB together.
func (q *Queue) Grab(ctx context.Context, r jobs.GrabRequest) ([]jobs.Job, error) {
	if err := r.Validate(); err != nil {
		return nil, &own{err}
	}
	if r.N <= 0 {
		return nil, nil
	}
	funcs, err := q.numbers(ctx, r.Funcs)
	if err != nil || len(funcs) == 0 {
		return nil, err
	}
	g := &grab{q: q, r: &r}
	if err := q.db.read(ctx, func(ctx context.Context, t tx) error { return g.look(ctx, t, funcs) }); err != nil {
		return nil, err
	}
	if len(g.wanted) == 0 {
		return nil, nil
	}
	if err := q.db.write(ctx, g.take); err != nil {
		return nil, err
	}
	return g.got, nil
}

// grab is one call of Grab.
type grab struct {
	q      *Queue
	r      *jobs.GrabRequest
	wanted []*wanted

	now, until int64
	size       int
	got        []jobs.Job
}

// wanted is a function that seems to have jobs that may run.
type wanted struct {
	function
	prios   []int64 // with ready jobs, the highest first; nil where conditions choose few jobs
	limited bool    // its control has limits or rates
	drained bool    // there are no more
}

// lowest is below all priorities.
const lowest = -1 << 31

func (g *grab) floor() int64 {
	if g.r.Floor == nil {
		return lowest
	}
	return int64(*g.r.Floor)
}

// selective reports whether the request names its jobs so closely that they are found by that alone.
func (g *grab) selective() bool { return g.r.Coalesce != "" || len(g.r.IDs) > 0 }

// readySQL finds the priorities that functions have jobs of, one after the other, so that each step is the end of a range
// of the index, and tells those that have a job that may run now.
const readySQL = `SELECT p.funcid, p.prio, COALESCE(c.max_running+c.max_running_key+c.rate_n+c.key_rate_n,0)
	FROM (WITH RECURSIVE p(funcid, prio) AS (
		SELECT f.funcid, (SELECT {prio} FROM {job} j WHERE j.funcid=f.funcid ORDER BY {prio} DESC LIMIT 1)
			FROM {funcmap} f WHERE f.funcid {in}
		UNION ALL
		SELECT p.funcid, (SELECT {prio} FROM {job} j WHERE j.funcid=p.funcid AND {prio}<p.prio ORDER BY {prio} DESC LIMIT 1)
			FROM p WHERE p.prio IS NOT NULL)
		SELECT funcid, prio FROM p WHERE prio IS NOT NULL AND prio>=?) p
	LEFT JOIN {job_control} c ON c.funcid=p.funcid
	WHERE COALESCE(c.paused,0)=0
		AND (SELECT 1 FROM {job} j WHERE j.funcid=p.funcid AND {prio}=p.prio AND j.run_after<=? AND j.grabbed_until<=? LIMIT 1)=1
	ORDER BY p.prio DESC`

// look finds out, without locking anything, whether there may be something to grab.
func (g *grab) look(ctx context.Context, t tx, funcs []function) error {
	byID := make(map[int64]*wanted, len(funcs))
	ids := make(idList, len(funcs))
	all := make([]wanted, len(funcs))
	for i, f := range funcs {
		ids[i], all[i].function = f.id, f
		byID[f.id] = &all[i]
	}
	found := make(map[int64]bool, len(funcs))
	scan := func(r row) error {
		var id, prio, limited int64
		if err := r.Scan(&id, &prio, &limited); err != nil {
			return err
		}
		w := byID[id]
		w.prios, w.limited, found[id] = append(w.prios, prio), limited != 0, true
		return nil
	}
	var err error
	switch {
	case t.dialect().kind == mysqlDB && !g.selective():
		err = g.lookByStep(ctx, t, all, found)
	case g.selective():
		err = t.query(ctx, scan, `SELECT f.funcid, 0, COALESCE(c.max_running+c.max_running_key+c.rate_n+c.key_rate_n,0)
			FROM {funcmap} f LEFT JOIN {job_control} c ON c.funcid=f.funcid WHERE f.funcid {in} AND COALESCE(c.paused,0)=0`, ids)
	default:
		now := g.q.now()
		err = t.query(ctx, scan, readySQL, ids, g.floor(), now, now)
	}
	g.wanted = nil
	for i := range all {
		if found[all[i].id] {
			if g.selective() {
				all[i].prios = nil
			}
			g.wanted = append(g.wanted, &all[i])
		}
	}
	return err
}

// stepSQL is a step of the same for one function, given the priority before: its control (-1: paused; else whether there are
// limits), whether jobs of that priority may run, and the next one below.
const (
	stepSQL = `SELECT ?, COALESCE((SELECT CASE WHEN c.paused<>0 THEN -1 ELSE c.max_running+c.max_running_key+c.rate_n+c.key_rate_n END
			FROM {job_control} c WHERE c.funcid=?),0),
		COALESCE((SELECT 1 FROM {job} j {byready} WHERE j.funcid=? AND {prio}=? AND j.run_after<=? AND j.grabbed_until<=? LIMIT 1),0),
		COALESCE((SELECT {prio} FROM {job} j {byready} WHERE j.funcid=? AND {prio}<? ORDER BY {prio} DESC LIMIT 1),?)`
	highest = 1 << 31 // is above all priorities
)

// lookByStep does what readySQL does on MySQL and MariaDB, which use no range of an index whose bounds are columns. Each step
// asks for all functions.
func (g *grab) lookByStep(ctx context.Context, t tx, all []wanted, found map[int64]bool) error {
	now := g.q.now()
	prios := make(map[int64]int64, len(all)) // where each function stands
	for i := range all {
		prios[all[i].id] = highest
	}
	for len(prios) > 0 {
		var parts []string
		var args []any
		byID := make(map[int64]*wanted, len(prios))
		for i := range all {
			id := all[i].id
			prio, ok := prios[id]
			if !ok {
				continue
			}
			byID[id] = &all[i]
			parts = append(parts, stepSQL)
			args = append(args, id, id, id, prio, now, now, id, prio, int64(lowest)-1)
		}
		err := t.query(ctx, func(r row) error {
			var id, control, ready, next int64
			if err := r.Scan(&id, &control, &ready, &next); err != nil {
				return err
			}
			w := byID[id]
			if ready != 0 {
				w.prios, w.limited, found[id] = append(w.prios, prios[id]), control > 0, true
			}
			if prios[id] = next; control < 0 || next < max(lowest, g.floor()) {
				delete(prios, id)
			}
			return nil
		}, strings.Join(parts, " UNION ALL "), args...)
		if err != nil {
			return err
		}
	}
	return nil
}

// take grabs.
func (g *grab) take(ctx context.Context, t tx) error {
	g.now, g.until = g.q.now(), g.q.until(g.r.Lease)
	g.got, g.size = nil, 0
	for i, w := range g.wanted { // a fair share each
		w.drained = false
		left := g.r.N - len(g.got)
		if err := g.takeFrom(ctx, t, w, (left+len(g.wanted)-i-1)/(len(g.wanted)-i)); err != nil {
			return err
		}
	}
	for _, w := range g.wanted { // and what others leave
		if err := g.takeFrom(ctx, t, w, g.r.N-len(g.got)); err != nil {
			return err
		}
	}
	return nil
}

// takeFrom grabs up to n jobs of a function.
func (g *grab) takeFrom(ctx context.Context, t tx, w *wanted, n int) error {
	if n <= 0 || w.drained || g.size > maxGrab {
		return nil
	}
	list, err := g.find(ctx, t, w, n)
	if err != nil || len(list) == 0 {
		return err
	}
	ids := make(idList, len(list))
	for i := range list {
		ids[i] = int64(list[i].ID)
	}
	_, err = t.exec(ctx, `UPDATE {job} SET grabbed_until=?, owner=?, started=?, progress_done=NULL, progress_total=NULL, progress_note=NULL
		WHERE jobid {in}`, g.until, g.r.Owner, g.now, ids)
	g.got = append(g.got, list...)
	return err
}

// find locks up to n jobs of a function that may be grabbed.
func (g *grab) find(ctx context.Context, t tx, w *wanted, n int) (list []jobs.Job, err error) {
	d := t.dialect()
	for range maxAttempts {
		if w.limited {
			list, err = g.limited(ctx, t, w, n)
		} else {
			list, err = g.candidates(ctx, t, w, n, nil)
		}
		w.drained = len(list) < n
		if err != nil || len(list) == 0 || d.kind != mysqlDB || d.skipLocked {
			return list, err
		}
		if list, err = g.secure(ctx, t, list); err != nil || len(list) > 0 {
			return list, err
		}
	}
	return nil, nil // others are faster
}

// secure locks candidates on servers that cannot skip what others have locked, and drops those that others have
// grabbed meanwhile. To lock them where they are found, by an index, would be a deadlock with those who remove jobs.
func (g *grab) secure(ctx context.Context, t tx, list []jobs.Job) ([]jobs.Job, error) {
	ids := make(idList, len(list))
	for i := range list {
		ids[i] = int64(list[i].ID)
	}
	free, err := queryInts(ctx, t, "SELECT jobid FROM {job} WHERE jobid {in} AND grabbed_until<=? ORDER BY jobid {lock}", ids, g.now)
	return slices.DeleteFunc(list, func(j jobs.Job) bool { return !slices.Contains(free, int64(j.ID)) }), err
}

// candidates locks up to n jobs that may run, in the order in which they should; none with a Key in without.
func (g *grab) candidates(ctx context.Context, t tx, w *wanted, n int, without textList) (list []jobs.Job, err error) {
	if w.prios == nil {
		return g.chosen(ctx, t, w, n, without)
	}
	// Priority by priority, so that each step is a range of the index and nothing is sorted, however long the queue is.
	for _, prio := range w.prios {
		query, args := readyAtSQL, []any{w.id, prio, g.now, g.now, n - len(list)}
		if len(without) > 0 {
			query, args = readyWithoutSQL, []any{w.id, prio, g.now, g.now, without, n - len(list)}
		}
		if err := t.query(ctx, g.scan(w, &list), query, args...); err != nil {
			return nil, err
		}
		if len(list) >= n || g.size > maxGrab {
			break
		}
	}
	return list, nil
}

const (
	grabColumns = `SELECT j.jobid, j.arg, COALESCE(j.uniqkey,''), COALESCE(j.insert_time,0), j.run_after, {prio},
		COALESCE(j.coalesce,''), COALESCE(j.limit_key,''), (SELECT count(*) FROM {error} e WHERE e.jobid=j.jobid) FROM {job} j `
	readyAt         = grabColumns + "{byready} WHERE j.funcid=? AND {prio}=? AND j.run_after<=? AND j.grabbed_until<=? "
	readyOrder      = "ORDER BY j.run_after, j.jobid LIMIT ? {skip}"
	readyAtSQL      = readyAt + readyOrder
	readyWithoutSQL = readyAt + "AND COALESCE(j.limit_key,'') {notin} " + readyOrder
)

// chosen is candidates where conditions choose few jobs.
func (g *grab) chosen(ctx context.Context, t tx, w *wanted, n int, without textList) (list []jobs.Job, err error) {
	query := grabColumns + "WHERE j.funcid=? AND j.run_after<=? AND j.grabbed_until<=? AND {prio}>=?"
	args := []any{w.id, g.now, g.now, g.floor()}
	if len(g.r.IDs) > 0 {
		ids := make(idList, len(g.r.IDs))
		for i, id := range g.r.IDs {
			ids[i] = int64(id)
		}
		query, args = query+" AND j.jobid {in}", append(args, ids)
	}
	switch {
	case g.r.Coalesce == "":
	case g.r.CoalescePrefix:
		query += " AND {hasprefix}"
		if t.dialect().kind != postgres {
			args = append(args, t.dialect().length(g.r.Coalesce))
		}
		args = append(args, g.r.Coalesce)
	default:
		query, args = query+" AND j.coalesce=?{exactly}", append(args, g.r.Coalesce)
		if t.dialect().kind == mysqlDB {
			args = append(args, g.r.Coalesce)
		}
	}
	if len(without) > 0 {
		query, args = query+" AND COALESCE(j.limit_key,'') {notin}", append(args, without)
	}
	query += " ORDER BY {prio} DESC, j.run_after, j.jobid LIMIT ? {skip}"
	err = t.query(ctx, g.scan(w, &list), query, append(args, n)...)
	return list, err
}

// scan appends jobs to list.
func (g *grab) scan(w *wanted, list *[]jobs.Job) func(row) error {
	return func(r row) error {
		j := jobs.Job{Func: w.name, GrabbedUntil: unixTime(g.until)}
		var id, inserted, after int64
		err := r.Scan(&id, &j.Arg, &j.Unique, &inserted, &after, &j.Priority, &j.Coalesce, &j.Key, &j.Failures)
		if err != nil {
			return err
		}
		j.ID, j.InsertTime, j.RunAfter = jobs.ID(id), unixTime(inserted), unixTime(after)
		if len(j.Arg) == 0 {
			j.Arg = nil
		}
		if g.size += len(j.Arg); g.size > maxGrab && len(g.got)+len(*list) > 0 {
			return errEnough
		}
		*list = append(*list, j)
		return nil
	}
}
