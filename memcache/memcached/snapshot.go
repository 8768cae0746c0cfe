package memcached

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/memcache/segcache"
)

// A snapshot is a file: the line snapshotMagic, then for each item a header of 16 bytes — length of the key (1), marks (1), length of the
// tags (1), a zero, flags (4), expiry time (4, Unix, 0: never), length of the value (4), little endian —, key, tags with commas between, and
// value; a header of zeros; and the CRC-32C of all before (4).
const (
	snapshotMagic  = "wheelhouse memcached snapshot 1\n"
	snapshotHeader = 16
)

// errSnapshot is a file that is not a whole snapshot.
var errSnapshot = errors.New("the snapshot is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// snapshot is the command: all items are written to the file, which replaces the one before when it is whole.
func (c *conn) snapshot() string {
	n, err := c.s.WriteSnapshot(c.s.opts.Snapshot)
	if err != nil {
		c.s.log.Error("snapshot failed", "err", err)
		return "SERVER_ERROR snapshot failed"
	}
	return fmt.Sprintf("OK %d", n)
}

// saves sees to it that one snapshot is written at a time: each takes as much of the disk as there are items.
type saves struct {
	begun atomic.Uint64
	mu    sync.Mutex // held while one is written; guards the rest
	file  string     // of the last one, and what came of it
	items int
	err   error
}

// WriteSnapshot writes all items to a file, durably, and returns how many there are. Clients go on meanwhile: what they change may or
// may not be in it. Calls that come while one is written share the next one.
func (s *Server) WriteSnapshot(file string) (items int, err error) {
	v := &s.saves
	before := v.begun.Load()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.begun.Load() == before || v.file != file {
		v.begun.Add(1)
		v.file = file
		v.items, v.err = s.writeSnapshot(file)
	}
	return v.items, v.err
}

func (s *Server) writeSnapshot(file string) (items int, err error) {
	f, err := atomicfile.Create(faultfs.OS{}, file, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Abort()
	sum := crc32.New(castagnoli)
	out := bufio.NewWriterSize(io.MultiWriter(f, sum), 256<<10)
	out.WriteString(snapshotMagic) // errors stay, until Flush
	var buf []byte
	for pos := uint64(0); ; {
		buf = buf[:0]
		pos = s.cache.Walk(pos, func(t *segcache.Txn, key []byte) bool {
			buf = appendSnapshot(buf, t, key)
			items++
			return len(buf) < flushAt
		})
		if _, err := out.Write(buf); err != nil {
			return 0, err
		}
		if pos == 0 {
			break
		}
	}
	var end [snapshotHeader]byte
	out.Write(end[:])
	if err := out.Flush(); err != nil {
		return 0, err
	}
	if _, err := f.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32())); err != nil {
		return 0, err
	}
	return items, f.Commit()
}

func appendSnapshot(b []byte, t *segcache.Txn, key []byte) []byte {
	tags := t.Tags()
	b = append(b, byte(len(key)), byte(t.Marks()), byte(len(tags)), 0)
	b = binary.LittleEndian.AppendUint32(b, t.Flags())
	b = binary.LittleEndian.AppendUint32(b, t.Exp())
	b = binary.LittleEndian.AppendUint32(b, uint32(t.Len()))
	return append(append(append(b, key...), tags...), t.Value()...)
}

// tryWrite finds out whether a file can be written, which is too late to learn at the end, and removes what a crash has left of it.
func tryWrite(file string) error {
	f, err := atomicfile.Create(faultfs.OS{}, file, 0o600)
	if err == nil {
		f.Abort()
		err = atomicfile.RemoveTemps(faultfs.OS{}, file)
	}
	if err != nil {
		return fmt.Errorf("snapshots cannot be written: %w", err)
	}
	return nil
}

// loadSnapshot stores what a file has. A file that is not there is none; one that is damaged is an error, before anything is stored.
func (s *Server) loadSnapshot(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := verifySnapshot(f); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	n := 0
	err = readSnapshot(bufio.NewReaderSize(f, 256<<10), func(h snapshotItem) error {
		n++
		return s.addLoaded(h)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	s.log.Info("snapshot read", "items", n)
	return nil
}

func verifySnapshot(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() < int64(len(snapshotMagic)+snapshotHeader+4) {
		return errSnapshot
	}
	sum := crc32.New(castagnoli)
	if _, err := io.CopyN(sum, f, st.Size()-4); err != nil {
		return err
	}
	var want [4]byte
	if _, err := io.ReadFull(f, want[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(want[:]) != sum.Sum32() {
		return errSnapshot
	}
	return nil
}

// snapshotItem is one item of a snapshot; key, tags and value are valid until the next.
type snapshotItem struct {
	key, tags, value []byte

	flags, exp uint32
	marks      segcache.Marks
}

// readSnapshot calls f with each item.
func readSnapshot(r io.Reader, f func(snapshotItem) error) error {
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != snapshotMagic {
		return errSnapshot
	}
	var h [snapshotHeader]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return errSnapshot
		}
		if h == [snapshotHeader]byte{} {
			return nil
		}
		keyLen, tagLen, n := int(h[0]), int(h[2]), int(binary.LittleEndian.Uint32(h[12:]))
		if keyLen == 0 || keyLen > maxKey || n > 1<<30 {
			return errSnapshot
		}
		// Memory is taken as bytes come, not as they are announced.
		buf = buf[:0]
		for want := keyLen + tagLen + n; len(buf) < want; {
			step := min(want-len(buf), 1<<20)
			buf = append(buf, make([]byte, step)...)
			if _, err := io.ReadFull(r, buf[len(buf)-step:]); err != nil {
				return errSnapshot
			}
		}
		item := snapshotItem{
			key: buf[:keyLen], tags: buf[keyLen : keyLen+tagLen], value: buf[keyLen+tagLen:], marks: segcache.Marks(h[1]),
			flags: binary.LittleEndian.Uint32(h[4:]), exp: binary.LittleEndian.Uint32(h[8:]),
		}
		if !validTags(item.tags) {
			return errSnapshot
		}
		if err := f(item); err != nil {
			return err
		}
	}
}

// addLoaded stores an item of a snapshot. Those that have expired, or for which there is no room, are left out.
func (s *Server) addLoaded(h snapshotItem) error {
	if h.exp != 0 && h.exp <= s.cache.Now() {
		return nil
	}
	var t segcache.Txn
	for {
		s.cache.Begin(&t, h.key)
		err := t.Store(&segcache.Put{A: h.value, Flags: h.flags, Exp: h.exp, Marks: h.marks, Version: s.cache.NextVersion(), Tags: h.tags})
		t.End()
		if err == nil || !errors.Is(err, segcache.ErrNoRoom) {
			return err
		}
		if err := s.cache.Room(&t); err != nil {
			if errors.Is(err, segcache.ErrTooLarge) || errors.Is(err, segcache.ErrFull) {
				return nil
			}
			return err
		}
	}
}
