package catalog

import (
	"fmt"
	"sync"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// maxTypes bounds the cache: installations have dozens of content types; a client that invents them costs lookups only.
const maxTypes = 4096

// typeCache knows numbers of content types. Rows of the table are never changed or removed, so what is in here is true
// for ever, whoever wrote it; but what an open transaction has added must not be put in.
type typeCache struct {
	mu    sync.RWMutex // guards both
	texts map[int64]string
	ids   map[string]int64
}

func (t *typeCache) init() {
	t.texts = make(map[int64]string)
	t.ids = make(map[string]int64)
}

func (t *typeCache) put(id int64, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ids) < maxTypes {
		t.texts[id] = text
		t.ids[text] = id
	}
}

// text returns the content type with a number.
func (t *typeCache) text(s selector, id int64) (string, error) {
	t.mu.RLock()
	text, ok := t.texts[id]
	t.mu.RUnlock()
	if ok {
		return text, nil
	}
	st, err := s.Select("SELECT value FROM content_type WHERE id=?")
	if err != nil {
		return "", err
	}
	st.BindInt64(1, id)
	row, err := st.Step()
	if err != nil {
		return "", err
	}
	if !row {
		return "", fmt.Errorf("%w: content type %d is not there", store.ErrCatalogDamage, id)
	}
	text = st.ColumnText(0)
	if _, reading := s.(*sqldb.Conn); reading {
		t.put(id, text)
	}
	return text, nil
}

// id returns the number of a content type, and makes one in tx if there is none.
func (t *typeCache) id(tx *txn, text string) (int64, error) {
	t.mu.RLock()
	id, ok := t.ids[text]
	t.mu.RUnlock()
	if ok {
		return id, nil
	}
	st, err := tx.Select("SELECT id FROM content_type WHERE value=?")
	if err != nil {
		return 0, err
	}
	st.BindText(1, text)
	row, err := st.Step()
	if err != nil {
		return 0, err
	}
	if row {
		id = st.ColumnInt64(0)
	} else {
		if _, err := tx.Exec("INSERT INTO content_type(value) VALUES(?)", func(st *sqldb.Stmt) { st.BindText(1, text) }); err != nil {
			return 0, err
		}
		id = tx.LastInsertID()
	}
	tx.AfterCommit(func() { t.put(id, text) })
	return id, nil
}
