package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"wheelhouse/internal/sqldb"
)

var errChosen = errors.New("the closure failed")

// hold occupies the writer until release is called, which waits for n calls to be waiting, so that they become one group.
func hold(t *testing.T, db *sqldb.DB) (release func(n int)) {
	t.Helper()
	entered, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- db.Write(context.Background(), func(*sqldb.Tx) error {
			close(entered)
			<-leave
			return nil
		})
	}()
	<-entered
	return func(n int) {
		t.Helper()
		for db.Waiting() < n {
			runtime.Gosched()
		}
		close(leave)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// groupOp is a closure that inserts rows key, key+1, …, and fails before the failAt-th, or after all of them; -1: never.
type groupOp struct{ key, value, writes, failAt int }

func (o groupOp) run(tx *sqldb.Tx) error {
	for w := range o.writes {
		if w == o.failAt {
			return errChosen
		}
		if err := insert(tx, o.key+w, o.value); err != nil {
			return err
		}
		st, err := tx.Select("SELECT v FROM t WHERE k=?")
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(o.key+w))
		if row, err := st.Step(); err != nil || !row {
			return fmt.Errorf("its own row: %v, %v", row, err)
		}
	}
	if o.failAt == o.writes {
		return errChosen
	}
	return nil
}

// TestGroupIsolation: closures of one group, some of which fail before, in the middle of or after their changes, leave
// exactly what those that succeed leave alone.
func TestGroupIsolation(t *testing.T) {
	db := open(t, dbPath(t), sqldb.Options{})
	want := make(map[int]int)
	for round := range 60 {
		r := rand.New(rand.NewPCG(uint64(round), 7))
		release := hold(t, db)
		ops := make([]groupOp, 20)
		errs := make([]error, len(ops))
		var wg sync.WaitGroup
		for i := range ops {
			o := groupOp{key: round*1000 + i*10, value: i, writes: 1 + r.IntN(4), failAt: -1}
			if r.IntN(5) == 0 || round%7 == 0 && i%2 == 0 {
				o.failAt = r.IntN(o.writes + 1)
			}
			ops[i] = o
			wg.Go(func() { errs[i] = db.Write(context.Background(), o.run) })
		}
		release(len(ops))
		wg.Wait()
		for i, o := range ops {
			if o.failAt >= 0 {
				if !errors.Is(errs[i], errChosen) {
					t.Fatalf("round %d: closure %d = %v; want %v", round, i, errs[i], errChosen)
				}
				continue
			}
			if errs[i] != nil {
				t.Fatalf("round %d: closure %d = %v", round, i, errs[i])
			}
			for w := range o.writes {
				want[o.key+w] = i
			}
		}
		if got := rows(t, db); !maps.Equal(got, want) {
			t.Fatalf("round %d: %d rows; want %d", round, len(got), len(want))
		}
	}
}

