package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

const operationColumns = `id,kind,storage_id,cluster_id,bucket,options,state,cursor,progress,priority,created,started,updated,ended,owner,leased,error`

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// scanOperation reads operationColumns.
func scanOperation(st *sqldb.Stmt) (store.Operation, error) {
	op := store.Operation{
		ID: store.OperationID(st.ColumnInt64(0)), Kind: store.OperationKind(st.ColumnText(1)),
		Storage: store.StorageID(st.ColumnInt64(2)), Cluster: store.ClusterID(st.ColumnInt64(3)), Bucket: st.ColumnText(4),
		Options: columnBytes(st, 5), State: store.OperationState(st.ColumnText(6)), Cursor: columnBytes(st, 7),
		Priority: int(st.ColumnInt64(9)), Created: fromMillis(st.ColumnInt64(10)), Started: fromMillis(st.ColumnInt64(11)),
		Updated: fromMillis(st.ColumnInt64(12)), Ended: fromMillis(st.ColumnInt64(13)),
		Owner: st.ColumnText(14), Leased: fromMillis(st.ColumnInt64(15)), Error: st.ColumnText(16),
	}
	if err := json.Unmarshal([]byte(st.ColumnText(8)), &op.Progress); err != nil {
		return op, fmt.Errorf("%w: operation %d: progress: %w", store.ErrCatalogDamage, op.ID, err)
	}
	return op, nil
}

// columnBytes copies a BLOB; an empty one is nil.
func columnBytes(st *sqldb.Stmt, col int) []byte {
	n := st.ColumnLen(col)
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	st.ColumnBytes(col, b)
	return b
}

// CreateOperation enters a running operation.
func (c *SQLite) CreateOperation(ctx context.Context, op store.Operation) (id store.OperationID, err error) {
	if _, err := store.ParseOperationKind(string(op.Kind)); err != nil {
		return 0, err
	}
	err = c.write(ctx, func(t *txn) error {
		open, err := t.queryOpen(&op)
		if err != nil {
			return err
		}
		if open != 0 {
			id = open
			return fmt.Errorf("%w: operation %d does that", store.ErrExists, open)
		}
		_, err = t.Exec(`INSERT INTO operation(kind,storage_id,cluster_id,bucket,options,state,cursor,progress,priority,created,started,updated,
			ended,owner,leased,error) VALUES(?,?,?,?,?,?,x'',?,?,?,0,0,0,'',0,'')`, func(st *sqldb.Stmt) {
			bindTarget(st, &op)
			st.BindBytes(5, op.Options)
			st.BindText(6, string(store.OpRunning))
			st.BindText(7, "{}")
			st.BindInt64(8, int64(op.Priority))
			st.BindInt64(9, c.opts.Now().UnixMilli())
		})
		if err != nil {
			return err
		}
		id = store.OperationID(t.LastInsertID())
		_, err = t.Exec(`DELETE FROM operation WHERE ended<>0 AND id<=(SELECT id FROM operation WHERE ended<>0 ORDER BY id DESC LIMIT 1 OFFSET ?)`,
			func(st *sqldb.Stmt) { st.BindInt64(1, store.MaxOperations) })
		return err
	})
	return id, err
}

func bindTarget(st *sqldb.Stmt, op *store.Operation) {
	st.BindText(1, string(op.Kind))
	st.BindInt64(2, int64(op.Storage))
	st.BindInt64(3, int64(op.Cluster))
	st.BindText(4, op.Bucket)
}

// queryOpen finds the operation of op's kind and target that is not at its end; 0: none.
func (t *txn) queryOpen(op *store.Operation) (store.OperationID, error) {
	st, err := t.Select("SELECT id FROM operation WHERE kind=? AND storage_id=? AND cluster_id=? AND bucket=? AND ended=0")
	if err != nil {
		return 0, err
	}
	bindTarget(st, op)
	row, err := st.Step()
	if err != nil || !row {
		return 0, err
	}
	return store.OperationID(st.ColumnInt64(0)), nil
}

// Operations lists operations, those that are not at their end first.
func (c *SQLite) Operations(ctx context.Context, limit int) ([]store.Operation, error) {
	var list []store.Operation
	// One state for both halves: an operation may end between them.
	err := c.view(ctx, func(conn *sqldb.Conn) error {
		for _, query := range []string{
			"SELECT " + operationColumns + " FROM operation WHERE ended=0 ORDER BY priority DESC, id LIMIT ?",
			"SELECT " + operationColumns + " FROM operation WHERE ended<>0 ORDER BY id DESC LIMIT ?",
		} {
			st, err := conn.Select(query)
			if err != nil {
				return err
			}
			st.BindInt64(1, int64(max(0, limit-len(list))))
			for {
				row, err := st.Step()
				if err != nil {
					return err
				}
				if !row {
					break
				}
				op, err := scanOperation(st)
				if err != nil {
					return err
				}
				list = append(list, op)
			}
		}
		return nil
	})
	return list, err
}

func noOperation(id store.OperationID) error {
	return fmt.Errorf("%w: id %d", store.ErrNoOperation, id)
}

// Operation returns one.
func (c *SQLite) Operation(ctx context.Context, id store.OperationID) (op store.Operation, err error) {
	err = c.read(ctx, func(conn *sqldb.Conn) error {
		op, err = operationByID(conn, id)
		return err
	})
	return op, err
}

