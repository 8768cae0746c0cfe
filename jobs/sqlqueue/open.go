package sqlqueue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/go-sql-driver/mysql"

	"wheelhouse/internal/sqldb"
)

// OpenURL opens the queue in a database and makes the tables, or what is missing of them; an existing database of
// TheSchwartz is taken over with all its jobs, and Perl goes on working with it. The caller must call Close.
//
//	sqlite:PATH                                    a file, which is made if there is none
//	mysql://USER:PASSWORD@HOST:PORT/DB             MariaDB or MySQL; also mariadb://. Options of go-sql-driver/mysql
//	mysql://USER:PASSWORD@/DB?socket=/PATH         (tls=true …) may stand behind a ?
//	postgres://USER:PASSWORD@HOST:PORT/DB?…        whatever libpq understands, with the HOST as a directory for a socket:
//	                                               postgres://USER@/DB?host=/run/postgresql
//
// Passwords may be left out. They do not appear in errors.
func OpenURL(ctx context.Context, where string, opts Options) (*Queue, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	scheme, rest, ok := strings.Cut(where, ":")
	if !ok {
		return nil, fmt.Errorf("sqlqueue: %q is not the address of a database: want sqlite:PATH, mysql://… or postgres://…", scheme)
	}
	opts = opts.withDefaults()
	switch scheme {
	case "sqlite":
		return openFile(ctx, strings.TrimPrefix(rest, "//"), opts)
	case "mysql", "mariadb":
		return openMySQLURL(ctx, where, opts)
	case "postgres", "postgresql":
		s, err := openPostgres(ctx, where, &opts)
		if err != nil {
			return nil, err
		}
		return finishOpen(ctx, s, opts)
	}
	return nil, fmt.Errorf("sqlqueue: no such kind of database: %q: want sqlite, mysql or postgres", scheme)
}

func openFile(ctx context.Context, path string, opts Options) (*Queue, error) {
	db, err := sqldb.Open(ctx, path, sqldb.Options{Adopt: true})
	if err != nil {
		return nil, err
	}
	q, err := New(ctx, db, opts)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	q.db.(*sqliteDB).own = true
	return q, nil
}

// server is a database that is reached over a connection.
type server interface {
	database
	migrate(ctx context.Context, prefix string) error
}

func finishOpen(ctx context.Context, s server, opts Options) (*Queue, error) {
	q := newQueue(s, opts)
	err := s.migrate(ctx, opts.Prefix)
	if err == nil {
		err = q.setClock(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return q, nil
}

func openMySQLURL(ctx context.Context, where string, opts Options) (*Queue, error) {
	cfg, err := mysqlConfig(where)
	if err != nil {
		return nil, err
	}
	s, err := openMySQL(ctx, cfg, &opts)
	if err != nil {
		return nil, err
	}
	return finishOpen(ctx, s, opts)
}

// mysqlConfig is an address as the driver wants it.
func mysqlConfig(where string) (*mysql.Config, error) {
	u, err := url.Parse(where)
	if err != nil {
		return nil, errors.New("sqlqueue: address of a MySQL database: cannot be parsed; special characters of a password are written as %XX")
	}
	db := strings.TrimPrefix(u.Path, "/")
	if db == "" {
		return nil, fmt.Errorf("sqlqueue: %s: names no database", u.Redacted())
	}
	query := u.Query()
	socket := query.Get("socket")
	query.Del("socket")
	dsn := "/?" + query.Encode() // the driver's own options, checked by it
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("sqlqueue: %s: %w", u.Redacted(), err)
	}
	cfg.DBName, cfg.User = db, u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	switch {
	case socket != "":
		cfg.Net, cfg.Addr = "unix", socket
	case u.Port() == "":
		cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(u.Hostname(), "3306")
	default:
		cfg.Net, cfg.Addr = "tcp", u.Host
	}
	if cfg.Net == "tcp" && u.Hostname() == "" {
		return nil, fmt.Errorf("sqlqueue: %s: names neither a host nor a socket", u.Redacted())
	}
	return cfg, nil
}
