package catalog

import (
	"context"

	"wheelhouse/internal/sqldb"
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
	return c.write(ctx, func(t *txn) error {
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
	})
}
