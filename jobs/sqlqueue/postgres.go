package sqlqueue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pgServer is a PostgreSQL database.
type pgServer struct {
	pool    *pgxpool.Pool
	d       *dialect
	name    string // of the database, for errors
	channel string // of NOTIFY
	timeout time.Duration
}

func openPostgres(ctx context.Context, url string, opts *Options) (*pgServer, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("sqlqueue: %w", err)
	}
	cfg.MaxConns = int32(opts.Conns)
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = dialTimeout
	}
	s := &pgServer{
		d: newDialect(postgres, opts.Prefix), channel: opts.Prefix + "theschwartz_job", timeout: opts.Timeout,
		name: fmt.Sprintf("postgres://%s/%s", net.JoinHostPort(cfg.ConnConfig.Host, fmt.Sprint(cfg.ConnConfig.Port)), cfg.ConnConfig.Database),
	}
	s.d.arrays = true
	s.d.setWords(opts.Prefix)
	if s.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, s.fail(err)
	}
	return s, nil
}

func (s *pgServer) read(ctx context.Context, f func(ctx context.Context, tx tx) error) error {
	ctx, cancel := bounded(ctx, s.timeout)
	defer cancel()
	return s.fail(again(ctx, s.retry, func() (bool, error) { return true, f(ctx, pgxTx{s.d, s.pool}) }))
}

func (s *pgServer) write(ctx context.Context, f func(ctx context.Context, tx tx) error) error {
	ctx, cancel := bounded(ctx, s.timeout)
	defer cancel()
	return s.fail(again(ctx, s.retry, func() (safe bool, err error) {
		t, err := s.pool.Begin(ctx)
		if err != nil {
			return true, err
		}
		if err := f(ctx, pgxTx{s.d, t}); err != nil {
			_ = t.Rollback(context.WithoutCancel(ctx)) // the first error says more; a broken connection rolls back by itself
			return true, err
		}
		return false, t.Commit(ctx)
	}))
}

// retry reports whether an error passes when the transaction is tried again. safe says that it was not committed.
func (s *pgServer) retry(err error, safe bool) bool {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pe.Code {
		case "40001", "40P01", "55P03": // serialization failure, deadlock, lock timeout: rolled back, also in a commit
			return true
		case "57P01", "57P02": // the server is told to stop
			return safe && s.reset()
		}
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return false // nobody answers
	}
	if _, ok := errors.AsType[net.Error](err); ok || pgconn.SafeToRetry(err) || isClosed(err) {
		return safe && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && s.reset()
	}
	return false
}

// reset closes the connections that the pool has: one is broken, so the others are, most likely. When the server is gone
// the next attempt to connect says so at once.
func (s *pgServer) reset() bool {
	s.pool.Reset()
	return true
}

func (s *pgServer) offset(ctx context.Context) (d time.Duration, err error) {
	err = s.read(ctx, func(ctx context.Context, t tx) error {
		d, err = measureClock(ctx, t, "SELECT CAST(extract(epoch FROM clock_timestamp())*1000000 AS BIGINT)")
		return err
	})
	return d, err
}

func (s *pgServer) close() error {
	s.pool.Close()
	return nil
}

// fail names the database.
func (s *pgServer) fail(err error) error {
	if err == nil || isOwn(err) {
		return err
	}
	return fmt.Errorf("sqlqueue: %s: %w", s.name, err)
}

// listen tells of other processes' jobs. It uses a connection of its own and makes a new one, after a time, when that
// breaks; what it may have missed meanwhile is made good by waking once.
func (s *pgServer) listen(ctx context.Context, wake func()) {
	for delay := firstPause; ctx.Err() == nil; {
		begun := time.Now()
		if s.listenOnce(ctx, wake); time.Since(begun) > lastPause {
			delay = firstPause
		}
		t := time.NewTimer(delay)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		delay = min(2*delay, lastPause)
	}
}

// The pauses between two attempts to listen.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

func (s *pgServer) listenOnce(ctx context.Context, wake func()) {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return // workers poll meanwhile
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it is of no use any more
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{s.channel}.Sanitize()); err != nil {
		return
	}
	for wake(); ; wake() {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return
		}
	}
}
