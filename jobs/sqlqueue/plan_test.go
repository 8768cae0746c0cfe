package sqlqueue

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/jobs"
)

// TestPlans: grabbing must not look at jobs that are not due, of which there may be millions, and must not sort.
func TestPlans(t *testing.T) {
	db, err := sqldb.Open(t.Context(), t.TempDir()+"/jobs.db", sqldb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	q, err := New(t.Context(), db, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Insert(t.Context(), []jobs.Job{{Func: "f"}}); err != nil {
		t.Fatal(err)
	}
	d := newDialect(sqlite, "")
	for query, want := range map[string][]string{
		readyAtSQL: {"SEARCH j USING INDEX job_ready (funcid=? AND <expr>=? AND run_after<?)"},
		readySQL: {
			"SEARCH j USING COVERING INDEX job_ready (funcid=?)", "SEARCH j USING COVERING INDEX job_ready (funcid=? AND <expr><?)",
			"SEARCH j USING INDEX job_ready (funcid=? AND <expr>=? AND run_after<?)",
		},
	} {
		plan, err := explain(t, db, d.text(query))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(plan, w) {
				t.Errorf("plan of %.60q has no %q:\n%s", query, w, plan)
			}
		}
		if strings.Contains(plan, "SCAN j\n") || query == readyAtSQL && strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("plan of %.60q:\n%s", query, plan)
		}
	}
}

func explain(t *testing.T, db *sqldb.DB, query string) (plan string, err error) {
	t.Helper()
	err = db.Read(t.Context(), func(c *sqldb.Conn) error {
		st, err := c.Select("EXPLAIN QUERY PLAN " + query)
		if err != nil {
			return err
		}
		for {
			row, err := st.Step()
			if err != nil || !row {
				return err
			}
			plan += st.ColumnText(3) + "\n"
		}
	})
	return plan, err
}

func TestAbilities(t *testing.T) {
	for version, want := range map[string]string{
		"10.11.6-MariaDB-1": "true true", "5.5.5-10.6.1-MariaDB": "true true", "10.5.9-MariaDB": "false true", "10.4.1-MariaDB": "false false",
		"11.4.2-MariaDB-log": "true true", "8.0.36": "true false", "8.4.0-commercial": "true false", "5.7.44-log": "false false", "junk": "false false",
	} {
		skip, returning := abilities(version)
		if got := fmt.Sprint(skip, returning); got != want {
			t.Errorf("abilities(%q) = %s; want %s", version, got, want)
		}
	}
}

func TestBucket(t *testing.T) {
	b := bucket{rate: jobs.Rate{N: 10, Per: time.Minute}}
	b.fill(0, 0, 6e6)
	if b.tokens() != 1 {
		t.Errorf("after 6 s there are %d tokens; want 1", b.tokens())
	}
	b.fill(b.micro, 6e6, 1e15)
	if b.tokens() != 10 {
		t.Errorf("after long there are %d tokens; want 10", b.tokens())
	}
	b.take()
	if at := b.fullAt(0); at < 6 || at > 8 {
		t.Errorf("full after %d s; want 6", at)
	}
	b.fill(b.micro, 100, 0) // a clock that was set back
	if b.tokens() != 9 {
		t.Errorf("after the clock was set back there are %d tokens; want 9", b.tokens())
	}
}

func TestBind(t *testing.T) {
	list := rows{[]int64{1, 2}, []string{"a", ""}}
	pgx := newDialect(postgres, "p_")
	pgx.arrays = true
	pgx.setWords("p_")
	for _, c := range []struct {
		d     *dialect
		query string
		args  []any
		want  string
		n     int
	}{
		{newDialect(mysqlDB, "p_"), "INSERT INTO {job} {rows:int,text} x=?", []any{list, 5}, "INSERT INTO p_job VALUES(?,?),(?,?) x=?", 5},
		{newDialect(mysqlDB, ""), "a=? AND id {in} AND b=?", []any{1, idList{7, 8}, 2}, "a=? AND id IN (NULL,7,8) AND b=?", 2},
		{newDialect(mysqlDB, ""), "id {notin}", []any{textList{}}, "id IS NOT NULL", 0},
		{newDialect(postgres, ""), "a=? AND id {in} AND b {notin} AND c=?", []any{1, idList{7}, textList{"x"}, 2}, "a=$1 AND id IN (NULL,7) AND b NOT IN ($2) AND c=$3", 3},
		{pgx, "INSERT INTO {job} {rows:bigint,text} x=? id {in}", []any{list, 5, idList{1}}, "INSERT INTO p_job SELECT * FROM unnest($1::bigint[],$2::text[]) x=$3 id = ANY($4)", 4},
		{newDialect(sqlite, ""), "id {in} AND b=?", []any{idList{7, 8}, 2}, "id IN (SELECT value FROM json_each(?)) AND b=?", 2},
	} {
		for range 2 { // the second time from what is kept
			text, args := c.d.bind(c.query, c.args)
			if text != c.want || len(args) != c.n {
				t.Errorf("bind(%q) = %q, %d arguments; want %q, %d", c.query, text, len(args), c.want, c.n)
			}
		}
	}
}
