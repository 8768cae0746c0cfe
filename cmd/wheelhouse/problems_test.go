package main

import (
	"bytes"
	"strings"
	"testing"

	"wheelhouse/store"
)

// A list of problems that is not complete says so.
func TestProblemsThatWereCut(t *testing.T) {
	list := make([]store.OperationProblem, store.MaxProblems)
	for _, tt := range []struct {
		counted int64
		want    string
	}{{store.MaxProblems, ""}, {store.MaxProblems + 7, "and 7 more, which are not on record"}} {
		var b bytes.Buffer
		if err := allProblems(&b, &store.OperationStatus{Problems: tt.counted}, list); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		rest := strings.Join(lines[store.MaxProblems+1:], "\n")
		if tt.want == "" && rest != "" || !strings.HasPrefix(rest, tt.want) {
			t.Errorf("%d problems: the table ends with %q; want %q", tt.counted, rest, tt.want)
		}
	}
}
