package catalog

import (
	"context"
	"fmt"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// CreateAccount makes an account.
func (c *SQLite) CreateAccount(ctx context.Context, a store.Account) (store.Account, error) {
	out := a
	err := c.write(ctx, func(t *txn) error {
		now := c.now()
		_, err := t.Exec("INSERT INTO account(name,role,created) VALUES(?,?,?)", func(st *sqldb.Stmt) {
			st.BindText(1, a.Name)
			st.BindInt64(2, int64(a.Role))
			st.BindInt64(3, now)
		})
		if sqldb.IsConstraint(err) {
			return fmt.Errorf("%w: account %q", store.ErrExists, a.Name)
		}
		out = a
		out.ID, out.Created = store.AccountID(t.LastInsertID()), unixTime(now)
		return err
	})
	if err != nil {
		return store.Account{}, err
	}
	return out, nil
}

// scanAccount reads id, name, role, created.
func scanAccount(st *sqldb.Stmt) store.Account {
	return store.Account{
		ID: store.AccountID(st.ColumnInt64(0)), Name: st.ColumnText(1),
		Role: store.Role(st.ColumnInt64(2)), Created: unixTime(st.ColumnInt64(3)),
	}
}

// Accounts lists all accounts by id.
func (c *SQLite) Accounts(ctx context.Context) ([]store.Account, error) {
	var list []store.Account
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT id,name,role,created FROM account ORDER BY id")
		if err != nil {
			return err
		}
		return each(st, func() { list = append(list, scanAccount(st)) })
	})
	return list, err
}

func noAccount(what string, id any) error {
	return fmt.Errorf("%w: %s %v", store.ErrNoAccount, what, id)
}

func (t *txn) needAccount(id store.AccountID) error {
	n, err := t.queryInt("SELECT count(*) FROM account WHERE id=?", int64(id))
	if err == nil && n == 0 {
		err = noAccount("id", id)
	}
	return err
}

// RemoveAccount removes an account and its keys.
func (c *SQLite) RemoveAccount(ctx context.Context, id store.AccountID) error {
	return c.write(ctx, func(t *txn) error {
		if err := t.needAccount(id); err != nil {
			return err
		}
		owns, err := t.queryInt("SELECT EXISTS(SELECT 1 FROM bucket WHERE owner=?1 AND owner<>0)", int64(id))
		if err != nil {
			return err
		}
		if owns != 0 {
			return fmt.Errorf("%w: account %d owns buckets", store.ErrInUse, id)
		}
		bind := func(st *sqldb.Stmt) { st.BindInt64(1, int64(id)) }
		if _, err := t.Exec("DELETE FROM access_key WHERE account_id=?", bind); err != nil {
			return err
		}
		_, err = t.Exec("DELETE FROM account WHERE id=?", bind)
		return err
	})
}

// PutKey adds an access key. Created is now.
func (c *SQLite) PutKey(ctx context.Context, k store.AccessKey) error {
	return c.write(ctx, func(t *txn) error {
		if err := t.needAccount(k.Account); err != nil {
			return err
		}
		_, err := t.Exec("INSERT INTO access_key(id,secret,account_id,created) VALUES(?,?,?,?)", func(st *sqldb.Stmt) {
			st.BindText(1, k.ID)
			st.BindText(2, k.Secret)
			st.BindInt64(3, int64(k.Account))
			st.BindInt64(4, c.now())
		})
		if sqldb.IsConstraint(err) {
			return fmt.Errorf("%w: access key %s", store.ErrExists, k.ID)
		}
		return err
	})
}

// RemoveKey withdraws an access key.
func (c *SQLite) RemoveKey(ctx context.Context, id string) error {
	return c.write(ctx, func(t *txn) error {
		n, err := t.Exec("DELETE FROM access_key WHERE id=?", func(st *sqldb.Stmt) { st.BindText(1, id) })
		if err == nil && n == 0 {
			err = noAccount("key", id)
		}
		return err
	})
}

// scanKey reads id, secret, account_id, created.
func scanKey(st *sqldb.Stmt) store.AccessKey {
	return store.AccessKey{
		ID: st.ColumnText(0), Secret: st.ColumnText(1), Account: store.AccountID(st.ColumnInt64(2)),
		Created: unixTime(st.ColumnInt64(3)),
	}
}

// Key finds an access key and its account.
func (c *SQLite) Key(ctx context.Context, id string) (store.AccessKey, store.Account, error) {
	var k store.AccessKey
	var a store.Account
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT id,secret,account_id,created FROM access_key WHERE id=?")
		if err != nil {
			return err
		}
		st.BindText(1, id)
		if row, err := st.Step(); err != nil {
			return err
		} else if !row {
			return noAccount("key", id)
		}
		k = scanKey(st)
		if st, err = conn.Select("SELECT id,name,role,created FROM account WHERE id=?"); err != nil {
			return err
		}
		st.BindInt64(1, int64(k.Account))
		if row, err := st.Step(); err != nil {
			return err
		} else if !row { // removed, with its keys, between the statements
			return noAccount("key", id)
		}
		a = scanAccount(st)
		return nil
	})
	if err != nil {
		return store.AccessKey{}, store.Account{}, err
	}
	return k, a, nil
}

// Keys lists an account's access keys, by id. An account that does not exist has none.
func (c *SQLite) Keys(ctx context.Context, account store.AccountID) ([]store.AccessKey, error) {
	var list []store.AccessKey
	err := c.read(ctx, func(conn *sqldb.Conn) error {
		st, err := conn.Select("SELECT id,secret,account_id,created FROM access_key WHERE account_id=? ORDER BY id")
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(account))
		return each(st, func() { list = append(list, scanKey(st)) })
	})
	return list, err
}
