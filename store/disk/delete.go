package disk

import (
	"cmp"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"wheelhouse/store"
)

// delReq asks for deletions; all of ids in one pack when pack is set, wherever they are otherwise.
type delReq struct {
	ids  []store.ObjectID
	pack *pack
	done chan<- error // nil: nobody waits
}

// deleter gathers waiting deletions, so that they share the syncs of the delete logs. Its goroutine exists only while
// there is something to delete.
type deleter struct {
	d *Disk

	mu      sync.Mutex
	idle    sync.Cond
	queue   []delReq
	running bool
	closed  bool
}

func (c *deleter) submit(r delReq) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.queue = append(c.queue, r)
	if !c.running {
		c.running = true
		go c.run()
	}
	return true
}

func (c *deleter) run() {
	for {
		c.mu.Lock()
		batch := c.queue
		c.queue = nil
		if len(batch) == 0 {
			c.running = false
			c.idle.Broadcast()
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		err := c.d.deleteBatch(batch)
		for _, r := range batch {
			if r.done != nil {
				r.done <- err
			}
		}
	}
}

func (c *deleter) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for c.running {
		c.idle.Wait()
	}
}

// Delete implements [store.Device]. It works on a storage that is full, too.
func (d *Disk) Delete(ctx context.Context, ids []store.ObjectID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.failure(); err != nil {
		return err
	}
	if len(ids) == 0 {
		return nil
	}
	done := make(chan error, 1)
	if !d.dels.submit(delReq{ids: ids, done: done}) {
		return errClosed
	}
	return <-done // the deletion cannot be taken back, so that ctx is not looked at
}

// deleteBatch carries out the deletions of batch: each pack's log is written and synced once.
func (d *Disk) deleteBatch(batch []delReq) error {
	perPack := map[*pack][]store.ObjectID{}
	var files []store.ObjectID
	v := d.packs.view()
	for _, r := range batch {
		if r.pack != nil {
			perPack[r.pack] = append(perPack[r.pack], r.ids...)
			continue
		}
		for _, id := range r.ids {
			v.holders(id, func(p *pack) bool {
				perPack[p] = append(perPack[p], id)
				return true
			})
			if d.files.has(id) {
				files = append(files, id)
			}
		}
	}
	// The oldest go first: if the newest entity of an id went and the power then, an older one would come to light.
	// A file that has an entity in a pack beside it is older.
	if err := d.files.remove(files); err != nil {
		return err
	}
	packs := slices.SortedFunc(maps.Keys(perPack), func(a, b *pack) int { return cmp.Compare(a.number, b.number) })
	for _, p := range packs {
		if err := p.deleteAll(perPack[p], d.o.Now().Unix()); err != nil {
			return err
		}
	}
	return nil
}

// deleteOlder deletes the entity of id if it was stored before a time.
func (p *pack) deleteOlder(id store.ObjectID, than time.Time, now int64) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	e, h, ok, err := p.lookup(id)
	if err != nil || !ok {
		return err
	}
	info, err := readHeader(p, e, h)
	h.release()
	if err == nil && !info.Stored.Before(than) {
		return nil
	}
	return p.deleteLocked([]store.ObjectID{id}, now)
}

// deleteAll makes the deletion of ids durable, and then visible.
func (p *pack) deleteAll(ids []store.ObjectID, now int64) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	return p.deleteLocked(ids, now)
}

// deleteLocked is deleteAll with p.changing held.
func (p *pack) deleteLocked(ids []store.ObjectID, now int64) error {
	type hit struct {
		pos int
		e   entry
	}
	var hits []hit
	var records []byte
	p.mu.RLock()
	err := guardMapped(func() error {
		for _, id := range ids {
			if pos, e, ok := p.idx.find(id); ok && !p.dead.has(pos) {
				hits = append(hits, hit{pos, e})
				records = appendDelRec(records, p.uid, delRec{id, e.off}, now)
			}
		}
		return nil
	})
	gone := p.gone
	p.mu.RUnlock()
	if err != nil || len(hits) == 0 || gone {
		return err
	}
	if err := p.appendDelLog(records, now); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range hits {
		p.killLocked(h.pos, h.e)
	}
	return nil
}

func (p *pack) syncDir() error { return p.fsys.SyncDir(filepath.Dir(p.base)) }

// supersede lets go of the older entities of an id that was just stored in p. Nobody waits for it: as long as both are
// there, the newer one is found. After a crash only the count of garbage is a little low.
func (d *Disk) supersede(id store.ObjectID, stored time.Time, p *pack) {
	d.packs.view().holders(id, func(q *pack) bool {
		if q.number < p.number {
			d.dels.submit(delReq{ids: []store.ObjectID{id}, pack: q})
		}
		return true
	})
	if d.files.has(id) {
		d.files.supersede(id, stored)
	}
}
