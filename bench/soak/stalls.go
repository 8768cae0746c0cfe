package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// longStall is from when on a request that was late is reported with what was broken meanwhile.
	longStall = time.Second
	// mostStalls is how many of them are reported, the longest.
	mostStalls = 8
)

// history is what was broken when. Safe for concurrent use.
type history struct {
	mu   sync.Mutex
	list []*breakage
}

// breakage is one fault. end is zero as long as it lasts.
type breakage struct {
	what       string
	begin, end time.Time
}

// begin notes a fault, and returns what is to be called when it is over.
func (h *history) begin(what string) (end func()) {
	b := &breakage{what: what, begin: time.Now()}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, b)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		b.end = time.Now()
	}
}

// during lists what was broken at some time of an interval, and since when and until when, from its beginning.
func (h *history) during(from, to time.Time) (list []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.list {
		if b.begin.After(to) || !b.end.IsZero() && b.end.Before(from) {
			continue
		}
		until := "and on"
		if !b.end.IsZero() {
			until = fmt.Sprintf("to %+.1f s", b.end.Sub(from).Seconds())
		}
		list = append(list, fmt.Sprintf("%s (%+.1f s %s)", b.what, b.begin.Sub(from).Seconds(), until))
	}
	return list
}

// stall is a request that was late.
type stall struct {
	what     string
	took     time.Duration
	attempts []string
	faults   []string
}

func (s *stall) String() string {
	faults := strings.Join(s.faults, ", ")
	if faults == "" {
		faults = "nothing"
	}
	return fmt.Sprintf("%s took %.1f s; broken: %s; attempts: %s", s.what, s.took.Seconds(), faults, strings.Join(s.attempts, ", "))
}

// stalls keeps the longest. Safe for concurrent use.
type stalls struct {
	mu   sync.Mutex
	n    map[string]int // how many there were, by what was done
	list []*stall
}

func (s *stalls) add(kind string, x *stall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == nil {
		s.n = map[string]int{}
	}
	s.n[kind]++
	i, _ := slices.BinarySearchFunc(s.list, x, func(a, b *stall) int { return int(b.took - a.took) })
	if s.list = slices.Insert(s.list, i, x); len(s.list) > mostStalls {
		s.list = s.list[:mostStalls]
	}
}

func (s *stalls) print(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(w, "requests over %s      %d (%s)\n", longStall, sum(s.n), list(s.n))
	for _, x := range s.list {
		fmt.Fprintln(w, "  ", x)
	}
}
