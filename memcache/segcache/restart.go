package segcache

import "fmt"

// Meta is what a process must know to go on with the items in Options.File.
type Meta struct {
	Limit      int64
	SegmentLog uint
	Epoch      uint32
	Flush      uint32
	Version    uint64
	LastGen    uint32
	Prefixes   map[string]uint32
	Tags       map[string]uint32
	Regions    []RegionMeta

	// FlushAt is when the server that serves the items is to forget them all, Unix seconds; 0: not at all. The cache does nothing with it.
	FlushAt uint32
}

// RegionMeta is a region.
type RegionMeta struct {
	First   int32
	Count   uint32
	End     uint64
	Epoch   uint32
	Created uint32
	Main    bool
	MaxExp  uint32
}

// Save makes the items in Options.File durable and describes them for the next process; nil without a file. Nobody may use the cache any more but to
// Close it.
func (c *Cache) Save() (*Meta, error) {
	if c.file == nil {
		return nil, nil
	}
	// Else, where the file is on a disk, a description that is durable could be of items that are not.
	if err := c.file.Sync(); err != nil {
		return nil, err
	}
	c.room.Lock()
	defer c.room.Unlock()
	c.gens.mu.RLock()
	defer c.gens.mu.RUnlock()
	m := &Meta{
		Limit: c.opts.Limit, SegmentLog: c.segShift, Epoch: c.epoch.Load(), Flush: c.flushEpoch.Load(), Version: c.version.Load(),
		LastGen: c.gens.last.Load(), Prefixes: c.gens.prefixes, Tags: c.gens.tags,
	}
	c.segs.mu.Lock()
	defer c.segs.mu.Unlock()
	for q := range c.segs.queue {
		for i := c.segs.queue[q].head; i >= 0; i = c.segs.regions[i].next {
			r := &c.segs.regions[i]
			m.Regions = append(m.Regions, RegionMeta{
				i, r.count, r.end.Load(), r.epoch, r.created, queueID(q) == mainQueue, r.maxExp.Load(),
			})
		}
	}
	return m, nil
}

// restore takes up what Save described. The index is made anew from the items.
func (c *Cache) restore(m *Meta) error {
	if c.file == nil || m.Limit != c.opts.Limit || m.SegmentLog != c.segShift {
		return fmt.Errorf("segcache: %s was written with a limit of %d bytes; now it is %d", c.opts.File, m.Limit, c.opts.Limit)
	}
	c.version.Store(m.Version)
	c.flushEpoch.Store(m.Flush)
	c.gens.last.Store(m.LastGen)
	c.gens.prefixes, c.gens.tags = m.Prefixes, m.Tags
	c.gens.any.Store(len(m.Prefixes)+len(m.Tags) > 0)
	for _, rm := range m.Regions {
		if err := c.restoreRegion(rm); err != nil {
			return err
		}
	}
	c.epoch.Store(max(m.Epoch, 1))
	return nil
}

func (c *Cache) restoreRegion(rm RegionMeta) error {
	n := int64(len(c.segs.regions))
	if rm.First < 0 || rm.Count == 0 || int64(rm.First)+int64(rm.Count) > n || rm.End > uint64(rm.Count)<<c.segShift {
		return fmt.Errorf("segcache: region of %d segments at %d, %d bytes long, is not in the file", rm.Count, rm.First, rm.End)
	}
	q := probation
	if rm.Main {
		q = mainQueue
	}
	c.segs.mu.Lock()
	for i := rm.First; i < rm.First+int32(rm.Count); i++ {
		if c.segs.taken[i/64]>>(i%64)&1 != 0 {
			c.segs.mu.Unlock()
			return fmt.Errorf("segcache: two regions have segment %d", i)
		}
	}
	r := c.open(rm.First, rm.Count, q)
	c.segs.mu.Unlock()
	r.set(regionSealed)
	r.epoch, r.created = rm.Epoch, rm.Created
	r.end.Store(rm.End)
	r.maxExp.Store(rm.MaxExp)
	addr := c.startOf(rm.First)
	for end := addr + rm.End; addr < end; {
		if end-addr < headerSize {
			return fmt.Errorf("segcache: the region at segment %d ends within an item", rm.First)
		}
		head := *c.word(addr)
		size := itemSize(head, c.valueLen(addr, head))
		if uint64(size) > end-addr || head&0xff == 0 {
			return fmt.Errorf("segcache: the region at segment %d has an item of %d bytes where %d are left", rm.First, size, end-addr)
		}
		if head&markDead == 0 {
			if err := c.restoreItem(r, addr, head, size); err != nil {
				return err
			}
		}
		addr += uint64(size)
	}
	return nil
}

func (c *Cache) restoreItem(r *region, addr uint64, head uint32, size int) error {
	h := c.hash(c.keyAt(addr, head))
	sh := c.shard(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r.live.Add(int64(size))
	if sh.find(c, h, c.keyAt(addr, head)) != nil {
		c.drop(addr, r, head)
		return nil
	}
	if _, err := sh.insert(c, h, makeSlot(h, addr, 0)); err != nil {
		return err
	}
	c.countItem(sh, addr, head, +1)
	return nil
}
