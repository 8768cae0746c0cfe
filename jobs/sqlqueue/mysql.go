package sqlqueue

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// mysqlServer is a MariaDB or MySQL server.
type mysqlServer struct {
	db      *sql.DB
	d       *dialect
	name    string // of the database, for errors
	timeout time.Duration
}

// dialTimeout is how long a server may take to answer a new connection.
const dialTimeout = 5 * time.Second

// openMySQL connects. cfg says where to.
func openMySQL(ctx context.Context, cfg *mysql.Config, opts *Options) (*mysqlServer, error) {
	cfg.InterpolateParams = true // one round trip for a statement, instead of two
	cfg.MultiStatements = false
	cfg.ParseTime = false
	cfg.MaxAllowedPacket = 0 // as the server says: an argument that is too long is then an error of one call
	cfg.Timeout = dialTimeout
	cfg.RejectReadOnly = true
	cfg.Logger = &mysql.NopLogger{} // what it says comes back as an error, too
	conn, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("sqlqueue: %w", err)
	}
	s := &mysqlServer{
		db: sql.OpenDB(readCommitted{conn}), d: newDialect(mysqlDB, opts.Prefix), timeout: opts.Timeout,
		name: fmt.Sprintf("mysql://%s/%s", cfg.Addr, cfg.DBName),
	}
	s.db.SetMaxOpenConns(opts.Conns)
	s.db.SetMaxIdleConns(opts.Conns)
	s.db.SetConnMaxIdleTime(5 * time.Minute) // servers close those that were idle for long
	if err := s.examine(ctx, opts.Prefix); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

// examine finds out what the server can do.
func (s *mysqlServer) examine(ctx context.Context, prefix string) error {
	ctx, cancel := bounded(ctx, s.timeout)
	defer cancel()
	var version string
	if err := s.db.QueryRowContext(ctx, "SELECT VERSION(), @@auto_increment_increment").Scan(&version, &s.d.idStep); err != nil {
		return s.fail(err)
	}
	s.d.skipLocked, s.d.returning = abilities(version)
	s.d.setWords(prefix)
	return nil
}

// abilities says what a version of MariaDB or MySQL has: SKIP LOCKED, and INSERT … RETURNING.
func abilities(version string) (skipLocked, returning bool) {
	text, _, maria := strings.Cut(strings.TrimPrefix(version, "5.5.5-"), "-MariaDB") // the prefix is of old replication's sake
	major, rest, _ := strings.Cut(text, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, _ := strconv.Atoi(major) // what is no number is an old server
	b, _ := strconv.Atoi(minor)
	if maria {
		return a > 10 || a == 10 && b >= 6, a > 10 || a == 10 && b >= 5
	}
	return a >= 8, false
}

// readCommitted gives new connections the isolation that a queue needs: with more, waiting for rows in an index locks the
// gaps between them too, and those who insert there wait.
type readCommitted struct{ driver.Connector }

func (c readCommitted) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	_, err = conn.(driver.ExecerContext).ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (s *mysqlServer) read(ctx context.Context, f func(ctx context.Context, tx tx) error) error {
	ctx, cancel := bounded(ctx, s.timeout)
	defer cancel()
	return s.fail(again(ctx, mysqlRetry, func() (bool, error) { return true, f(ctx, sqlTx{s.d, s.db}) }))
}

func (s *mysqlServer) write(ctx context.Context, f func(ctx context.Context, tx tx) error) error {
	ctx, cancel := bounded(ctx, s.timeout)
	defer cancel()
	return s.fail(again(ctx, mysqlRetry, func() (safe bool, err error) {
		t, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return true, err
		}
		if err := f(ctx, sqlTx{s.d, t}); err != nil {
			_ = t.Rollback() // the first error says more; a broken connection rolls back by itself
			return true, err
		}
		return false, t.Commit()
	}))
}

// mysqlRetry reports whether an error passes when the transaction is tried again. safe says that it was not committed.
func mysqlRetry(err error, safe bool) bool {
	if me, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return me.Number == 1213 || me.Number == 1205 // deadlock, lock wait timeout: rolled back, also in a commit
	}
	// A connection that broke. When the server is gone the next attempt to connect says so at once.
	return safe && (errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, driver.ErrBadConn))
}

func (s *mysqlServer) offset(ctx context.Context) (d time.Duration, err error) {
	err = s.read(ctx, func(ctx context.Context, t tx) error {
		d, err = measureClock(ctx, t, "SELECT CAST(UNIX_TIMESTAMP(NOW(6))*1000000 AS SIGNED)")
		return err
	})
	return d, err
}

func (s *mysqlServer) listen(context.Context, func()) {}

func (s *mysqlServer) close() error { return s.db.Close() }

// fail names the database and what can be done.
func (s *mysqlServer) fail(err error) error {
	if err == nil || isOwn(err) {
		return err
	}
	advice := ""
	if errors.Is(err, mysql.ErrPktTooLarge) {
		advice = " (raise the server's max_allowed_packet to more than twice the longest argument)"
	}
	return fmt.Errorf("sqlqueue: %s: %w%s", s.name, err, advice)
}
