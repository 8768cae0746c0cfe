package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Outage says that a storage is reported failing, since when and why. The zero Outage: it is not.
type Outage struct {
	Since  time.Time
	Reason string
	// Uncounted is how much of the time since then nobody has watched the storage, or the clock has jumped by; negative where it was
	// set back. Like what was before a mode was last set, it does not count towards [SettingDeadAfter].
	Uncounted time.Duration
}

// Active reports whether there is one.
func (o Outage) Active() bool { return !o.Since.IsZero() }

// Lasted is for how long somebody has seen it at a time.
func (o Outage) Lasted(now time.Time) time.Duration { return now.Sub(o.Since) - o.Uncounted }

// StorageHealth is what one part of the installation has seen of one storage of late.
type StorageHealth struct {
	Storage StorageID
	OK      bool
	Reason  string // of a failing one, for people
}

// HealthChange is what a report has changed.
type HealthChange struct {
	Storage StorageID
	Mode    StorageMode // in force from now on
	Outage  Outage      // of a storage that is down or was declared dead
	Was     Outage      // of one that has come back
}

// Health is the part of a [Catalog] in which dispatchers and workers tell each other which storages fail.
type Health interface {
	// ReportHealth records what reporter has seen: of the storages in the list, and of no others. It replaces what it said before, of others
	// too. All these storages are then judged: each is down when more than half of the reporters that were heard
	// within [HealthWindow] say that it fails, and no longer down when fewer than half do, so that one process that is cut
	// off from the others cannot take storages down. One that has been down for the setting [SettingDeadAfter] is set
	// dead, as long as another storage of its cluster is in service: when a whole site was off, nothing is declared lost.
	// Only time in which it was reported at least every [HealthGap] counts, so that neither a clock that jumps nor a night in
	// which nothing ran makes it dead.
	// It returns what has changed. Unknown storages are ignored. With an empty list the reporter has nothing to say, for instance as it stops.
	ReportHealth(ctx context.Context, reporter string, list []StorageHealth) ([]HealthChange, error)
	// Owed counts the entities that each storage is owed; those that are owed none are left out.
	Owed(ctx context.Context) (map[StorageID]int64, error)
}

const (
	// HealthWindow is how long a report counts.
	HealthWindow = 11 * time.Second
	// HealthGap is how long nothing may be reported of a storage that is down until the time does not count.
	HealthGap = time.Minute
	// HealthEvery is how often reports are repeated when nothing changes.
	HealthEvery = 5 * time.Second
	// SettingDeadAfter is the setting that says after what time a storage that is down is declared dead: a duration such as
	// "12h", or "0" for never.
	SettingDeadAfter = "health.dead_after"
	// DefaultDeadAfter is what holds when that is not set.
	DefaultDeadAfter = 12 * time.Hour
)

// ParseDeadAfter reads the value of [SettingDeadAfter]; 0 means never.
func ParseDeadAfter(s string) (time.Duration, error) {
	if s == "" {
		return DefaultDeadAfter, nil
	}
	if s == "0" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s %q: want a duration such as 12h, or 0 for never", SettingDeadAfter, s)
	}
	return d, nil
}

// Lost reports whether a storage does not serve as it should: it is down, dead or being filled.
func (m StorageMode) Lost() bool { return m == ModeDown || m == ModeDead || m == ModeFilling }

// ErrAbsent says that a storage's disk is not there: not mounted, taken out, or another one. Nothing was written; try
// another storage.
var ErrAbsent = errors.New("store: the storage's disk is not there")

// Prober is what a [Device] may offer besides: a look at the disk itself.
type Prober interface {
	// Probe writes a few bytes, makes them durable, reads them back and compares. nil: the disk does what it should. A disk
	// that is merely full passes.
	Probe(ctx context.Context) error
}

// Probe probes a device; one that offers no probe is asked for its space.
func Probe(ctx context.Context, d Device) error {
	if p, ok := d.(Prober); ok {
		return p.Probe(ctx)
	}
	_, err := d.Usage(ctx)
	return err
}

// Accepter is what a [Device] may offer besides: taking an empty directory for a new disk.
type Accepter interface {
	// Accept makes the storage's directory, which must be empty or not there, this storage's, where the old disk was
	// replaced by a blank one. Without it an empty directory is taken for a disk that is not mounted. It does nothing when
	// the storage is there.
	Accept(ctx context.Context) error
}

// Accept tells a device to take an empty directory for its new disk.
func Accept(ctx context.Context, d Device) error {
	if a, ok := d.(Accepter); ok {
		return a.Accept(ctx)
	}
	return nil
}
