package disk

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// scanWindow is how much of a pack is in memory while it is scanned, in bytes.
const scanWindow = 1 << 20

// window reads a file forward through a buffer.
type window struct {
	r      io.ReaderAt
	size   int64
	buf    []byte
	off    int64 // of buf[0]
	failed error // the last error of r
}

func newWindow(r io.ReaderAt, size int64) *window {
	return &window{r: r, size: size, buf: make([]byte, 0, min(size, scanWindow))}
}

// at gives n bytes at off, fewer at the end of the file. They are valid until the next call. n ≤ scanWindow.
func (w *window) at(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-off))
	if n <= 0 {
		return nil, nil
	}
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		b := w.buf[:min(int64(scanWindow), w.size-off)]
		w.buf = w.buf[:0]
		got, err := w.r.ReadAt(b, off)
		if got < n {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			w.failed = err
			return nil, err
		}
		w.off, w.buf = off, b[:got]
	}
	return w.buf[off-w.off:][:n], nil
}

// spare gives room for the n bytes of the file that begin at end, behind those from off on, which the window keeps if it has them all.
func (w *window) spare(off, end int64, n int) []byte {
	have := w.off + int64(len(w.buf))
	if off < w.off || off > have || have != end || end-off+int64(n) > int64(cap(w.buf)) {
		w.off, w.buf = end, w.buf[:0]
	} else {
		w.off, w.buf = off, w.buf[:copy(w.buf, w.buf[off-w.off:])]
	}
	return w.buf[len(w.buf):][:n]
}

// grow takes in the first n bytes of the room that spare has given.
func (w *window) grow(n int) { w.buf = w.buf[:len(w.buf)+n] }

// scanned is a member that a scan found.
type scanned struct {
	member
	bad bool // the header is right and the content is not, although it was durable once
}

// scanResult is what a scan leaves beside the members.
type scanResult struct {
	end   int64      // of the last member that is to be kept
	dirty bool       // there are bytes other than zero behind end
	gaps  [][2]int64 // between members, where nothing could be read
	lost  int        // members known to have been durable whose content is damaged
	// readErr is the last error of the reader, as opposed to damage in what it gave.
	readErr error
}

// scanner walks through a pack.
type scanner struct {
	w   *window
	uid uint64 // 0: not known yet
}

// scanPack finds the members of a pack from offset from on and yields them in order. A tail that a crash has torn is told
// from rot by what follows: behind a torn tail there is nothing valid. What is valid behind a damaged place is kept.
// It fails only when yield does.
func scanPack(r io.ReaderAt, size, from int64, uid uint64, yield func(scanned) error) (res scanResult, err error) {
	s := &scanner{w: newWindow(r, size), uid: uid}
	res.end = from
	defer func() { res.readErr = s.w.failed }()
	for off := from; off < size; {
		m, err := s.member(off)
		if err == nil {
			if !m.filler {
				if err := yield(scanned{member: m}); err != nil {
					return res, err
				}
			}
			off += m.length()
			res.end = off
			continue
		}
		next, found, dirty := s.resync(off + blockSize)
		if next < 0 {
			res.dirty = dirty || !errors.Is(err, errZero)
			break
		}
		if errors.Is(err, errContent) && off+m.length() <= next && found.batch > off {
			// Its header is whole, and it was durable before its successor was begun: rot.
			res.lost++
			if err := yield(scanned{member: m, bad: true}); err != nil {
				return res, err
			}
			off += m.length()
			res.end = off
			continue
		}
		res.gaps = append(res.gaps, [2]int64{off, next})
		off = next
	}
	return res, nil
}

// errContent means that a member's header is right and its content is not.
var errContent = errors.New("content does not match its checksum")

// member reads and checks the member at off. With errContent, it gives the member too.
func (s *scanner) member(off int64) (member, error) {
	b, err := s.w.at(off, 2*blockSize)
	if err != nil {
		return member{}, err
	}
	m, err := parseMember(b)
	if errors.Is(err, errShort) {
		if b, err = s.w.at(off, maxHeader); err != nil {
			return member{}, err
		}
		m, err = parseMember(b)
	}
	if err != nil {
		return member{}, err
	}
	if m.filler {
		if m.info.Size > s.w.size-off || off+m.length() > s.w.size {
			return member{}, errNotMember
		}
		return m, nil
	}
	if m.at != off || s.uid != 0 && m.pack != s.uid || m.info.Size > s.w.size-off || m.info.Size > maxSmallLimit {
		return member{}, errNotMember
	}
	crc, err := s.checksum(off+m.hdrLen, m.info.Size)
	if err != nil {
		return m, fmt.Errorf("%w: %w", errContent, err)
	}
	if crc != m.crc {
		return m, errContent
	}
	s.uid = m.pack
	return m, nil
}

func (s *scanner) checksum(off, n int64) (uint32, error) {
	var crc uint32
	for n > 0 {
		part := int(min(n, scanWindow/4))
		b, err := s.w.at(off, part)
		if err != nil {
			return 0, err
		}
		if len(b) < part {
			return 0, io.ErrUnexpectedEOF
		}
		crc = crc32.Update(crc, castagnoli, b)
		off += int64(part)
		n -= int64(part)
	}
	return crc, nil
}

// resync looks for the next valid member from off on, on block boundaries. Bytes that cannot be read are passed over.
// next is -1 when there is none; dirty says whether anything but zeros was seen.
func (s *scanner) resync(off int64) (next int64, found member, dirty bool) {
	const stride = 64 << 10
	for off < s.w.size {
		b, err := s.w.at(off, stride)
		if err != nil {
			dirty = true
			off += 4096 - off%4096 // the sector size of disks; smaller reads would fail there as well
			continue
		}
		n := int64(len(b))
		if isZero(b) {
			off += max(n&^(blockSize-1), blockSize)
			continue
		}
		dirty = true
		for i := int64(0); i < n; i += blockSize {
			if b, err = s.w.at(off+i, blockSize); err != nil || len(b) < blockSize {
				break
			}
			if string(b[257:262]) != "ustar" || b[156] != 'x' {
				continue
			}
			if m, err := s.member(off + i); err == nil && !m.filler {
				return off + i, m, dirty
			}
		}
		off += max(n&^(blockSize-1), blockSize)
	}
	return -1, member{}, dirty
}
