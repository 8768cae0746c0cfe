package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is what came of a run.
type report struct {
	o       options
	l       *load
	faults  map[string]int
	own     bool // each disk was a file system
	net     string
	rebuild time.Duration // the longest
	clocks  string
}

func newReport(o options, l *load, f *faults, c *cluster) *report {
	return &report{o: o, l: l, faults: f.counts, rebuild: f.rebuild, own: c.mounted, net: c.net.kind(), clocks: c.clockWords()}
}

// clockWords says what was done to clocks.
func (c *cluster) clockWords() string {
	switch {
	case c.clocks:
		return "Wall clocks jump by an hour, either way, and back: that of the catalog's machine, of one process there, or of a storage; for that the program is built with a time.Now that adds what a file says."
	case c.noClocks != nil:
		return "Clocks are left alone: " + c.noClocks.Error() + "."
	}
	return "Clocks are left alone."
}

func sum[N int | int64](m map[string]N) (n N) {
	for _, v := range m {
		n += v
	}
	return n
}

func list[N int | int64](m map[string]N) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

// print writes the verdict, as its last lines.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "operations            %d (%s); %d attempts repeated, %d given up\n", sum(r.l.ops), list(r.l.ops), r.l.retries, r.l.gaveUp)
	fmt.Fprintf(w, "faults injected       %d (%s)\n", sum(r.faults), list(r.faults))
	fmt.Fprintf(w, "longest rebuild       %s\n", r.rebuild.Round(100*time.Millisecond))
	r.l.stalls.print(w)
	fmt.Fprintf(w, "objects lost          %d\n", len(r.l.lost))
	fmt.Fprintf(w, "wrong bytes served    %d\n", len(r.l.wrong))
	fmt.Fprintf(w, "longest unavailability: reads %s, writes %s\n",
		r.l.longestRead.Round(10*time.Millisecond), r.l.longestWrit.Round(10*time.Millisecond))
}

func (r *report) verdict() error {
	var errs []error
	if n := len(r.l.lost); n > 0 {
		errs = append(errs, fmt.Errorf("%d objects were lost, the first: %s", n, r.l.lost[0]))
	}
	if n := len(r.l.wrong); n > 0 {
		errs = append(errs, fmt.Errorf("%d answers were wrong, the first: %s", n, r.l.wrong[0]))
	}
	if r.l.gaveUp > 0 {
		errs = append(errs, fmt.Errorf("%d operations were given up after %s", r.l.gaveUp, patience))
	}
	if n := r.faults["rebuild failed"]; n > 0 {
		errs = append(errs, fmt.Errorf("%d rebuilds failed", n))
	}
	if sum(r.faults) == 0 {
		errs = append(errs, errors.New("nothing was broken: the time is too short"))
	}
	return errors.Join(errs...)
}

// write makes the report that goes into the documentation.
func (r *report) write(name string) error {
	var b strings.Builder
	fmt.Fprintf(&b, `# Reliability

`+"`make soak SOAK=30m`"+` runs %d dispatchers, %d workers and %d storages in %d clusters as processes of their own, storages
%s, under a mixed load of %d clients, and breaks something about every %s: it kills
processes, stops them, cuts and slows the network, fills disks, flips bits, and empties disks, which are then rebuilt. Each client knows what was acknowledged to it; it
compares every answer, and at the end everything is read back through every dispatcher.

One storage of a cluster and one dispatcher are broken at a time, and bits are flipped and disks emptied on one storage of each cluster alone: with two
copies that must be durable, that much is promised. %s Disks are %s.

The last run, %s on %d processors, with seed %d (`+"`-seed`"+` repeats the choices, not the moments):

`, dispatchers, workers, clusters*storages, clusters, r.net, r.o.clients, r.o.every, r.clocks,
		map[bool]string{true: "file systems of their own, in memory", false: "directories, and are not filled: that wants root"}[r.own],
		r.o.span, runtime.NumCPU(), r.o.seed)
	r.print(indented{&b})
	b.WriteString(`
"Longest unavailability" is how long a client needed at most to get one request through, with all its repetitions on both dispatchers. Requests
that took over a second are listed with what was broken meanwhile, in seconds from their beginning, and with how each attempt ended.

What may be expected: a storage that falls silent costs a write 300 ms until those that were spared are asked too, and 700 ms until the other cluster
is; a read 400 ms for each such storage. So one fault costs less than a second. Faults that meet cost that for each cluster in turn, 1.4 s here,
and a killed dispatcher one repetition more. Where neither cluster has two storages that can write, because a second one is full, say, or still being
rebuilt behind a broken network, no write can succeed until one is back: that lasts as long as the faults do, up to 8 s here, and the time in which storages are
found to be well again. Above that come the waits of a machine whose processors are busy with all of this at once.
`)
	return os.WriteFile(name, []byte(b.String()), 0o644)
}

// indented makes a block of code of lines.
type indented struct{ w io.Writer }

func (i indented) Write(p []byte) (int, error) {
	_, err := i.w.Write(append([]byte("    "), p...))
	return len(p), err
}
