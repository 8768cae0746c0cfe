package sqlqueue

import (
	"strings"
	"testing"
	"time"

	"wheelhouse/internal/testenv"
	"wheelhouse/jobs"
	"wheelhouse/jobs/jobstest"
)

// TestOldServers runs the suite as on MySQL 8, which does not return what it inserts, and as on servers that cannot skip
// rows that are locked.
func TestOldServers(t *testing.T) {
	for name, weaken := range map[string]func(*dialect){
		"WithoutReturning":  func(d *dialect) { d.returning = false },
		"WithoutSkipLocked": func(d *dialect) { d.skipLocked = false },
	} {
		t.Run(name, func(t *testing.T) {
			jobstest.Queue(t, func(t *testing.T, now func() time.Time) (jobs.Backend, func() jobs.Backend) {
				url := testenv.MariaDB(t)
				open := func() jobs.Backend {
					q, err := OpenURL(t.Context(), url, Options{Now: now, Conns: 4})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						if err := q.Close(); err != nil {
							t.Error(err)
						}
					})
					d := q.db.(*mysqlServer).d
					weaken(d)
					d.setWords("")
					clear(d.texts)
					return q
				}
				return open(), open
			})
		})
	}
}

func FuzzMySQLConfig(f *testing.F) {
	f.Add("mysql://u:p@h:1/db")
	f.Add("mariadb://u@/db?socket=/x&tls=true")
	f.Add("mysql://[::1]/db?timeout=x")
	f.Fuzz(func(t *testing.T, where string) {
		cfg, err := mysqlConfig(where)
		if err == nil && (cfg.DBName == "" || cfg.Addr == "") {
			t.Errorf("mysqlConfig(%q) = %+v", where, cfg)
		}
		if err != nil && strings.Contains(where, ":secret@") && strings.Contains(err.Error(), "secret") {
			t.Errorf("mysqlConfig(%q) = %v", where, err)
		}
	})
}

func TestMySQLConfig(t *testing.T) {
	for where, want := range map[string]string{
		"mysql://u:p%40@h/db":                    "u:p@@tcp(h:3306)/db",
		"mariadb://u@h:7/db":                     "u@tcp(h:7)/db",
		"mysql://u@/db?socket=/run/s&timeout=3s": "u@unix(/run/s)/db?timeout=3s",
		"mysql://[::1]:5/db":                     "@tcp([::1]:5)/db",
	} {
		cfg, err := mysqlConfig(where)
		if err != nil {
			t.Errorf("mysqlConfig(%q): %v", where, err)
			continue
		}
		if got := cfg.FormatDSN(); got != want && strings.TrimPrefix(want, "@") != got {
			t.Errorf("mysqlConfig(%q) = %s; want %s", where, got, want)
		}
	}
}
