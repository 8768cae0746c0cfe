package cache

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"wheelhouse/internal/http1"
	"wheelhouse/internal/pace"
)

// disk keeps entries as files: one line of JSON, which says what the answer was, and the body. What is on disk is a cache: a file
// that is torn is dropped, nothing is flushed.
type disk struct {
	dir   string
	log   *slog.Logger
	index *memory // of entries without bodies

	unkept  pace.Gate    // answers that could not be written
	pending atomic.Int64 // bytes that are to be written
}

// maxPending is how much may wait to be written: what a disk that is slow, or hangs, keeps in memory.
const maxPending = 64 << 20

var errSlow = errors.New("the disk does not keep up")

// warnTime is how often at most it is said that answers cannot be kept: on a full disk none can.
const warnTime = time.Minute

// diskHead is the first line of a file.
type diskHead struct {
	Key        string
	Vary       [][2]string
	Status     int
	Header     [][2]string
	Size       int64
	Stored     time.Time
	Age        time.Duration
	Fresh      time.Duration
	StaleWhile time.Duration
	StaleError time.Duration
	Revalidate bool
	Always     bool
	TagOnly    bool
	ETag       string
	Modified   string
}

const (
	diskSuffix  = ".answer"
	maxDiskHead = 256 << 10
)

// CheckDir reports what speaks against keeping answers in a directory; none is always good.
func CheckDir(dir string) error {
	if dir == "" {
		return nil
	}
	probe, err := os.CreateTemp(dir, "probe-*")
	if err != nil {
		return fmt.Errorf("cache_disk: %w", err)
	}
	probe.Close()
	os.Remove(probe.Name())
	return nil
}

// openDisk takes in what an earlier process has left in a directory, which it makes if need be.
func openDisk(dir string, limit int64, log *slog.Logger) (*disk, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("cache_disk: %w", err)
	}
	d := &disk{dir: dir, log: log, index: newMemory(limit)}
	d.index.gone = func(e *entry) { os.Remove(e.file) }
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"+diskSuffix+"*"))
	if err != nil {
		return nil, fmt.Errorf("cache_disk: %w", err)
	}
	var found []*entry
	for _, file := range files {
		e, err := readHead(file)
		if err != nil {
			os.Remove(file)
			continue
		}
		found = append(found, e)
	}
	slices.SortFunc(found, func(a, b *entry) int { return a.stored.Compare(b.stored) }) // a newer one takes the place of an older
	for _, e := range found {
		d.index.put(e)
	}
	return d, nil
}

func readHead(file string) (*entry, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	line, err := bufio.NewReaderSize(io.LimitReader(f, maxDiskHead), 16<<10).ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	var h diskHead
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil || fi.Size() != int64(len(line))+h.Size || !strings.HasSuffix(file, diskSuffix) {
		return nil, fmt.Errorf("torn: %w", io.ErrUnexpectedEOF)
	}
	return h.entry(file, int64(len(line))), nil
}

func (h *diskHead) entry(file string, at int64) *entry {
	e := &entry{
		key: h.Key, status: h.Status, size: h.Size, stored: h.Stored, age: h.Age, fresh: h.Fresh, staleWhile: h.StaleWhile,
		staleError: h.StaleError, revalidate: h.Revalidate, always: h.Always, tagOnly: h.TagOnly, etag: h.ETag, modified: h.Modified, file: file, at: at,
	}
	for _, v := range h.Vary {
		e.vary = append(e.vary, varied{v[0], v[1]})
	}
	for _, v := range h.Header {
		e.header = append(e.header, field{v[0], v[1]})
	}
	return e
}

func headOf(e *entry) *diskHead {
	h := &diskHead{
		Key: e.key, Status: e.status, Size: e.size, Stored: e.stored, Age: e.age, Fresh: e.fresh, StaleWhile: e.staleWhile,
		StaleError: e.staleError, Revalidate: e.revalidate, Always: e.always, TagOnly: e.tagOnly, ETag: e.etag, Modified: e.modified,
	}
	for _, v := range e.vary {
		h.Vary = append(h.Vary, [2]string{v.name, v.value})
	}
	for _, f := range e.header {
		h.Header = append(h.Header, [2]string{f.name, f.value})
	}
	return h
}

// bodyAt is where in its file an entry's body begins.
func (e *entry) bodyAt() int64 { return e.at }

// begin reports whether an entry may wait to be put.
func (d *disk) begin(e *entry) bool {
	if d.pending.Add(e.size) > maxPending+e.size {
		d.pending.Add(-e.size)
		d.warn(errSlow)
		return false
	}
	return true
}

// put writes an entry, which was begun with, to a file of its own.
func (d *disk) put(e *entry) {
	defer d.pending.Add(-e.size)
	line, err := json.Marshal(headOf(e))
	if err != nil {
		return
	}
	line = append(line, '\n')
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%v\x00%d", e.key, e.vary, e.stored.UnixNano()))
	name := hex.EncodeToString(sum[:16])
	dir := filepath.Join(d.dir, name[:2])
	file := filepath.Join(dir, name+diskSuffix)
	err = os.MkdirAll(dir, 0o700)
	if err == nil {
		err = writeWhole(file, line, e.body)
	}
	if err != nil {
		d.warn(err)
		d.index.supersede(e) // an older answer is none
		return
	}
	d.index.put(headOf(e).entry(file, int64(len(line))))
}

// warn says that answers cannot be kept, and how many could not since it last said so.
func (d *disk) warn(err error) {
	if n, ok := d.unkept.Pass(warnTime); ok {
		d.log.Warn("answers cannot be kept on disk", "count", n, "err", err)
	}
}

func writeWhole(file string, parts ...[]byte) error {
	f, err := os.OpenFile(file+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err == nil {
			_, err = f.Write(p)
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func (d *disk) get(key string, h *http1.Header) *entry { return d.index.get(key, h) }

// open opens an entry's file, if it is as long as it must be.
func (d *disk) open(e *entry) (*os.File, error) {
	f, err := os.Open(e.file)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != e.at+e.size {
		err = fmt.Errorf("torn: it has %d bytes in place of %d", fi.Size(), e.at+e.size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d *disk) remove(key string) bool { return d.index.remove(key) }

func (d *disk) clear() { d.index.clear() }

func (d *disk) resize(limit int64) { d.index.resize(limit) }

func (d *disk) stats() (int, int64) { return d.index.stats() }
