package disk

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// A delete log is a sequence of records of 32 bytes, little-endian: uid of the pack (8), id (8), offset of the member (8),
// seconds since 1970 (4), crc32c of the 28 bytes before (4). A record kills the entries of its id up to that offset.
// Records of another uid are of another version of the pack, before or after a rewrite. A damaged record is skipped.

const delRecord = 32

// maxDelLog bounds the delete log that is read, in bytes: more than two full packs of empty entities have.
const maxDelLog = 8 << 30

// delRec is one deletion.
type delRec struct {
	id  store.ObjectID
	off int64
}

func appendDelRec(b []byte, uid uint64, r delRec, now int64) []byte {
	n := len(b)
	b = binary.LittleEndian.AppendUint64(b, uid)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.id))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.off))
	b = binary.LittleEndian.AppendUint32(b, uint32(now))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[n:], castagnoli))
}

// parseDelLog yields the deletions of the pack uid; uid 0 takes those of the last version that is in the log.
func parseDelLog(b []byte, uid uint64, yield func(delRec)) {
	if uid == 0 {
		eachDelRec(b, func(u uint64, _ delRec) { uid = u })
	}
	eachDelRec(b, func(u uint64, r delRec) {
		if u == uid {
			yield(r)
		}
	})
}

func eachDelRec(b []byte, yield func(uid uint64, r delRec)) {
	for ; len(b) >= delRecord; b = b[delRecord:] {
		if crc32.Checksum(b[:28], castagnoli) != binary.LittleEndian.Uint32(b[28:]) {
			continue
		}
		yield(binary.LittleEndian.Uint64(b), delRec{
			id:  store.ObjectID(binary.LittleEndian.Uint64(b[8:])),
			off: int64(binary.LittleEndian.Uint64(b[16:])),
		})
	}
}

// readDelLog applies the pack's delete log. It must be the only user of the pack.
func (p *pack) readDelLog() error {
	b, err := faultfs.ReadFile(p.fsys, p.path(delExt), maxDelLog)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return guardMapped(func() error {
		parseDelLog(b, p.uid, func(r delRec) {
			if pos, e, ok := p.idx.find(r.id); ok && e.off <= r.off {
				p.killLocked(pos, e)
			}
		})
		return nil
	})
}

// appendDelLog makes records durable at the end of the delete log. p.changing must be held.
func (p *pack) appendDelLog(records []byte, now int64) error {
	if p.delBroken {
		if err := p.rewriteDelLog(now); err != nil {
			return err
		}
		p.delBroken = false
	}
	_, err := p.fsys.Stat(p.path(delExt))
	fresh := errors.Is(err, fs.ErrNotExist)
	f, err := p.fsys.OpenFile(p.path(delExt), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	end := (st.Size() + delRecord - 1) / delRecord * delRecord // what a crash left of a record is skipped as damaged
	err = writeAll(f, [][]byte{records}, end)
	if err == nil {
		err = f.Fdatasync()
	}
	if err == nil && fresh {
		err = p.syncDir()
	}
	p.delBroken = err != nil
	return err
}

// rewriteDelLog replaces the delete log by one with what it says of this version of the pack, and what is known to be
// dead. p.changing must be held.
func (p *pack) rewriteDelLog(now int64) error {
	old, err := faultfs.ReadFile(p.fsys, p.path(delExt), maxDelLog)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var b []byte
	p.mu.RLock()
	uid := p.uid
	err = guardMapped(func() error {
		p.idx.each(func(pos int, e entry) {
			if p.dead.has(pos) {
				b = appendDelRec(b, uid, delRec{e.id, e.off}, now)
			}
		})
		return nil
	})
	p.mu.RUnlock()
	if err != nil {
		return err
	}
	parseDelLog(old, uid, func(r delRec) { b = appendDelRec(b, uid, r, now) })
	return atomicfile.Write(p.fsys, p.path(delExt), 0o644, b)
}
