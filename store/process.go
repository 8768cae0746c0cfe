package store

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Process is one of the programs of an installation, as it tells the others of itself.
type Process struct {
	Name    string    `json:"name"` // unique among those that run
	Role    string    `json:"role"` // up, dispatcher, worker
	Version string    `json:"version"`
	Schema  int       `json:"schema"` // of the catalog, that it was made for
	Started time.Time `json:"started"`
	Seen    time.Time `json:"seen"` // when it was last heard of, in whole seconds; set by the catalog
	Foreground
}

// Foreground is how long clients of a process waited of late. The zero value: not known.
type Foreground struct {
	P99   time.Duration `json:"p99_ns,omitempty"` // of reads of small objects, from their request to their last byte
	Reads int64         `json:"reads,omitempty"`  // that the figure is of
}

const (
	// ProcessEvery is how often a process tells of itself when it has nothing new to say.
	ProcessEvery = 5 * time.Second
	// ProcessWindow is how long it counts as running after it was last heard of.
	ProcessWindow = 15 * time.Second
)

// Processes is the part of a [Catalog] in which processes tell each other that they run.
type Processes interface {
	// ReportProcess replaces what is known of the process with that name. Those that have not been heard of for
	// [ProcessWindow] are forgotten.
	ReportProcess(ctx context.Context, p Process) error
	// EndProcess forgets one, because it stops. Names that are not known are ignored.
	EndProcess(ctx context.Context, name string) error
	// Processes lists those that were heard of within ProcessWindow, by role and name.
	Processes(ctx context.Context) ([]Process, error)
}

const (
	// SettingYield is the setting that says how many times longer than in quiet times clients may wait while work is done in
	// the background: above that it makes room. "0": it never does.
	SettingYield = "background.yield"
	// DefaultYield holds when that is not set.
	DefaultYield = 2.0
)

// ParseYield reads the value of [SettingYield]; 0 means never.
func ParseYield(s string) (float64, error) {
	if s == "" {
		return DefaultYield, nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || v != 0 && !(v >= 1.1 && v <= 1000) {
		return 0, fmt.Errorf("%s %q: want how many times longer clients may wait, from 1.1 to 1000, or 0 for any", SettingYield, s)
	}
	return v, nil
}
