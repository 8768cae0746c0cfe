package sqldb_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"wheelhouse/internal/sqldb"
)

// killPath is set in the process that is to be killed.
const killPath = "WHEELHOUSE_SQLDB_KILL_PATH"

func TestMain(m *testing.M) {
	if path := os.Getenv(killPath); path != "" {
		writeUntilKilled(path)
	}
	os.Exit(m.Run())
}

// writeUntilKilled commits pairs of rows from several goroutines and prints each that has been acknowledged.
func writeUntilKilled(path string) {
	ctx := context.Background()
	db, err := sqldb.Open(ctx, path, sqldb.Options{WALPages: 32})
	if err != nil {
		panic(err)
	}
	start, err := strconv.Atoi(os.Getenv("START"))
	if err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	const writers = 8
	for w := range writers {
		wg.Go(func() {
			for k := start + w; ; k += writers {
				err := db.Write(ctx, func(tx *sqldb.Tx) error {
					if err := insert(tx, 2*k, k); err != nil {
						return err
					}
					return insert(tx, 2*k+1, k)
				})
				if err != nil {
					panic(err)
				}
				fmt.Printf("%d\n", k) // unbuffered: it is out before the next commit
			}
		})
	}
	wg.Wait()
}

// TestKill: what was acknowledged before kill -9 is there, and nothing is there by half.
func TestKill(t *testing.T) {
	path := dbPath(t)
	db, err := sqldb.Open(t.Context(), path, sqldb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	acked := make(map[int]bool)
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killPath+"="+path, fmt.Sprintf("START=%d", round*1_000_000))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == 200+round*300 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			k, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
			if err != nil {
				continue // cut off by the kill
			}
			acked[k] = true
		}
		_ = cmd.Wait() // killed

		db := open(t, path, sqldb.Options{})
		got := rows(t, db)
		for k := range acked {
			if got[2*k] != k || got[2*k+1] != k {
				t.Fatalf("round %d: %d was acknowledged and is not there", round, k)
			}
		}
		if len(got)%2 != 0 {
			t.Fatalf("round %d: %d rows; they come in pairs", round, len(got))
		}
		if err := db.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(acked) < 1000 {
		t.Fatalf("only %d commits", len(acked))
	}
}
