package sqlqueue

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/jackc/pgx/v5"

	"wheelhouse/internal/sqldb"
	"wheelhouse/jobs"
)

// Insert is as in [jobs.Queue]. On servers, calls that are made at the same time share transactions; with an error of the
// connection the jobs may be there nevertheless.
func (q *Queue) Insert(ctx context.Context, list []jobs.Job) (ids []jobs.ID, err error) {
	if err := validate(list); err != nil || len(list) == 0 {
		return nil, err
	}
	if q.kind() != sqlite {
		if err := q.introduceJobs(ctx, list); err != nil {
			return nil, err
		}
		return q.gather.insert(ctx, q, list)
	}
	err = q.change(ctx, func(ctx context.Context, t tx, c *changes) error {
		ids, err = q.insert(ctx, t, list, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

func validate(list []jobs.Job) error {
	for i := range list {
		if err := list[i].Validate(); err != nil {
			return &own{err}
		}
	}
	return nil
}

// InsertTx is Insert as a part of somebody's transaction in the database that was given to [New]: the jobs are there if and
// when that is committed, and workers of this process are told then.
func (q *Queue) InsertTx(tx *sqldb.Tx, list []jobs.Job) ([]jobs.ID, error) {
	if err := validate(list); err != nil {
		return nil, err
	}
	s, ok := q.db.(*sqliteDB)
	if !ok {
		return nil, fmt.Errorf("sqlqueue: InsertTx: the queue is not in an SQLite file")
	}
	var c changes
	ctx := context.Background() // an sqldb.Tx runs on the writer's goroutine, and is not interrupted
	ids, err := q.insert(ctx, sqliteTx{s.d, tx}, list, &c)
	if err != nil {
		return nil, err
	}
	if len(c.ready) > 0 || len(c.funcs) > 0 {
		tx.AfterCommit(func() { q.committed(&c) })
	}
	return ids, nil
}

// InsertSQLTx is Insert as a part of somebody's transaction in the queue's database, by database/sql with any driver. The jobs
// are there if and when that is committed. It cannot know when that is: on PostgreSQL all who wait for jobs are told then,
// on others call [Queue.Wake] after it.
func (q *Queue) InsertSQLTx(ctx context.Context, tx *sql.Tx, list []jobs.Job) ([]jobs.ID, error) {
	d := q.plain()
	return q.insertForeign(ctx, sqlTx{d, tx}, list)
}

// InsertPgxTx is the same for a transaction of pgx, on PostgreSQL.
func (q *Queue) InsertPgxTx(ctx context.Context, tx pgx.Tx, list []jobs.Job) ([]jobs.ID, error) {
	s, ok := q.db.(*pgServer)
	if !ok {
		return nil, fmt.Errorf("sqlqueue: InsertPgxTx: the queue is not in PostgreSQL")
	}
	return q.insertForeign(ctx, pgxTx{s.d, tx}, list)
}

// plain is the dialect for drivers that may not know of arrays.
func (q *Queue) plain() *dialect {
	switch db := q.db.(type) {
	case *sqliteDB:
		return db.d
	case *mysqlServer:
		return db.d
	}
	return newDialect(postgres, q.opts.Prefix)
}

func (q *Queue) insertForeign(ctx context.Context, t tx, list []jobs.Job) ([]jobs.ID, error) {
	if err := validate(list); err != nil || len(list) == 0 {
		return nil, err
	}
	if err := q.introduceJobs(ctx, list); err != nil {
		return nil, err
	}
	var c changes
	ids, err := q.insert(ctx, t, list, &c)
	if err == nil {
		err = tellOthers(ctx, t, &c)
	}
	if err != nil {
		return nil, fmt.Errorf("sqlqueue: insert: %w", err)
	}
	return ids, nil // c.funcs is forgotten: who knows whether it is committed
}

// insert adds jobs and returns their ids, 0 for those that were folded.
func (q *Queue) insert(ctx context.Context, t tx, list []jobs.Job, c *changes) ([]jobs.ID, error) {
	now := q.now()
	ids := make([]jobs.ID, len(list))
	for i := 0; i < len(list); {
		if t.dialect().maxRows == 1 {
			if err := q.insertOne(ctx, t, &list[i], &ids[i], now, c); err != nil {
				return nil, err
			}
			i++
			continue
		}
		n := chunk(list[i:], t.dialect().maxRows)
		if err := q.insertChunk(ctx, t, list[i:i+n], ids[i:i+n], now, c); err != nil {
			return nil, err
		}
		i += n
	}
	return ids, nil
}

// maxChunk is how many bytes of arguments are in one statement, if there are several.
const maxChunk = 4 << 20

// chunk is how many jobs one statement inserts: all have Unique keys or none has, and no key comes twice, so that each
// row has an outcome of its own.
func chunk(list []jobs.Job, most int) int {
	type key struct{ fn, unique string }
	var keys map[key]bool
	size := 0
	for i := range min(most, len(list)) {
		j := &list[i]
		if size += len(j.Arg); i > 0 && size > maxChunk || (j.Unique == "") != (list[0].Unique == "") {
			return i
		}
		if j.Unique == "" {
			continue
		}
		k := key{j.Func, j.Unique}
		if keys[k] {
			return i
		}
		if keys == nil {
			keys = make(map[key]bool)
		}
		keys[k] = true
	}
	return min(most, len(list))
}

// The statements that insert. A job that is there under the same uniqkey stays as it is; only if it is running, its
// insert_time is made to grow, which Finish notices.
const (
	insertInto = "INSERT INTO {job}(funcid,arg,uniqkey,insert_time,run_after,grabbed_until,priority,coalesce,limit_key) " +
		"{rows:bigint,bytea,text,bigint,bigint,bigint,bigint,text,text}"
	insertPlain  = insertInto + " RETURNING jobid"
	insertFolded = insertInto + ` ON CONFLICT(funcid,uniqkey)
		DO UPDATE SET insert_time={greatest}(COALESCE({job}.insert_time,0)+1, excluded.insert_time)
		WHERE {job}.grabbed_until>excluded.insert_time
		RETURNING jobid, grabbed_until`
	insertUnique = insertFolded + ", funcid, uniqkey"
	// MySQL does not say which rows are new, so those bear a token until they are grabbed.
	insertUniqueMySQL = `INSERT INTO {job}(funcid,arg,uniqkey,insert_time,run_after,grabbed_until,priority,coalesce,limit_key,owner) {rows:}
		ON DUPLICATE KEY UPDATE
		insert_time=IF(grabbed_until>VALUES(insert_time), GREATEST(COALESCE(insert_time,0)+1, VALUES(insert_time)), insert_time)`
	selectNewMySQL = "SELECT jobid, 0, funcid, uniqkey FROM {job} WHERE owner=? AND funcid {in} AND uniqkey {keys}"
)

func (q *Queue) insertChunk(ctx context.Context, t tx, list []jobs.Job, ids []jobs.ID, now int64, c *changes) error {
	r, after, err := q.rows(ctx, t, list, now, c)
	if err != nil {
		return err
	}
	switch {
	case list[0].Unique == "":
		err = insertNew(ctx, t, r, ids)
	case t.dialect().kind == mysqlDB:
		err = insertFoldedMySQL(ctx, t, r, list, ids)
	default:
		err = t.query(ctx, newRow(r, list, ids), insertUnique, r)
	}
	if err != nil {
		return err
	}
	for i := range list {
		if ids[i] != 0 && after[i] <= now {
			c.readied(list[i].Func)
		}
	}
	return nil
}

// insertOne inserts one job on SQLite: what insertChunk does, without the columns. The store's writes wait for it.
func (q *Queue) insertOne(ctx context.Context, t tx, j *jobs.Job, id *jobs.ID, now int64, c *changes) error {
	fn, err := q.funcID(ctx, t, j.Func, c)
	if err != nil {
		return err
	}
	after := now
	if !j.RunAfter.IsZero() {
		after = ceil(j.RunAfter)
	}
	args := [...]any{fn, j.Arg, optional(j.Unique), now, after, 0, j.Priority, optional(j.Coalesce), optional(j.Key)}
	err = t.query(ctx, func(r row) error {
		var got, until int64
		err := r.Scan(&got, &until)
		if err == nil && until == 0 {
			*id = jobs.ID(got)
		}
		return err
	}, insertFolded, args[:]...)
	if err == nil && *id != 0 && after <= now {
		c.readied(j.Func)
	}
	return err
}

// optional is a text, or NULL for "".
func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// rows are jobs as columns.
func (q *Queue) rows(ctx context.Context, t tx, list []jobs.Job, now int64, c *changes) (r rows, after []int64, err error) {
	n := len(list)
	ints := make([]int64, 5*n)
	funcs, times, after, held, prios := ints[:n], ints[n:2*n], ints[2*n:3*n], ints[3*n:4*n], ints[4*n:]
	texts := make([]string, 3*n)
	uniques, groups, keys := texts[:n], texts[n:2*n], texts[2*n:]
	args := make([][]byte, n)
	for i := range list {
		j := &list[i]
		if i > 0 && j.Func == list[i-1].Func {
			funcs[i] = funcs[i-1]
		} else if funcs[i], err = q.funcID(ctx, t, j.Func, c); err != nil {
			return nil, nil, err
		}
		args[i], uniques[i], groups[i], keys[i] = j.Arg, j.Unique, j.Coalesce, j.Key
		times[i], after[i], prios[i] = now, now, int64(j.Priority)
		if !j.RunAfter.IsZero() {
			after[i] = ceil(j.RunAfter)
		}
	}
	return rows{funcs, args, uniques, times, after, held, prios, groups, keys}, after, nil
}

// insertNew inserts rows that no other can be in the way of.
func insertNew(ctx context.Context, t tx, r rows, ids []jobs.ID) error {
	d := t.dialect()
	if d.returning {
		got, err := queryInts(ctx, t, insertPlain, r)
		if err != nil {
			return err
		}
		slices.Sort(got) // they are given in the order of the rows, but need not be returned in it
		for i := range got {
			ids[i] = jobs.ID(got[i])
		}
		return nil
	}
	if _, err := t.exec(ctx, insertInto, r); err != nil {
		return err
	}
	// One statement that inserts rows whose number is known gets its ids in a row, in all modes of InnoDB
	// ("InnoDB AUTO_INCREMENT Lock Modes"), and this is the first of them.
	first, _, err := queryInt(ctx, t, "SELECT LAST_INSERT_ID()")
	for i := range ids {
		ids[i] = jobs.ID(first + int64(i)*d.idStep)
	}
	return err
}

func insertFoldedMySQL(ctx context.Context, t tx, r rows, list []jobs.Job, ids []jobs.ID) error {
	token := fmt.Sprintf("+%016x%016x", rand.Uint64(), rand.Uint64())
	tokens := slices.Repeat([]string{token}, len(list))
	if _, err := t.exec(ctx, insertUniqueMySQL, append(r, tokens)); err != nil {
		return err
	}
	return t.query(ctx, newRow(r, list, ids), selectNewMySQL, token, idList(r[0].([]int64)), keyList(r[2].([]string)))
}

// newRow scans a row that was inserted, or that is running and was made to run again.
func newRow(r rows, list []jobs.Job, ids []jobs.ID) func(row) error {
	funcs := r[0].([]int64)
	return func(row row) error {
		var id, until, fn int64
		var unique string
		if err := row.Scan(&id, &until, &fn, &unique); err != nil || until != 0 {
			return err
		}
		for i := range list {
			if funcs[i] == fn && list[i].Unique == unique {
				ids[i] = jobs.ID(id)
				break
			}
		}
		return nil
	}
}
