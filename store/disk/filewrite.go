package disk

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"wheelhouse/internal/atomicfile"
	"wheelhouse/store"
)

// fileWriter writes one entity as a file.
type fileWriter struct {
	s       *fileStore
	meta    fileMeta
	known   int64 // the size announced, or -1
	f       *atomicfile.File
	size    int64
	block   uint32 // crc32c of the block that is being filled
	inBlock int64
}

// create begins a file. It reserves the space, when it is known how much.
func (s *fileStore) create(info store.EntityInfo) (*fileWriter, error) {
	if err := s.d.checkSpace(); err != nil {
		return nil, err
	}
	path := s.path(info.ID)
	if err := s.dirs.ensure(s.fs, s.root, filepath.Dir(path), s.d.present); err != nil {
		return nil, spaceError(err)
	}
	f, err := atomicfile.Create(s.fs, path, 0o644)
	if err != nil {
		return nil, spaceError(err)
	}
	w := &fileWriter{s: s, f: f, known: info.Size, meta: fileMeta{info: info}}
	if info.Size > 0 {
		if err := f.Fallocate(0, info.Size); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			w.Abort()
			return nil, spaceError(err)
		}
	}
	return w, nil
}

func (w *fileWriter) Write(p []byte) (int, error) {
	if w.known >= 0 && w.size+int64(len(p)) > w.known {
		return 0, fmt.Errorf("disk: put %d: more than the %d bytes announced", w.meta.info.ID, w.known)
	}
	n, err := w.f.Write(p)
	w.sum(p[:n])
	if err != nil {
		return n, spaceError(err)
	}
	return n, nil
}

// sum keeps the checksums up.
func (w *fileWriter) sum(p []byte) {
	w.size += int64(len(p))
	w.meta.crc = crc32.Update(w.meta.crc, castagnoli, p)
	for len(p) > 0 {
		n := min(int64(len(p)), blockBytes-w.inBlock)
		w.block = crc32.Update(w.block, castagnoli, p[:n])
		w.inBlock += n
		if p = p[n:]; w.inBlock == blockBytes {
			w.endBlock()
		}
	}
}

func (w *fileWriter) endBlock() {
	if w.inBlock > 0 {
		w.meta.blocks = append(w.meta.blocks, w.block)
	}
	w.block, w.inBlock = 0, 0
}

// commit makes the file durable under its name.
func (w *fileWriter) commit(etag [16]byte) error {
	id := w.meta.info.ID
	if w.known >= 0 && w.size != w.known {
		return fmt.Errorf("disk: put %d: %d bytes where %d were announced", id, w.size, w.known)
	}
	w.endBlock()
	if len(w.meta.blocks) <= 1 {
		w.meta.blocks = nil
	}
	w.meta.info.Size, w.meta.info.ETag, w.meta.info.Stored = w.size, etag, w.s.d.storedNow()
	return w.s.publish(w.f, &w.meta)
}

func (w *fileWriter) Abort() { w.f.Abort() }

// publish gives data its name and m as its record, durably. The record comes first: alone it is nothing, in either
// layout. Where an entity with another content is replaced, the record has both until the data has been renamed.
func (s *fileStore) publish(data *atomicfile.File, m *fileMeta) error {
	id := m.info.ID
	path := s.path(id)
	text := m.appendText(nil)
	inXattr := s.setXattrs(data, m, text)
	if err := data.Prepare(); err != nil {
		return err
	}
	lock := s.stripe(id)
	lock.Lock()
	defer lock.Unlock()
	replaced := int64(-1)
	if st, err := s.fs.Stat(path); err == nil {
		replaced = st.Size()
	}
	dual := false
	if !inXattr {
		both := text
		if old := s.current(id); replaced >= 0 && old != nil && !old.same(m) {
			both, dual = old.appendText(both), true
		}
		if err := atomicfile.Write(s.fs, path+metaExt, 0o644, both); err != nil {
			return err
		}
	}
	s.metas.drop(id)
	if err := data.Publish(); err != nil {
		return err
	}
	if err := s.fs.SyncDir(filepath.Dir(path)); err != nil {
		return err
	}
	s.note(id, m.info.Size, replaced)
	if dual {
		if err := atomicfile.Write(s.fs, path+metaExt, 0o644, text); err != nil {
			s.d.log.Warn("record of a replaced entity not tidied", "object", id, "err", err) // both are understood
		}
	}
	return nil
}

// current is the record of what is there now; nil when there is none, or none that can be read. The stripe must be held.
func (s *fileStore) current(id store.ObjectID) *fileMeta {
	f, err := s.fs.OpenFile(s.path(id), os.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	m, err := s.readMeta(id, f, st)
	if err != nil || m.bare {
		return nil
	}
	return m
}

// setXattrs puts the record into an attribute of the file itself, in layout "files", where it fits.
func (s *fileStore) setXattrs(data *atomicfile.File, m *fileMeta, text []byte) bool {
	if !s.adopt || len(text) > maxMetaXattr {
		return false
	}
	if m.info.ContentType != "" {
		data.SetXattr(mimeXattr, []byte(m.info.ContentType)) // for people; the record has it as well
	}
	return data.SetXattr(metaXattr, text) == nil
}

// putFile stores a whole entity as a file.
func (d *Disk) putFile(info store.EntityInfo, data []byte) error {
	info.Size = int64(len(data))
	w, err := d.files.create(info)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return d.commitFile(w, info.ETag)
}