// TestGroupConstraint: a violated constraint is one closure's affair.
func TestGroupConstraint(t *testing.T) {
	db := open(t, dbPath(t), sqldb.Options{})
	release := hold(t, db)
	var wg sync.WaitGroup
	var ok, dup atomic.Int32
	for i := range 10 {
		wg.Go(func() {
			switch err := put(db, i/2, i); {
			case err == nil:
				ok.Add(1)
			case sqldb.IsConstraint(err):
				dup.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	release(10)
	wg.Wait()
	if ok.Load() != 5 || dup.Load() != 5 || len(rows(t, db)) != 5 {
		t.Errorf("%d succeeded, %d were duplicates, %d rows; want 5 each", ok.Load(), dup.Load(), len(rows(t, db)))
	}
}

// TestShared: what closures of a group leave in SetValue is written once, by those that succeed, and again when the
// group is done again.
func TestShared(t *testing.T) {
	db := open(t, dbPath(t), sqldb.Options{})
	if err := put(db, 0, 0); err != nil {
		t.Fatal(err)
	}
	type key struct{}
	var flushes, after atomic.Int32
	add := func(n int, fail error) error {
		return db.Write(t.Context(), func(tx *sqldb.Tx) error {
			sum, _ := tx.Value(key{}).(*int)
			if sum == nil {
				sum = new(int)
				tx.SetValue(key{}, sum, func(tx *sqldb.Tx) error {
					flushes.Add(1)
					_, err := tx.Exec("UPDATE t SET v=v+? WHERE k=0", func(st *sqldb.Stmt) { st.BindInt64(1, int64(*sum)) })
					return err
				})
			}
			tx.AfterCommit(func() { after.Add(1) })
			if fail != nil {
				if err := insert(tx, n, n); err != nil {
					return err
				}
				return fail
			}
			*sum += n // the last step
			return nil
		})
	}
	release := hold(t, db)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			var fail error
			if i%5 == 4 {
				fail = errChosen
			}
			if err := add(i+1, fail); !errors.Is(err, fail) {
				t.Errorf("Write = %v; want %v", err, fail)
			}
		})
	}
	release(10)
	wg.Wait()
	const want = 1 + 2 + 3 + 4 + 6 + 7 + 8 + 9
	if got := rows(t, db); len(got) != 1 || got[0] != want {
		t.Errorf("rows are %v; want 0:%d alone", got, want)
	}
	if flushes.Load() != 1 || after.Load() != 8 {
		t.Errorf("%d flushes, %d calls after the commit; want 1 and 8", flushes.Load(), after.Load())
	}
}

// TestFlushFails: then nobody's changes are kept, and everybody is told.
func TestFlushFails(t *testing.T) {
	db := open(t, dbPath(t), sqldb.Options{})
	release := hold(t, db)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
				if i == 2 {
					tx.SetValue("k", 1, func(*sqldb.Tx) error { return errChosen })
				}
				tx.AfterCommit(func() { t.Error("called after a failed commit") })
				return insert(tx, i, i)
			})
			if !errors.Is(err, errChosen) {
				t.Errorf("Write = %v; want %v", err, errChosen)
			}
		})
	}
	release(4)
	wg.Wait()
	if got := rows(t, db); len(got) != 0 {
		t.Errorf("rows are %v; want none", got)
	}
}

// TestPanic: it is the caller's, and the others of the group are not disturbed.
func TestPanic(t *testing.T) {
	db := open(t, dbPath(t), sqldb.Options{})
	release := hold(t, db)
	var wg sync.WaitGroup
	var panics atomic.Int32
	for i := range 6 {
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					panics.Add(1)
				}
			}()
			err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
				if err := insert(tx, i, i); err != nil {
					return err
				}
				if i%3 == 0 {
					panic(i)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	release(6)
	wg.Wait()
	if got := rows(t, db); panics.Load() != 2 || len(got) != 4 {
		t.Errorf("%d panics, rows %v; want 2 and 4 rows", panics.Load(), got)
	}
}

// TestWriteContext: a call whose context ends before the writer takes it has not happened; one that was taken is waited
// for.
func TestWriteContext(t *testing.T) {
	db := open(t, dbPath(t), sqldb.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	release := hold(t, db)
	early := make(chan error)
	go func() {
		early <- db.Write(ctx, func(tx *sqldb.Tx) error { return insert(tx, 1, 1) })
	}()
	for db.Waiting() == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-early; !errors.Is(err, context.Canceled) {
		t.Errorf("Write = %v; want %v", err, context.Canceled)
	}
	release(0)

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	err := db.Write(ctx, func(tx *sqldb.Tx) error {
		cancel() // as if the caller had gone while it runs
		return insert(tx, 2, 2)
	})
	if err != nil {
		t.Errorf("Write = %v; want the result", err)
	}
	if got := rows(t, db); !maps.Equal(got, map[int]int{2: 2}) {
		t.Errorf("rows are %v; want 2 alone", got)
	}
}

// TestSelectRefusesChanges: what is not counted cannot be undone.
func TestSelectRefusesChanges(t *testing.T) {
	db := open(t, dbPath(t), sqldb.Options{})
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Select("DELETE FROM t")
		return err
	})
	if err == nil {
		t.Error("Select took a DELETE")
	}
	err = db.Read(t.Context(), func(c *sqldb.Conn) error {
		st, err := c.Select("INSERT INTO t VALUES(1,1)")
		if err != nil {
			return err
		}
		_, err = st.Step()
		return err
	})
	if err == nil {
		t.Error("a reader could write")
	}
}
