package sqldb

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"fmt"
)

func TestSmoke(t *testing.T) {
	db, err := Open(t.Context(), t.TempDir()+"/a.db", Options{})
	if err != nil { t.Fatal(err) }
	defer db.Close()
	if err := db.Migrate(t.Context(), Schema{Name: "x", Steps: []string{"CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB); CREATE TABLE u(b INTEGER)"}}); err != nil { t.Fatal(err) }
	var n atomic.Int64
	var wg sync.WaitGroup
	t0 := time.Now()
	for range 64 {
		wg.Go(func() {
			for range 1000 {
				i := n.Add(1)
				if err := db.Write(t.Context(), func(tx *Tx) error {
					_, err := tx.Exec("INSERT INTO t VALUES(?,?)", func(st *Stmt) { st.BindInt64(1, i); st.BindText(2, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx") })
					return err
				}); err != nil { t.Error(err) }
			}
		})
	}
	wg.Wait()
	fmt.Println(float64(n.Load())/time.Since(t0).Seconds(), "per s")
	fmt.Println(walState(db.checks.conn, "NOOP"))
}
