package catalog

import (
	"cmp"
	"fmt"
	"time"

	"wheelhouse/internal/sqldb"
	"wheelhouse/store"
)

// Options are the choices of a catalog. The zero value is usable, but then nothing is enqueued.
type Options struct {
	// Enqueue records tasks in the transaction that makes them necessary. nil: tasks are dropped, as a tool that only
	// reads may want. It runs on the writer's goroutine, may run twice, and must not keep tasks.
	Enqueue func(tx *sqldb.Tx, tasks []store.Task) error
	// Grace is how long the entities of a replaced or deleted object stay, so that readers in flight finish.
	// Default 15 min; negative: none.
	Grace time.Duration
	// TopologyAge is how old the answer of Topology may be when another process has changed it. Default 1 s.
	TopologyAge time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// DB are the choices of the database file, used by OpenSQLite.
	DB sqldb.Options
}

const (
	defaultGrace       = 15 * time.Minute
	defaultTopologyAge = time.Second
)

func (o Options) withDefaults() Options {
	o.Grace = max(0, cmp.Or(o.Grace, defaultGrace))
	o.TopologyAge = cmp.Or(o.TopologyAge, defaultTopologyAge)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Validate reports a field that makes no sense.
func (o Options) Validate() error {
	if o.TopologyAge < 0 {
		return fmt.Errorf("catalog: TopologyAge is %v: want 0 (the default, %v) or more", o.TopologyAge, defaultTopologyAge)
	}
	return o.DB.Validate()
}
