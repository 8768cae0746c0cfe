package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"wheelhouse/internal/bridge/gearmanjobs"
	"wheelhouse/jobs/sqlqueue"
)

// gearmandQueue says where background jobs are kept: gearmand's own flags, and ours, which can name any database.
type gearmandQueue struct {
	kind, url, name                                 string
	sqlite                                          string
	mysqlHost, mysqlPort, mysqlUser, mysqlPW, mysql string
	libpq                                           string
}

func (q *gearmandQueue) flags(nothing func(string) func(string) error) []daemonFlag {
	return []daemonFlag{
		{"queue-type", 'q', "TYPE", "where background jobs are kept: builtin (memory), libsqlite3, mysql or postgres", q.setKind},
		{"queue-database", 0, "URL", "the same by the database's address: sqlite:FILE, mysql://… or postgres://…", text(&q.url)},
		{"queue-name", 0, "NAME", "apart from other job servers' jobs in the same database (default default)", text(&q.name)},
		{"libsqlite3-db", 0, "FILE", "of -q libsqlite3", text(&q.sqlite)},
		{"mysql-host", 0, "HOST", "of -q mysql (default localhost)", text(&q.mysqlHost)},
		{"mysql-port", 0, "N", "of -q mysql (default 3306)", text(&q.mysqlPort)},
		{"mysql-user", 0, "NAME", "of -q mysql", text(&q.mysqlUser)},
		{"mysql-password", 0, "TEXT", "of -q mysql", text(&q.mysqlPW)},
		{"mysql-db", 0, "NAME", "of -q mysql", text(&q.mysql)},
		{"libpq-conninfo", 0, "TEXT", "of -q postgres: as libpq wants it", text(&q.libpq)},
		{"libsqlite3-table", 0, "NAME", "", nothing("libsqlite3-table")},
		{"store-queue-on-shutdown", 0, "", "", nothing("store-queue-on-shutdown")},
		{"mysql-table", 0, "NAME", "", nothing("mysql-table")},
		{"libpq-table", 0, "NAME", "", nothing("libpq-table")},
	}
}

func (q *gearmandQueue) setKind(v string) error {
	switch q.kind = strings.ToLower(v); q.kind {
	case "builtin", "libsqlite3", "mysql", "postgres":
		return nil
	}
	return fmt.Errorf("there is no queue type %q here; there are builtin, libsqlite3, mysql and postgres", v)
}

// database is the address of the database, "" for memory.
func (q *gearmandQueue) database() (string, error) {
	if q.url != "" {
		return q.url, nil
	}
	switch q.kind {
	case "libsqlite3":
		if q.sqlite == "" {
			return "", usagef("-q libsqlite3 wants --libsqlite3-db")
		}
		return "sqlite:" + q.sqlite, nil
	case "mysql":
		if q.mysql == "" || q.mysqlUser == "" {
			return "", usagef("-q mysql wants --mysql-db and --mysql-user")
		}
		u := url.URL{
			Scheme: "mysql", Host: net.JoinHostPort(cmp.Or(q.mysqlHost, "localhost"), cmp.Or(q.mysqlPort, "3306")), Path: "/" + q.mysql,
			User: url.UserPassword(q.mysqlUser, q.mysqlPW),
		}
		return u.String(), nil
	case "postgres":
		return conninfoURL(q.libpq)
	}
	return "", nil
}

// conninfoURL turns libpq's keywords and values (PostgreSQL, "Connection Strings", 34.1.1.1) into an address.
func conninfoURL(text string) (string, error) {
	if text == "" {
		return "", usagef("-q postgres wants --libpq-conninfo")
	}
	if strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") {
		return text, nil
	}
	query := url.Values{}
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimSpace(rest) {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			return "", usagef("--libpq-conninfo: %q has no value", key)
		}
		var value string
		value, rest = conninfoValue(strings.TrimLeft(after, " "))
		query.Set(strings.TrimSpace(key), value)
	}
	return "postgres:///?" + query.Encode(), nil
}

// conninfoValue reads a value, which may stand in quotes, and in which \ takes away the meaning of what follows.
func conninfoValue(s string) (value, rest string) {
	var b strings.Builder
	end := byte(' ')
	if strings.HasPrefix(s, "'") {
		end, s = '\'', s[1:]
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == end:
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// openQueue opens what keeps the background jobs, if they are to be kept. close lets go of it once the server has ended.
func (p *gearmandProcess) openQueue(ctx context.Context) (closeQueue func() error, err error) {
	where, err := p.g.queue.database()
	if err != nil || where == "" {
		return func() error { return nil }, err
	}
	q, err := sqlqueue.OpenURL(ctx, where, sqlqueue.Options{})
	if err != nil {
		return nil, err
	}
	store, err := gearmanjobs.Open(ctx, q, p.g.queue.name)
	if err != nil {
		return nil, errors.Join(err, q.Close())
	}
	p.g.opts.Store = store
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		err := store.Run(ctx)
		if err != nil {
			p.failed <- err
		}
		ended <- err
	}()
	return func() error {
		stop()
		if err := <-ended; err != nil { // it is another's now
			return q.Close()
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return errors.Join(store.Close(ctx), q.Close())
	}, nil
}
