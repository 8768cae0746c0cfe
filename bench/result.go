package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// Report is one run.
type Report struct {
	Machine   string    `json:"machine"`
	Program   string    `json:"program"`
	LoadAfter string    `json:"load_after"`
	Begun     time.Time `json:"begun"`
	Seconds   float64   `json:"seconds"`
	Quick     bool      `json:"quick"`
	Rounds    int       `json:"rounds"`
	Results   []Result  `json:"results"`
}

// Result is one row of the table.
type Result struct {
	Name    string   `json:"name"`
	Ours    Figure   `json:"ours"`
	Peer    Figure   `json:"peer"`
	Ratio   *Spread  `json:"ratio,omitempty"`
	Target  *Target  `json:"target,omitempty"`
	Verdict string   `json:"verdict"`
	Notes   []string `json:"notes,omitempty"`
	Rounds  *duel    `json:"rounds,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// Figure is a number with its unit; without a unit there is none.
type Figure struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

func (f Figure) String() string {
	switch {
	case f.Unit == "":
		return "–"
	case f.Value >= 100_000:
		return fmt.Sprintf("%.0f k %s", f.Value/1e3, f.Unit)
	case f.Value >= 100:
		return fmt.Sprintf("%.0f %s", f.Value, f.Unit)
	case f.Value >= 10:
		return fmt.Sprintf("%.1f %s", f.Value, f.Unit)
	}
	return fmt.Sprintf("%.2f %s", f.Value, f.Unit)
}

// Spread is what the rounds gave.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func (s *Spread) String() string {
	if s == nil {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Min, s.Max)
}

// Target is what a row should reach: a ratio that is at least Value, or a figure that is at most Value, or at least that.
type Target struct {
	Ratio bool    `json:"ratio"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
	Least bool    `json:"least,omitempty"` // of a figure
}

// atLeast is a target for the ratio of ours to the peer's.
func atLeast(ratio float64) *Target { return &Target{Ratio: true, Value: ratio} }

// atMost is a target for our figure.
func atMost(value float64, unit string) *Target { return &Target{Value: value, Unit: unit} }

// rateAtLeast is a target for our figure where more is better.
func rateAtLeast(value float64, unit string) *Target {
	return &Target{Value: value, Unit: unit, Least: true}
}

func (t *Target) String() string {
	switch {
	case t == nil:
		return "–"
	case t.Ratio:
		return fmt.Sprintf("≥ %.2f", t.Value)
	case t.Least:
		return fmt.Sprintf("≥ %g %s", t.Value, t.Unit)
	}
	return fmt.Sprintf("≤ %g %s", t.Value, t.Unit)
}

// judge says whether a row reaches its target.
func (r *Result) judge() string {
	missed := 0.0
	switch {
	case r.Error != "":
		return "NOT MEASURED"
	case r.Target == nil:
		return "for information"
	case r.Target.Ratio:
		missed = (r.Target.Value - r.Ratio.Median) / r.Target.Value
	case r.Target.Least:
		missed = (r.Target.Value - r.Ours.Value) / r.Target.Value
	default:
		missed = (r.Ours.Value - r.Target.Value) / r.Target.Value
	}
	if missed <= 0 {
		return "ok"
	}
	return fmt.Sprintf("MISSED by %.1f %%", missed*100)
}

// print writes the table, and below it what a figure does not say.
func (p *Report) print(w io.Writer) {
	rows := [][]string{{"name", "ours", "peer", "ratio (min–max)", "target", "verdict"}}
	for i := range p.Results {
		r := &p.Results[i]
		r.Verdict = r.judge()
		rows = append(rows, []string{r.Name, r.Ours.String(), r.Peer.String(), r.Ratio.String(), r.Target.String(), r.Verdict})
	}
	fmt.Fprintln(w)
	printTable(w, rows)
	fmt.Fprintln(w)
	for _, r := range p.Results {
		for _, note := range r.Notes {
			fmt.Fprintf(w, "%s: %s\n", r.Name, note)
		}
		if r.Rounds != nil {
			if note := r.Rounds.stolenNote(); note != "" {
				fmt.Fprintf(w, "%s: %s\n", r.Name, note)
			}
		}
		if r.Error != "" {
			fmt.Fprintf(w, "%s: NOT MEASURED: %s\n", r.Name, r.Error)
		}
	}
	fmt.Fprintf(w, "%s\n%s\n", p.Machine, p.Program)
	fmt.Fprintf(w, "%d rounds, %.0f s, load afterwards %s\n", p.Rounds, p.Seconds, p.LoadAfter)
	if p.Quick {
		fmt.Fprintln(w, "-quick: short rounds and small sets; the verdicts are indications only")
	}
}

func printTable(w io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			row[i] = cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		if n > 0 {
			continue
		}
		for i, width := range widths {
			row[i] = strings.Repeat("-", width)
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
}

// write leaves the report as JSON. print must have been called.
func (p *Report) write(file string) error {
	text, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644) // nothing in it is secret
}

// failed is an error when a line could not be measured.
func (p *Report) failed() error {
	var names []string
	for _, r := range p.Results {
		if r.Error != "" {
			names = append(names, r.Name)
		}
	}
	if len(names) > 0 {
		return errors.New("not measured: " + strings.Join(names, ", "))
	}
	return nil
}
