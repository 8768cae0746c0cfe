package dispatcher

import (
	"context"
	"time"
)

// stuckLook is how often the disks of this process are looked at.
const stuckLook = stallAfter / 4

// watchDisks suspects a disk of this process on which reads have begun and none has ended for stallAfter, as one that repeats
// reads of a bad sector or hangs in the kernel does, until ctx ends.
func (d *Dispatcher) watchDisks(ctx context.Context) {
	tick := time.NewTicker(stuckLook)
	defer tick.Stop()
	seen := map[*suspicion]*progress{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		v := d.views.current.Load()
		if v == nil {
			continue // nobody has asked for anything yet
		}
		for _, members := range v.clusters {
			for _, m := range members {
				if !m.local {
					continue
				}
				p := seen[m.sus]
				if p == nil {
					p = &progress{}
					seen[m.sus] = p
				}
				if p.stuck(m.sus.reading.Load(), m.sus.finished.Load()) {
					d.metrics.Stalls.Add(1)
					d.opt.Log.Warn("reads on a disk hang: others are asked first", "storage", uint32(m.ID))
					m.sus.strike(d.opt.Now())
				}
			}
		}
	}
}

// progress is what was seen of a disk's reads.
type progress struct {
	finished int64
	looks    int // in a row at which some were under way and none had ended
}

// stuck takes in how many reads have begun and ended, and reports whether it is time to suspect the disk, again after each
// stallAfter.
func (p *progress) stuck(begun, finished int64) bool {
	if begun <= finished || finished != p.finished {
		p.finished, p.looks = finished, 0
		return false
	}
	p.looks++
	return p.looks%int(stallAfter/stuckLook) == 0
}
