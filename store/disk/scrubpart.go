package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"

	"wheelhouse/store"
)

// scrubSpan is how much of a pack is read at once to be verified, in bytes.
const scrubSpan = 2 << 20

// scrubList is the live entries of a pack in the order in which they lie, kept from one part of a scrub to the next.
type scrubList struct {
	mu      sync.Mutex
	p       *pack
	uid     uint64
	end     int64
	entries []entry
}

// of gives the entries of p from off on.
func (l *scrubList) of(p *pack, off int64) ([]entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.mu.RLock()
	uid, end := p.uid, p.end
	p.mu.RUnlock()
	if l.p != p || l.uid != uid || l.end != end {
		entries, err := p.liveByOffset()
		if err != nil {
			return nil, err
		}
		l.p, l.uid, l.end, l.entries = p, uid, end, entries
	}
	i := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].off >= off })
	return l.entries[i:], nil
}

// scrubber is one call of Scrub.
type scrubber struct {
	d    *Disk
	most int64
	part store.ScrubPart
}

// Scrub implements [store.Bulk]: packs are read from their beginning to their end, then files, in order of id.
func (b bulk) Scrub(ctx context.Context, cursor string, most int64) (store.ScrubPart, error) {
	number, off, file, err := parseScrubCursor(cursor)
	if err != nil {
		return store.ScrubPart{}, err
	}
	s := &scrubber{d: b.Disk, most: max(1, most)}
	if file == 0 {
		for _, p := range b.packs.list() {
			if p.number < number {
				continue
			}
			from := int64(0)
			if p.number == number {
				from = off
			}
			next, err := s.pack(ctx, p, from)
			if err != nil {
				return s.part, err
			}
			if next >= 0 {
				s.part.Cursor = fmt.Sprintf("p%d/%d", p.number, next)
				return s.part, nil
			}
		}
		file = 1
	}
	err = s.files(ctx, file)
	return s.part, err
}

func parseScrubCursor(c string) (number uint64, off int64, file store.ObjectID, err error) {
	if c == "" {
		return 0, 0, 0, nil
	}
	if id, ok := strings.CutPrefix(c, "f"); ok {
		n, err := strconv.ParseUint(id, 10, 64)
		if err == nil && n > 0 {
			return 0, 0, store.ObjectID(n), nil
		}
	}
	if rest, ok := strings.CutPrefix(c, "p"); ok {
		a, b, _ := strings.Cut(rest, "/")
		number, err1 := strconv.ParseUint(a, 10, 64)
		off, err2 := strconv.ParseInt(b, 10, 64)
		if err1 == nil && err2 == nil && off >= 0 {
			return number, off, 0, nil
		}
	}
	return 0, 0, 0, fmt.Errorf("disk: scrub: no such cursor: %q", strings.ToValidUTF8(c, "?"))
}

var spanBufs = sync.Pool{New: func() any { b := make([]byte, scrubSpan); return &b }}

// span is some entries that lie close together, and their bytes.
type span struct {
	entries []entry
	buf     []byte
	err     error
}

