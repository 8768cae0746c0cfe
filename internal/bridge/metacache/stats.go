package metacache

import (
	"context"
	"fmt"
	"sync/atomic"

	"wheelhouse/store"
)

type counters struct {
	hits, misses, avoided, failures, fills, lost, deletes, timeouts, waits, swaps atomic.Int64
}

// Stats counts what a [Cache] has done since it was made.
type Stats struct {
	Hits     int64 // look-ups answered by a server
	Misses   int64 // look-ups that a server had no answer for
	Avoided  int64 // look-ups that were not sent, because the server has not answered of late
	Failures int64 // look-ups and probes that a server did not answer
	Fills    int64 // values stored
	Lost     int64 // values that were not stored, mostly because of a change meanwhile
	Deletes  int64 // writes for which servers have deleted keys
	Timeouts int64 // writes for which a server did not
	Waits    int64 // writes that waited until nobody believes in a server any more
	Swaps    int64 // changes of the record of servers by this process
}

// Stats counts what was done.
func (c *Cache) Stats() Stats {
	s := &c.stats
	return Stats{
		Hits: s.hits.Load(), Misses: s.misses.Load(), Avoided: s.avoided.Load(), Failures: s.failures.Load(), Fills: s.fills.Load(),
		Lost: s.lost.Load(), Deletes: s.deletes.Load(), Timeouts: s.timeouts.Load(), Waits: s.waits.Load(), Swaps: s.swaps.Load(),
	}
}

// States counts the servers of this process's list, and those of them that are read from now, as far as this process knows.
func (c *Cache) States() (servers, used int) {
	servers = len(c.opts.Servers)
	l := c.held.Load()
	if l == nil || !l.ours {
		return servers, 0
	}
	for i := range l.members {
		if l.members[i].state == in {
			used++
		}
	}
	return servers, used
}

// Status says what this process knows of the servers of its list, after it has asked the catalog; nil without any. It is for a person who looks now
// and then: it counts as a look-up, so that servers are taken into use.
func (c *Cache) Status(ctx context.Context) *store.LookupStatus {
	if len(c.opts.Servers) == 0 {
		return nil
	}
	c.valid() // which wakes Run
	l, err := c.need(ctx, 0)
	s := c.Stats()
	st := &store.LookupStatus{Hits: s.Hits, Misses: s.Misses, Avoided: s.Avoided, Failures: s.Failures}
	for i, server := range c.opts.Servers {
		state := "unknown"
		switch {
		case err != nil:
		case l.ours:
			state = l.members[i].state.String()
		case len(l.members) > 0:
			state = "other list"
		default:
			state = out.String()
		}
		st.Servers = append(st.Servers, store.LookupServer{Addr: server.String(), State: state})
	}
	return st
}

func noObject(bucket, name string) error {
	return fmt.Errorf("%w: /%s/%s", store.ErrNoObject, bucket, name)
}
