package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"wheelhouse/store"
)

// runStatus shows the whole installation on one screen. It fails when that is not healthy.
func runStatus(ctx context.Context, env *environment, args []string) error {
	f := newClientFlags("status", env).withJSON()
	watch := f.Bool("watch", false, "show it again every two seconds, until interrupted")
	c, _, err := f.parse(args, 0, 0)
	if err != nil {
		return err
	}
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		s, err := askStatus(ctx, c)
		if ctx.Err() != nil {
			return nil // interrupted while watching
		}
		switch {
		case err != nil && !*watch:
			return err
		case *watch && isTerminal(env.stdout):
			fmt.Fprint(env.stdout, "\033[H\033[J")
		}
		switch {
		case err != nil: // it may come back
			fmt.Fprintf(env.stdout, "no status at %s: %v\n", time.Now().Format(time.TimeOnly), err)
		case f.json:
			err = printJSON(env.stdout, s)
		default:
			_, err = io.WriteString(env.stdout, statusScreen{colour: isTerminal(env.stdout), now: time.Now()}.draw(s))
		}
		if !*watch {
			if err == nil && s.Verdict != store.VerdictHealthy {
				err = errUnhealthy
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func askStatus(ctx context.Context, c *store.Client) (*store.Status, error) {
	s := new(store.Status)
	if err := c.Call(ctx, http.MethodGet, "/-/status", nil, s); err != nil {
		return nil, err
	}
	s.Operations = slices.DeleteFunc(s.Operations, func(op store.OperationStatus) bool { return op.State.Final() })
	return s, nil
}

// statusScreen draws a status for people, in 80 columns.
type statusScreen struct {
	colour bool
	now    time.Time
}

const screenWidth = 80

const (
	red    = "\033[1;31m"
	yellow = "\033[1;33m"
	green  = "\033[1;32m"
	plain  = "\033[0m"
)

func (d statusScreen) paint(colour, text string) string {
	if !d.colour {
		return text
	}
	return colour + text + plain
}

func (d statusScreen) verdict(v string) string {
	switch v {
	case store.VerdictHealthy:
		return d.paint(green, strings.ToUpper(v))
	case store.VerdictDegraded:
		return d.paint(yellow, strings.ToUpper(v))
	}
	return d.paint(red, strings.ToUpper(v))
}

func (d statusScreen) draw(s *store.Status) string {
	var b strings.Builder
	first := "everything is in order"
	if len(s.Problems) > 0 {
		first = s.Problems[0].What
		if n := len(s.Problems) - 1; n > 0 {
			first = fmt.Sprintf("%s (and %d more)", cut(first, 46), n)
		}
	}
	first = cut(first, screenWidth-len(s.Verdict)-2-9)
	fmt.Fprintf(&b, "%s  %s%s %s\n", d.verdict(s.Verdict), first,
		strings.Repeat(" ", max(0, screenWidth-len(s.Verdict)-2-len([]rune(first))-9)), d.now.Format(time.TimeOnly))
	fmt.Fprintf(&b, "%s, %s, in %s", counted(s.Totals.Objects, "object"), human(s.Totals.Bytes), counted(s.Totals.Buckets, "bucket"))
	if n := s.Totals.Missing; n > 0 {
		fmt.Fprintf(&b, "; %d entities owed", n)
	}
	if n := s.Totals.DeletedObjects; n > 0 {
		fmt.Fprintf(&b, "; %d deleted", n)
	}
	b.WriteString("\n")
	d.lookups(&b, s.Lookups)
	for _, c := range s.Clusters {
		d.cluster(&b, s, c)
	}
	d.work(&b, s)
	if len(s.Problems) > 0 {
		b.WriteString("\n")
	}
	for _, p := range s.Problems {
		d.problem(&b, p)
	}
	return b.String()
}

// lookups shows the cache servers that are asked before the catalog: those that are not in use first.
func (d statusScreen) lookups(b *strings.Builder, l *store.LookupStatus) {
	if l == nil {
		return
	}
	used, list := 0, ""
	for _, inUse := range []bool{false, true} {
		for _, c := range l.Servers {
			if (c.State == "in") != inUse {
				continue
			}
			if inUse {
				used++
			}
			list += "; " + c.Addr + " " + c.State
		}
	}
	text := fmt.Sprintf("%d of %d in use", used, len(l.Servers))
	if all := l.Hits + l.Misses + l.Avoided + l.Failures; all > 0 {
		text += fmt.Sprintf(", %d%% hits", l.Hits*100/all)
	}
	text = cut(text+list, screenWidth-7)
	if used < len(l.Servers) {
		text = d.paint(yellow, text)
	}
	b.WriteString("CACHES " + text + "\n")
}

func (d statusScreen) cluster(b *strings.Builder, s *store.Status, c store.ClusterStatus) {
	mode := c.Mode
	switch {
	case c.InForce != "" && c.InForce != c.Mode:
		why := "it cannot take any writes"
		if slices.ContainsFunc(s.Clusters, func(other store.ClusterStatus) bool { return other.InForce == store.ClusterRW.String() }) {
			why = "others take the writes"
		}
		mode = d.paint(yellow, c.InForce) + fmt.Sprintf(" (set %s; %s)", c.Mode, why)
	case c.Degraded:
		mode = d.paint(yellow, mode+", degraded")
	}
	fmt.Fprintf(b, "\nCLUSTER %d %s  %s\n", c.ID, c.Name, mode)
	for _, st := range s.Storages {
		if st.Cluster == c.ID {
			d.storage(b, st)
		}
	}
}

func (d statusScreen) storage(b *strings.Builder, st store.StorageStatus) {
	mode := fmt.Sprintf("%-8s", st.Mode)
	switch st.Mode {
	case "rw", "ro", "spare", "drain":
	case "dead":
		mode = d.paint(red, mode)
	default:
		mode = d.paint(yellow, mode)
	}
	space, filled := "space not known yet", bar(st.Used, st.Capacity, 20)
	if !st.DownSince.IsZero() && st.Mode == "down" { // why stands among the problems
		filled = fmt.Sprintf("%-22s", "since "+clockTime(st.DownSince, d.now))
		space = filled
	}
	if st.Capacity > 0 {
		space = fmt.Sprintf("%s %3d%%  %s of %s", filled, st.Used*100/st.Capacity, human(st.Used), human(st.Capacity))
	}
	fmt.Fprintf(b, "%4d %s %s", st.ID, mode, space)
	if st.Owed > 0 {
		fmt.Fprintf(b, "  owed %d", st.Owed)
	}
	b.WriteString("\n")
}

// clockTime is a time of today, or a day.
func clockTime(t, now time.Time) string {
	t = t.Local()
	if now.Sub(t) < 18*time.Hour {
		return t.Format(time.TimeOnly)
	}
	return t.Format("2006-01-02 15:04")
}

// work shows what is being done: long work, and jobs that wait.
func (d statusScreen) work(b *strings.Builder, s *store.Status) {
	var jobs []string
	kinds := make([]string, 0, len(s.Queue))
	for kind := range s.Queue {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		q := s.Queue[kind]
		var parts []string
		for _, p := range []struct {
			n    int64
			what string
		}{{q.Ready, "ready"}, {q.Running, "running"}, {q.Delayed, "delayed"}, {q.Failed, "failed"}} {
			if p.n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
			}
		}
		if len(parts) > 0 {
			jobs = append(jobs, kind+" "+strings.Join(parts, ", "))
		}
	}
	if len(jobs) > 0 {
		fmt.Fprintf(b, "\nJOBS  %s\n", cut(strings.Join(jobs, "; "), screenWidth-6))
	}
	if len(s.Operations) > 0 && len(jobs) == 0 {
		b.WriteString("\n")
	}
	for _, op := range s.Operations {
		b.WriteString("WORK  " + workLine(&op) + "\n")
	}
}

// workLine is an operation in one line.
func workLine(op *store.OperationStatus) string {
	text := fmt.Sprintf("%d %s %s", op.ID, op.Kind, op.Target)
	switch {
	case op.TotalBytes > 0:
		text += fmt.Sprintf(" %s %d%%  %s/s", bar(op.Bytes, op.TotalBytes, 12), min(op.Bytes, op.TotalBytes)*100/op.TotalBytes, human(int64(op.Rate)))
	case op.TotalObjects > 0:
		text += fmt.Sprintf(" %s %d%%  %.0f/s", bar(op.Objects, op.TotalObjects, 12), min(op.Objects, op.TotalObjects)*100/op.TotalObjects, op.ObjectRate)
	default:
		text += " " + counted(op.Objects, "object")
	}
	if op.LeftSeconds > 0 {
		text += "  " + shortTime(time.Duration(op.LeftSeconds)*time.Second) + " left"
	}
	for _, more := range []string{op.Throttled, op.Error} {
		if more != "" {
			text += "  (" + more + ")"
		}
	}
	if op.State != store.OpRunning {
		text += "  " + string(op.State)
	}
	return cut(text, screenWidth-6)
}

func (d statusScreen) problem(b *strings.Builder, p store.Problem) {
	colour := yellow
	if p.Severity == store.VerdictCritical {
		colour = red
	}
	b.WriteString(d.paint(colour, "!") + " " + strings.Join(wrap(cutMiddle(p.What, 2*(screenWidth-2)-8), screenWidth-2), "\n  ") + "\n")
	if p.Do != "" {
		b.WriteString("  " + strings.Join(wrap(p.Do, screenWidth-2), "\n  ") + "\n")
	}
}

// bar draws how full something is.
func bar(done, all int64, width int) string {
	filled := 0
	if all > 0 {
		filled = int(float64(min(max(done, 0), all)) / float64(all) * float64(width))
	}
	return "[" + strings.Repeat("#", filled) + strings.Repeat(".", width-filled) + "]"
}

// cut shortens a text to n characters, and takes out what would spoil a screen.
func cut(s string, n int) string {
	r := []rune(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
	if len(r) <= n {
		return string(r)
	}
	return string(r[:n-1]) + "…"
}

// cutMiddle is cut for a text at whose end stands what was wrong, as with errors.
func cutMiddle(s string, n int) string {
	r := []rune(cut(s, len(s)+1))
	if len(r) <= n {
		return string(r)
	}
	return string(r[:n*2/5]) + "… " + string(r[len(r)-n*3/5+2:])
}

// wrap breaks a text at spaces into lines of at most n characters, as far as its words allow.
func wrap(s string, n int) (lines []string) {
	line := ""
	for _, w := range strings.Fields(s) {
		if line != "" && len([]rune(line))+1+len([]rune(w)) > n {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	return append(lines, line)
}
