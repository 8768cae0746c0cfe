package testenv

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
)

// The kinds of server.
var (
	MariaDBServer    Kind = mariaDB
	PostgreSQLServer Kind = postgreSQL
)

var (
	mariaDB    = maria{}
	postgreSQL = postgres{}
)

type maria struct{}

func (maria) name() string         { return "mariadbd" }
func (maria) pkg() string          { return "mariadb-server" }
func (maria) user() string         { return "mysql" }
func (maria) stop() syscall.Signal { return syscall.SIGTERM }

func (maria) init(s *Server) *exec.Cmd {
	return exec.Command("mariadb-install-db", "--no-defaults", "--datadir="+filepath.Join(s.dir, "data"),
		"--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-flush-log-at-trx-commit=2",
		"--innodb-log-file-size=64M", "--innodb-buffer-pool-size=64M")
}

func (maria) serve(s *Server) *exec.Cmd {
	path, _ := program("mariadbd") // Start has looked
	flush := "2"
	if s.durable {
		flush = "1"
	}
	return exec.Command(path, "--no-defaults", "--datadir="+filepath.Join(s.dir, "data"), "--socket="+filepath.Join(s.dir, "sock"),
		"--pid-file="+filepath.Join(s.dir, "pid"), "--tmpdir="+s.dir, // a server that starts clears the common one
		"--bind-address=127.0.0.1", fmt.Sprintf("--port=%d", s.port),
		"--innodb-flush-log-at-trx-commit="+flush, "--innodb-log-file-size=64M", "--innodb-buffer-pool-size=128M",
		"--max-allowed-packet=64M", "--max-connections=500", "--skip-name-resolve", "--performance-schema=OFF",
		"--innodb-doublewrite="+map[bool]string{true: "ON", false: "OFF"}[s.durable])
}

func (maria) url(s *Server, database string) string {
	return "mysql://root@/" + database + "?socket=" + s.Socket()
}

func (maria) exec(ctx context.Context, s *Server, statement string) (err error) {
	db, err := sql.Open("mysql", fmt.Sprintf("root@unix(%s)/", s.Socket()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, statement)
	return err
}

func init() { _ = mysql.SetLogger(&mysql.NopLogger{}) } // it logs each attempt to connect to a server that is not up yet

type postgres struct{}

func (postgres) name() string         { return "postgres" }
func (postgres) pkg() string          { return "postgresql" }
func (postgres) user() string         { return "postgres" }
func (postgres) stop() syscall.Signal { return syscall.SIGINT } // "fast": does not wait for clients

func (postgres) init(s *Server) *exec.Cmd {
	path, err := program("initdb")
	if err != nil {
		path = "initdb" // said so when it is run
	}
	return exec.Command(path, "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D", filepath.Join(s.dir, "data"))
}

func (postgres) serve(s *Server) *exec.Cmd {
	path, _ := program("postgres") // Start has looked
	args := []string{
		"-D", filepath.Join(s.dir, "data"), "-h", "127.0.0.1", "-p", fmt.Sprint(s.port), "-k", s.dir,
		"-c", "max_connections=300", "-c", "shared_buffers=128MB",
	}
	if !s.durable {
		args = append(args, "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	return exec.Command(path, args...)
}

func (postgres) url(s *Server, database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

func (postgres) exec(ctx context.Context, s *Server, statement string) (err error) {
	conn, err := pgx.Connect(ctx, s.kind.url(s, "postgres"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, statement)
	return err
}
