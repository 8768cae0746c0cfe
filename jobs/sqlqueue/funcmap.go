package sqlqueue

import (
	"wheelhouse/internal/sqldb"
)

// selector is what both a reader and a transaction can do.
type selector interface {
	Select(query string) (*sqldb.Stmt, error)
}

// know remembers a row of funcmap that is committed.
func (q *Queue) know(id int64, name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ids[name], q.names[id] = id, name
}

// lookUp returns a function's number, or 0 if it has none.
func (q *Queue) lookUp(s selector, name string) (int64, error) {
	q.mu.RLock()
	id, ok := q.ids[name]
	q.mu.RUnlock()
	if ok {
		return id, nil
	}
	st, err := s.Select("SELECT funcid FROM funcmap WHERE funcname=?")
	if err != nil {
		return 0, err
	}
	st.BindText(1, name)
	row, err := st.Step()
	if err != nil || !row {
		return 0, err
	}
	return st.ColumnInt64(0), nil
}

// funcID returns a function's number, and gives it one if it has none.
func (q *Queue) funcID(tx *sqldb.Tx, name string) (int64, error) {
	q.mu.RLock()
	id, ok := q.ids[name]
	q.mu.RUnlock()
	if ok {
		return id, nil
	}
	id, err := q.lookUp(tx, name)
	if err != nil {
		return 0, err
	}
	if id == 0 {
		if _, err := tx.Exec("INSERT INTO funcmap(funcname) VALUES(?)", func(st *sqldb.Stmt) { st.BindText(1, name) }); err != nil {
			return 0, err
		}
		id = tx.LastInsertID()
	}
	tx.AfterCommit(func() { q.know(id, name) })
	return id, nil
}
