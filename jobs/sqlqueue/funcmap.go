package sqlqueue

import (
	"context"

	"wheelhouse/jobs"
)

// know remembers a row of funcmap that is committed.
func (q *Queue) know(id int64, name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ids[name], q.names[id] = id, name
}

func (q *Queue) known(name string) (id int64, ok bool) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	id, ok = q.ids[name]
	return id, ok
}

// lookUp returns a function's number, or 0 if it has none.
func (q *Queue) lookUp(ctx context.Context, t tx, name string) (int64, error) {
	if id, ok := q.known(name); ok {
		return id, nil
	}
	id, _, err := queryInt(ctx, t, "SELECT funcid FROM {funcmap} WHERE funcname=?", name)
	return id, err
}

// funcID returns a function's number, and gives it one if it has none.
func (q *Queue) funcID(ctx context.Context, t tx, name string, c *changes) (int64, error) {
	if id, ok := c.funcs[name]; ok {
		return id, nil
	}
	id, err := q.lookUp(ctx, t, name)
	if err != nil || id != 0 {
		return id, err
	}
	insert := "INSERT INTO {funcmap}(funcname) VALUES(?) ON CONFLICT DO NOTHING"
	if t.dialect().kind == mysqlDB {
		insert = "INSERT INTO {funcmap}(funcname) VALUES(?) ON DUPLICATE KEY UPDATE funcid=funcid"
	}
	if _, err := t.exec(ctx, insert, name); err != nil {
		return 0, err
	}
	if id, err = q.lookUp(ctx, t, name); err != nil {
		return 0, err
	}
	if c.funcs == nil {
		c.funcs = make(map[string]int64)
	}
	c.funcs[name] = id
	return id, nil
}

// introduce gives numbers to functions that have none, before the transaction that needs them: in it, two that insert
// the same name would wait for each other, and one that the caller rolls back would have to be forgotten. SQLite has one
// writer, and needs neither.
func (q *Queue) introduce(ctx context.Context, names ...string) error {
	if q.kind() == sqlite {
		return nil
	}
	for _, name := range names {
		if _, ok := q.known(name); ok {
			continue
		}
		err := q.change(ctx, func(ctx context.Context, t tx, c *changes) error {
			id, err := q.funcID(ctx, t, name, c)
			if err == nil {
				c.funcs = map[string]int64{name: id}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// introduceJobs is introduce for the functions of jobs.
func (q *Queue) introduceJobs(ctx context.Context, list []jobs.Job) error {
	for i := range list {
		if i > 0 && list[i].Func == list[i-1].Func {
			continue
		}
		if err := q.introduce(ctx, list[i].Func); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) kind() kind {
	switch q.db.(type) {
	case *mysqlServer:
		return mysqlDB
	case *pgServer:
		return postgres
	}
	return sqlite
}

// function is a function that was asked for.
type function struct {
	id   int64
	name string
}

// numbers returns those of the functions that have numbers, each once. Those without have no jobs.
func (q *Queue) numbers(ctx context.Context, names []string) (list []function, err error) {
	var unknown []string
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		if id, ok := q.known(name); ok {
			list = append(list, function{id, name})
		} else {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return list, nil
	}
	err = q.db.read(ctx, func(ctx context.Context, t tx) error {
		return t.query(ctx, func(r row) error {
			var id int64
			var name string
			if err := r.Scan(&id, &name); err != nil {
				return err
			}
			q.know(id, name)
			return nil
		}, "SELECT funcid, funcname FROM {funcmap}")
	})
	if err != nil {
		return nil, err
	}
	list = list[:0]
	for _, name := range names { // in the order of the request
		if id, ok := q.known(name); ok && seen[name] {
			seen[name] = false
			list = append(list, function{id, name})
		}
	}
	return list, nil
}