// pack verifies a pack from off on; next is where to go on, -1 at its end.
func (s *scrubber) pack(ctx context.Context, p *pack, off int64) (next int64, err error) {
	entries, err := s.d.scrubs.of(p, off)
	if err != nil {
		s.d.log.Error("pack cannot be scrubbed: its index cannot be read", "pack", p.base, "err", err)
		return -1, nil
	}
	h, _, err := p.acquire()
	if errors.Is(err, os.ErrClosed) {
		return -1, nil // it was removed just now
	}
	if err != nil {
		return -1, err
	}
	defer h.release()
	n := 0
	for size := int64(0); n < len(entries) && (n == 0 || s.part.Bytes+size < s.most); n++ {
		size += entries[n].length()
	}
	// One goroutine reads while the other one computes.
	spans, free := make(chan span, 1), make(chan []byte, 3)
	for range cap(free) {
		free <- nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(spans)
		for left := entries[:n]; len(left) > 0; {
			k := 1
			for k < len(left) && left[k].off+left[k].length()-left[0].off <= scrubSpan {
				k++
			}
			var sp span
			select {
			case <-ctx.Done():
				return
			case sp.buf = <-free:
			}
			size := left[k-1].off + left[k-1].length() - left[0].off
			if sp.buf == nil {
				sp.buf = *spanBufs.Get().(*[]byte)
			}
			if int64(cap(sp.buf)) < size {
				sp.buf = make([]byte, size)
			}
			sp.buf, sp.entries = sp.buf[:size], left[:k]
			if got, err := h.ReadAt(sp.buf, left[0].off); got < len(sp.buf) {
				sp.err = cmp.Or(err, io.ErrUnexpectedEOF)
			}
			left = left[k:]
			spans <- sp
		}
	}()
	for sp := range spans {
		s.check(p, sp)
		free <- sp.buf
	}
	for range cap(free) {
		if b := <-free; cap(b) == scrubSpan {
			b = b[:scrubSpan]
			spanBufs.Put(&b)
		}
	}
	if err := ctx.Err(); err != nil {
		return off, err
	}
	if n < len(entries) {
		return entries[n].off, nil
	}
	return -1, nil
}

// check verifies the entries of a span.
func (s *scrubber) check(p *pack, sp span) {
	for i, e := range sp.entries {
		if i%yieldEvery == 0 {
			runtime.Gosched()
		}
		s.part.Objects++
		s.part.Bytes += e.length()
		var err error
		if sp.err != nil {
			err = s.d.verify(e.id) // which of them it is
		} else {
			m := sp.buf[e.off-sp.entries[0].off:][:e.length()]
			data := m[int64(e.blocks)*blockSize:][:e.size]
			switch {
			case crc32.Checksum(data, castagnoli) != e.crc:
				err = errContent
			case !headerIntact(m[:int(e.blocks)*blockSize]):
				err = errors.New("its header is damaged")
			}
		}
		if err == nil || errors.Is(err, store.ErrNoEntity) {
			continue
		}
		if q, now, h, findErr := s.d.find(e.id); findErr == nil && q != nil {
			h.release()
			if q != p || now.off != e.off {
				continue // it was replaced meanwhile
			}
		} else if findErr == nil {
			continue // deleted meanwhile
		}
		s.bad(e.id, fmt.Errorf("pack %s at %d: %w", packName(p.number), e.off, err))
	}
}

func (s *scrubber) bad(id store.ObjectID, err error) {
	s.d.log.Error("entity is damaged", "object", id, "err", err)
	s.part.Bad = append(s.part.Bad, store.ScrubFinding{ID: id, Reason: err.Error()})
}

// files verifies entities that are files, from id from on.
func (s *scrubber) files(ctx context.Context, from store.ObjectID) error {
	for id, err := range s.d.files.list(from, maxID) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if s.part.Bytes >= s.most {
			s.part.Cursor = "f" + strconv.FormatUint(uint64(id), 10)
			return nil
		}
		size, _ := s.d.files.size(id)
		s.part.Objects++
		s.part.Bytes += max(size, 1)
		if err := s.d.verify(id); err != nil && !errors.Is(err, store.ErrNoEntity) {
			s.bad(id, err)
		}
	}
	return nil
}

// headerIntact checks a member's header without taking it apart: its last record is the checksum of all before.
func headerIntact(b []byte) bool {
	if len(b) < 3*blockSize || string(b[257:262]) != "ustar" || b[156] != 'x' {
		return false
	}
	size, ok := parseOct(b[124:135])
	last := int64(len(b) - blockSize)
	if !ok || size < 9 || blockSize+size > last || b[blockSize+size-1] != '\n' {
		return false
	}
	sum := headerSum(b[blockSize:blockSize+size-9], b[last:])
	var text [8]byte
	appendHex(text[:0], uint64(sum), 8)
	return string(text[:]) == string(b[blockSize+size-9:blockSize+size-1])
}
