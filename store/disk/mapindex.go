package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"runtime/debug"
	"sort"

	"golang.org/x/sys/unix"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// An index file is a header of 128 bytes and the entries in order of id, one per id. The header, little-endian:
//
//	 0 magic  8 flags (u32), 16 count, 24 least id, 32 greatest id, 40 uid of the pack, 48 end of the members that it
//	covers, 56 sum of the sizes, 64 crc32c of the entries (u32), 72 sum of the members' lengths, 124 crc32c of the header's first 124 bytes (u32)

const (
	idxMagic      = "WHIDX\x00\x001"
	idxHeaderSize = 128
	idxSealed     = 1 // the pack is never appended to again
)

// idxHeader is the head of an index file.
type idxHeader struct {
	sealed   bool
	count    int
	min, max store.ObjectID
	uid      uint64
	end      int64
	bytes    int64 // of content
	length   int64 // of members
	crc      uint32
}

var errIndex = errors.New("damaged index file")

func (h idxHeader) encode(b []byte) {
	copy(b, idxMagic)
	var flags uint32
	if h.sealed {
		flags |= idxSealed
	}
	binary.LittleEndian.PutUint32(b[8:], flags)
	for i, v := range [...]uint64{uint64(h.count), uint64(h.min), uint64(h.max), h.uid, uint64(h.end), uint64(h.bytes)} {
		binary.LittleEndian.PutUint64(b[16+8*i:], v)
	}
	binary.LittleEndian.PutUint32(b[64:], h.crc)
	binary.LittleEndian.PutUint64(b[72:], uint64(h.length))
	binary.LittleEndian.PutUint32(b[124:], crc32.Checksum(b[:124], castagnoli))
}

// parseIndexHeader checks an index file of n bytes that begins with b.
func parseIndexHeader(b []byte, n int64) (idxHeader, error) {
	if len(b) < idxHeaderSize || string(b[:8]) != idxMagic ||
		binary.LittleEndian.Uint32(b[124:]) != crc32.Checksum(b[:124], castagnoli) {
		return idxHeader{}, errIndex
	}
	u64 := func(i int) uint64 { return binary.LittleEndian.Uint64(b[16+8*i:]) }
	h := idxHeader{
		sealed: binary.LittleEndian.Uint32(b[8:])&idxSealed != 0,
		count:  int(u64(0)), min: store.ObjectID(u64(1)), max: store.ObjectID(u64(2)),
		uid: u64(3), end: int64(u64(4)), bytes: int64(u64(5)), length: int64(u64(7)),
		crc: binary.LittleEndian.Uint32(b[64:]),
	}
	if u64(0) > 1<<40 || idxHeaderSize+int64(h.count)*entrySize != n || h.end < 0 {
		return idxHeader{}, errIndex
	}
	return h, nil
}

// parseIndex checks the whole of an index file.
func parseIndex(b []byte) (idxHeader, error) {
	h, err := parseIndexHeader(b, int64(len(b)))
	if err != nil {
		return h, err
	}
	if crc32.Checksum(b[idxHeaderSize:], castagnoli) != h.crc {
		return h, errIndex
	}
	return h, nil
}

// writeIndex writes the index file of a pack. entries are in order of id, without duplicates.
func writeIndex(fsys faultfs.FS, path string, uid uint64, end int64, sealed bool, entries []entry) error {
	b := make([]byte, idxHeaderSize+len(entries)*entrySize)
	h := idxHeader{sealed: sealed, count: len(entries), uid: uid, end: end}
	for i, e := range entries {
		e.encode(b[idxHeaderSize+i*entrySize:])
		h.bytes += int64(e.size)
		h.length += e.length()
	}
	if len(entries) > 0 {
		h.min, h.max = entries[0].id, entries[len(entries)-1].id
	}
	h.crc = crc32.Checksum(b[idxHeaderSize:], castagnoli)
	h.encode(b)
	return atomicfile.Write(fsys, path, 0o644, b)
}

// mapIndex is a mapped index file.
type mapIndex struct {
	idxHeader
	data []byte // the whole file
}

// openIndex maps and checks an index file. errIndex and fs.ErrNotExist mean that it must be made anew.
func openIndex(fsys faultfs.FS, path string) (x *mapIndex, err error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() < idxHeaderSize {
		return nil, errIndex
	}
	data, err := unix.Mmap(int(f.OSFile().Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &fs.PathError{Op: "mmap", Path: path, Err: err}
	}
	x = &mapIndex{data: data}
	defer func() {
		if err != nil {
			x.close()
			x = nil
		}
	}()
	err = guardMapped(func() (err error) {
		x.idxHeader, err = parseIndex(data)
		return err
	})
	if err == nil {
		// The check has touched every page; those that look-ups need come back by themselves.
		err = unix.Madvise(data, unix.MADV_DONTNEED)
	}
	return x, err
}

func (x *mapIndex) close() error {
	data := x.data
	x.data = nil
	if data == nil {
		return nil
	}
	return unix.Munmap(data)
}

// guardMapped runs f, which reads mapped memory: a disk that cannot give a page is an error and not the end of the process.
func guardMapped(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(interface{ Addr() uintptr })
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("%w: fault at %#x", errIndex, fault.Addr())
		}
	}()
	return f()
}

func (x *mapIndex) count() int { return x.idxHeader.count }

func (x *mapIndex) id(i int) store.ObjectID {
	return store.ObjectID(binary.LittleEndian.Uint64(x.data[idxHeaderSize+i*entrySize:]))
}

func (x *mapIndex) entry(i int) entry {
	return decodeEntry(x.data[idxHeaderSize+i*entrySize : idxHeaderSize+(i+1)*entrySize])
}

// search gives the first position with an id ≥ id. Ids are dense, so a guess by interpolation is mostly close; what it
// leaves is searched by halves.
func (x *mapIndex) search(id store.ObjectID) int {
	n := x.count()
	if n == 0 || id <= x.min {
		return 0
	}
	if id > x.max {
		return n
	}
	lo, hi := 0, n-1 // id(lo) < id ≤ id(hi)
	idLo, idHi := x.min, x.max
	for range 3 {
		if hi-lo <= 8 {
			break
		}
		mid := lo + int(float64(id-idLo)/float64(idHi-idLo)*float64(hi-lo))
		mid = min(max(mid, lo+1), hi-1)
		if v := x.id(mid); v < id {
			lo, idLo = mid, v
			// Step over the few that are missing between, so that hi comes near as well.
			if up := min(lo+8, hi); x.id(up) >= id {
				hi, idHi = up, x.id(up)
			}
		} else {
			hi, idHi = mid, v
			if down := max(hi-8, lo); x.id(down) < id {
				lo, idLo = down, x.id(down)
			}
		}
	}
	return lo + sort.Search(hi-lo, func(i int) bool { return x.id(lo+i) >= id })
}

func (x *mapIndex) find(id store.ObjectID) (int, entry, bool) {
	i := x.search(id)
	if i == x.count() || x.id(i) != id {
		return 0, entry{}, false
	}
	return i, x.entry(i), true
}

func (x *mapIndex) scan(from store.ObjectID, yield func(pos int, e entry) bool) {
	for i := x.search(from); i < x.count() && yield(i, x.entry(i)); i++ {
	}
}

func (x *mapIndex) each(f func(pos int, e entry)) {
	for i := range x.count() {
		f(i, x.entry(i))
	}
}
