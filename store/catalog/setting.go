package catalog

import (
	"context"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// Settings returns what operators have set.
func (c *SQLite) Settings(ctx context.Context) (map[string]string, error) {
	all := make(map[string]string)
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT key,value FROM config")
		if err != nil {
			return err
		}
		return each(st, func() { all[st.ColumnText(0)] = st.ColumnText(1) })
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// SetSetting sets one value, or removes it.
func (c *SQLite) SetSetting(ctx context.Context, key, value string) error {
	return c.write(ctx, func(t *txn) error { return t.setSetting(key, value) })
}

func (t *txn) setSetting(key, value string) error {
	query := "INSERT INTO config(key,value) VALUES(?1,?2) ON CONFLICT(key) DO UPDATE SET value=?2"
	if value == "" {
		query = "DELETE FROM config WHERE key=?1"
	}
	_, err := t.Exec(query, func(st *sqldb.Stmt) {
		st.BindText(1, key)
		if value != "" {
			st.BindText(2, value)
		}
	})
	return err
}

// SwapSetting is as in [store.Catalog].
func (c *SQLite) SwapSetting(ctx context.Context, key, old, value string) (swapped bool, err error) {
	err = c.write(ctx, func(t *txn) error {
		swapped = false
		st, err := t.Select("SELECT value FROM config WHERE key=?")
		if err != nil {
			return err
		}
		st.BindText(1, key)
		row, err := st.Step()
		if err != nil {
			return err
		}
		have := ""
		if row {
			have = st.ColumnText(0)
		}
		if have != old {
			return nil
		}
		swapped = true
		return t.setSetting(key, value)
	})
	return swapped && err == nil, err
}

// dropReserved removes what programs have agreed on (store.ReservedSettings). Whatever is done to a catalog behind the back of running
// programs, none of them has seen: what they keep elsewhere of what the catalog said must be found to be out of date.
func (t *txn) dropReserved() error {
	_, err := t.Exec("DELETE FROM config WHERE key>=? AND key<?", func(st *sqldb.Stmt) {
		st.BindText(1, store.ReservedSettings)
		st.BindText(2, store.ReservedSettings+"\xf4\x8f\xbf\xbf")
	})
	return err
}