func operationByID(s selector, id store.OperationID) (store.Operation, error) {
	st, err := s.Select("SELECT " + operationColumns + " FROM operation WHERE id=?")
	if err != nil {
		return store.Operation{}, err
	}
	st.BindInt64(1, int64(id))
	row, err := st.Step()
	if err != nil {
		return store.Operation{}, err
	}
	if !row {
		return store.Operation{}, noOperation(id)
	}
	return scanOperation(st)
}

// longestLease is longer than anybody leases an operation for: what is leased for longer was leased before the clock was set back.
const longestLease = 10 * time.Minute

// ClaimOperation leases the most urgent operation that is free. An owner that asks for what it holds itself does not get it
// again before its lease ends.
func (c *SQLite) ClaimOperation(ctx context.Context, owner string, until time.Time, kinds ...store.OperationKind) (op store.Operation, err error) {
	query := "SELECT " + operationColumns + " FROM operation WHERE ended=0 AND state='running' AND (leased<=?1 OR leased>?1+?2)"
	if len(kinds) > 0 {
		query += " AND kind IN (" + strings.TrimSuffix(strings.Repeat("?,", len(kinds)), ",") + ")"
	}
	query += " ORDER BY priority DESC, id LIMIT 1"
	find := func(s selector) (bool, error) {
		st, err := s.Select(query)
		if err != nil {
			return false, err
		}
		st.BindInt64(1, c.opts.Now().UnixMilli())
		st.BindInt64(2, longestLease.Milliseconds())
		for i, k := range kinds {
			st.BindText(i+3, string(k))
		}
		row, err := st.Step()
		if err == nil && row {
			op, err = scanOperation(st)
		}
		return row, err
	}
	// Workers ask all the time, and mostly there is nothing: that costs no transaction.
	found := false
	err = c.read(ctx, func(conn *sqldb.Conn) error {
		found, err = find(conn)
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: none is to be done", store.ErrNoOperation)
	}
	if err != nil {
		return store.Operation{}, err
	}
	err = c.write(ctx, func(t *txn) error {
		found, err := find(t)
		if err == nil && !found {
			err = fmt.Errorf("%w: none is to be done", store.ErrNoOperation)
		}
		if err != nil {
			return err
		}
		now := c.opts.Now()
		if op.Started.IsZero() {
			op.Started = fromMillis(now.UnixMilli())
		}
		op.Owner, op.Leased = owner, fromMillis(millis(until))
		_, err = t.Exec("UPDATE operation SET owner=?2, leased=?3, started=?4 WHERE id=?1", func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(op.ID))
			st.BindText(2, owner)
			st.BindInt64(3, millis(until))
			st.BindInt64(4, millis(op.Started))
		})
		return err
	})
	if err != nil {
		return store.Operation{}, err
	}
	return op, nil
}

// SaveOperation writes how far an operation is. A lease that has run out and that nobody else has taken is still the owner's.
func (c *SQLite) SaveOperation(ctx context.Context, op store.Operation, owner string, until time.Time) (state store.OperationState, err error) {
	progress, err := json.Marshal(op.Progress)
	if err != nil {
		return "", err
	}
	err = c.write(ctx, func(t *txn) error {
		have, err := operationByID(t, op.ID)
		if err != nil {
			return err
		}
		if owner == "" || have.Owner != owner {
			return fmt.Errorf("%w: operation %d is not %s's", store.ErrLease, op.ID, owner)
		}
		state = have.State
		now := c.opts.Now().UnixMilli()
		ended := millis(have.Ended)
		if op.State.Final() && !state.Final() {
			state, ended = op.State, now
		}
		keep := owner
		if until.IsZero() || state.Final() {
			keep, until = "", time.Time{}
		}
		_, err = t.Exec(`UPDATE operation SET cursor=?2, progress=?3, error=?4, state=?5, ended=?6, updated=?7, owner=?8, leased=?9 WHERE id=?1`,
			func(st *sqldb.Stmt) {
				st.BindInt64(1, int64(op.ID))
				st.BindBytes(2, op.Cursor)
				st.BindText(3, string(progress))
				st.BindText(4, op.Error)
				st.BindText(5, string(state))
				st.BindInt64(6, ended)
				st.BindInt64(7, now)
				st.BindText(8, keep)
				st.BindInt64(9, millis(until))
			})
		return err
	})
	if errors.Is(err, store.ErrNoOperation) {
		err = fmt.Errorf("%w: %w", store.ErrLease, err)
	}
	if err != nil {
		return "", err
	}
	return state, nil
}

// SetOperationState pauses, resumes or cancels an operation.
func (c *SQLite) SetOperationState(ctx context.Context, id store.OperationID, state store.OperationState) error {
	if state != store.OpRunning && state != store.OpPaused && state != store.OpCancelled {
		return fmt.Errorf("catalog: operation %d: state %q cannot be set", id, state)
	}
	return c.write(ctx, func(t *txn) error {
		have, err := operationByID(t, id)
		if err != nil {
			return err
		}
		if have.State.Final() {
			return fmt.Errorf("%w: operation %d is %s", store.ErrInUse, id, have.State)
		}
		ended := int64(0)
		if state.Final() {
			ended = c.opts.Now().UnixMilli()
		}
		_, err = t.Exec("UPDATE operation SET state=?2, ended=?3 WHERE id=?1", func(st *sqldb.Stmt) {
			st.BindInt64(1, int64(id))
			st.BindText(2, string(state))
			st.BindInt64(3, ended)
		})
		return err
	})
}
