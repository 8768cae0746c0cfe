package sqlqueue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"wheelhouse/jobs"
	"wheelhouse/jobs/sqlqueue"
)

// triggers have a database refuse jobs whose argument is "poison".
var triggers = map[string][]string{
	"mysql": {`CREATE TRIGGER refuse BEFORE INSERT ON job FOR EACH ROW BEGIN
		IF NEW.arg='poison' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT='poisoned'; END IF; END`},
	"postgres": {
		`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
			IF NEW.arg=''poison'' THEN RAISE EXCEPTION ''poisoned''; END IF; RETURN NEW; END'`,
		"CREATE TRIGGER refuse BEFORE INSERT ON job FOR EACH ROW EXECUTE FUNCTION refuse()",
	},
}

// TestSharedInserts: calls share transactions, and each gets its own answer: its ids, or the error that is its own fault.
func TestSharedInserts(t *testing.T) {
	for _, k := range kinds[1:] {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			url := k.fresh(t)
			q := openURL(t, url, sqlqueue.Options{})
			db := openSQL(t, url)
			for _, statement := range triggers[newPerl(t, url).kind] {
				if _, err := db.Exec(statement); err != nil {
					t.Fatal(err)
				}
			}
			const callers, calls = 24, 20
			var mu sync.Mutex // guards given
			given := make(map[jobs.ID]string)
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					for i := range calls {
						arg := fmt.Sprintf("%d/%d", c, i)
						list := []jobs.Job{{Func: "f", Arg: []byte(arg + "a")}, {Func: "f", Unique: arg, Arg: []byte(arg + "b")}, {Func: "f", Unique: "same"}}
						poisoned := c == 0 && i%4 == 1
						if poisoned {
							list = append(list, jobs.Job{Func: "f", Arg: []byte("poison")})
						}
						ids, err := q.Insert(t.Context(), list)
						if (err != nil) != poisoned || poisoned && !strings.Contains(err.Error(), "poisoned") {
							t.Errorf("Insert, poisoned %t: %v", poisoned, err)
						}
						mu.Lock()
						for i := range ids {
							if ids[i] != 0 {
								given[ids[i]] = string(list[i].Arg)
							}
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			list, err := q.List(t.Context(), jobs.Filter{Func: "f", Limit: 10_000})
			if err != nil {
				t.Fatal(err)
			}
			if want := 2*(callers*calls-calls/4) + 1; len(list) != want || len(given) != want {
				t.Errorf("there are %d jobs, and %d ids were given; want %d", len(list), len(given), want)
			}
			for _, r := range list {
				if arg, ok := given[r.ID]; !ok || arg != string(r.Arg) {
					t.Errorf("job %d is %q; it was given for %q (%t)", r.ID, r.Arg, arg, ok)
				}
			}
		})
	}
}

// TestInsertGivenUp: who waits for others' transactions may leave, and nobody is left behind.
func TestInsertGivenUp(t *testing.T) {
	url := kinds[2].fresh(t)
	q := openURL(t, url, sqlqueue.Options{})
	if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err != nil {
		t.Fatal(err)
	}
	tx, err := openSQL(t, url).Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("LOCK TABLE job IN EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 { // more than insert at a time
		wg.Go(func() {
			if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err != nil {
				t.Error(err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for range 5 {
		wg.Go(func() {
			if _, err := q.Insert(ctx, []jobs.Job{{Func: "f"}}); !errors.Is(err, context.DeadlineExceeded) {
				// It may have been taken along by one who goes on.
				if err != nil {
					t.Errorf("Insert = %v; want it to be given up", err)
				}
			}
		})
	}
	<-ctx.Done()
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if got := grabAll(t, q, "f"); len(got) < 5 {
		t.Errorf("%d jobs; want those that were not given up", len(got))
	}
}
