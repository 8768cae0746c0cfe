package disk

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"wheelhouse/store"
)

// blockSums are digests by block of ids.
type blockSums map[uint64]*store.BlockDigest

func (s blockSums) add(id store.ObjectID, size int64, crc uint32, sign int64) {
	n := uint64(id) / store.DigestBlock
	d := s[n]
	if d == nil {
		d = &store.BlockDigest{Block: n}
		s[n] = d
	}
	d.Add(id, size, crc, sign)
}

// digests adds what the pack holds of blocks first to last. The first time it walks through the index, some 20 million
// entries a second; from then on what is added and deleted keeps the sums.
func (p *pack) digests(into blockSums, first, last uint64) error {
	p.mu.RLock()
	have := p.sums != nil
	p.mu.RUnlock()
	if !have {
		if err := p.makeSums(); err != nil {
			return err
		}
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	for n, d := range p.sums {
		if n < first || n > last || d.Count == 0 {
			continue
		}
		sum := into[n]
		if sum == nil {
			sum = &store.BlockDigest{Block: n}
			into[n] = sum
		}
		sum.Count += d.Count
		sum.Bytes += d.Bytes
		sum.Size ^= d.Size
		sum.CRC ^= d.CRC
	}
	return nil
}

// makeSums walks through the index. Whoever adds or deletes waits for some milliseconds, readers do not.
func (p *pack) makeSums() error {
	p.changing.Lock() // nothing is deleted, and the index is not replaced
	defer p.changing.Unlock()
	p.mu.RLock()
	_, sealed := p.idx.(*mapIndex)
	p.mu.RUnlock()
	if !sealed { // it may be added to meanwhile
		p.mu.Lock()
		defer p.mu.Unlock()
	} else {
		p.mu.RLock()
	}
	sums := blockSums{}
	err := guardMapped(func() error {
		p.idx.each(func(pos int, e entry) {
			if !p.dead.has(pos) {
				sums.add(e.id, int64(e.size), e.crc, 1)
			}
		})
		return nil
	})
	if sealed {
		p.mu.RUnlock()
		if err == nil {
			p.mu.Lock()
			p.sums = sums
			p.mu.Unlock()
		}
		return err
	}
	if err == nil {
		p.sums = sums
	}
	return err
}

// BlockDigests implements [store.Bulk]. An entity that is just being replaced may be counted twice for a moment. In layout
// "files" all directories are walked through.
func (d *Disk) BlockDigests(ctx context.Context, from, to store.ObjectID) ([]store.BlockDigest, error) {
	if from >= to {
		return nil, nil
	}
	sums := blockSums{}
	first, last := uint64(from)/store.DigestBlock, uint64(to-1)/store.DigestBlock
	for _, p := range d.packs.list() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := p.digests(sums, first, last); err != nil {
			return nil, err
		}
	}
	if err := d.files.digests(ctx, sums, first, last); err != nil {
		return nil, err
	}
	list := make([]store.BlockDigest, 0, len(sums))
	for _, n := range slices.Sorted(maps.Keys(sums)) {
		list = append(list, *sums[n])
	}
	return list, nil
}

// digests adds the files, with checksum 0: theirs are not in memory.
func (s *fileStore) digests(ctx context.Context, into blockSums, first, last uint64) error {
	from, to := store.ObjectID(first*store.DigestBlock), store.ObjectID(maxID)
	if last < uint64(maxID)/store.DigestBlock {
		to = store.ObjectID((last + 1) * store.DigestBlock)
	}
	n := 0
	for id, err := range s.list(from, to) {
		if n++; err == nil && n%1024 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		size, ok := s.size(id)
		if ok {
			into.add(id, size, 0, 1)
		}
	}
	return nil
}

// size is that of an entity; ok is false when it is not there any more.
func (s *fileStore) size(id store.ObjectID) (size int64, ok bool) {
	if !s.adopt {
		s.mu.RLock()
		size, ok = s.ids[id]
		s.mu.RUnlock()
		if !ok || size >= 0 {
			return size, ok
		}
	}
	st, err := s.fs.Stat(s.path(id))
	if err != nil {
		return 0, false
	}
	if !s.adopt {
		s.learnSize(id, st.Size())
	}
	return st.Size(), true
}

// Entities implements [store.Bulk].
func (d *Disk) Entities(ctx context.Context, ids []store.ObjectID) ([]store.ManifestEntry, error) {
	list := make([]store.ManifestEntry, 0, len(ids))
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p, e, h, err := d.find(id)
		if err != nil {
			continue // its index cannot be read: as good as gone
		}
		if p != nil {
			h.release()
			list = append(list, store.ManifestEntry{ID: id, Size: int64(e.size), CRC: e.crc, Stored: unixSeconds(e.stored)})
			continue
		}
		if !d.files.has(id) {
			continue
		}
		fh, m, err := d.files.openPair(id)
		if err != nil {
			continue
		}
		fh.release()
		list = append(list, store.ManifestEntry{ID: id, Size: m.info.Size, CRC: m.crc, Stored: m.info.Stored})
	}
	slices.SortFunc(list, func(a, b store.ManifestEntry) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}
