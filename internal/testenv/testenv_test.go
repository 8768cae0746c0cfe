package testenv

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

func TestServers(t *testing.T) {
	for _, k := range []Kind{MariaDBServer, PostgreSQLServer} {
		t.Run(k.name(), func(t *testing.T) {
			t.Parallel()
			s := New(t, k)
			if err := s.Create(t.Context(), "earlier"); err != nil {
				t.Fatal(err)
			}
			old := s.Pid()
			if err := s.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := s.Run(); err != nil {
				t.Fatal(err)
			}
			if s.Pid() == old {
				t.Errorf("the process is the same: %d", old)
			}
			if err := s.Create(t.Context(), "earlier"); err == nil {
				t.Error("what was made before the crash is gone")
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
				t.Errorf("the files are left: %v", err)
			}
		})
	}
}

func TestFresh(t *testing.T) {
	for _, fresh := range []func(testing.TB) string{MariaDB, PostgreSQL} {
		if a, b := fresh(t), fresh(t); a == b {
			t.Errorf("two databases have the address %s", a)
		}
	}
}
