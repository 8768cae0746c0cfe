package testenv

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

// shared is a server that all tests of a binary use.
type shared struct {
	kind Kind
	once sync.Once
	s    *Server
	err  error
}

var (
	inMain   atomic.Bool
	servers  = [...]*shared{{kind: mariaDB}, {kind: postgreSQL}}
	sequence atomic.Int64 // of databases
)

// Main is TestMain of packages that use [MariaDB] or [PostgreSQL]. It does not return.
func Main(m *testing.M) {
	inMain.Store(true)
	code := m.Run()
	for _, sh := range servers {
		sh.once.Do(func() {}) // nobody starts it any more
		if sh.s == nil {
			continue
		}
		if err := sh.s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "testenv:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// MariaDB returns the address of a fresh database, as package sqlqueue takes it.
func MariaDB(t testing.TB) string { return servers[0].fresh(t) }

// PostgreSQL returns the address of a fresh database, as package sqlqueue takes it.
func PostgreSQL(t testing.TB) string { return servers[1].fresh(t) }

func (sh *shared) fresh(t testing.TB) string {
	t.Helper()
	if !inMain.Load() {
		t.Fatal("testenv: TestMain of this package must be testenv.Main")
	}
	sh.once.Do(func() { sh.s, sh.err = Start(sh.kind, "", false) })
	if sh.err != nil {
		t.Fatal(sh.err)
	}
	name := fmt.Sprintf("test%d", sequence.Add(1))
	if err := sh.s.Create(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return sh.s.URL(name)
}

// New starts a server for one test, which is stopped when that ends.
func New(t testing.TB, kind Kind) *Server {
	t.Helper()
	s, err := Start(kind, "", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}
