package disk

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wheelhouse/internal/faultfs"
	"wheelhouse/store"
)

// encode makes a member, complete with its content.
func encode(m member, data []byte) []byte {
	var h header
	m.info.Size = int64(len(data))
	appendHeader(&h, &m)
	h.place(m.pack, m.at, m.batch)
	b := append(bytes.Clone(h.b), data...)
	return append(b, make([]byte, padded(m.info.Size)-m.info.Size)...)
}

func TestMemberRoundTrip(t *testing.T) {
	long := strings.Repeat("n", store.MaxObjectName)
	for _, info := range []store.EntityInfo{
		{ID: 1, Bucket: "b", Name: "n"},
		{ID: 1<<64 - 2, Bucket: strings.Repeat("b", 255), Name: strings.Repeat("ä/", 300) + "z", ContentType: strings.Repeat("t", 255)},
		{ID: 2, Bucket: strings.Repeat("\xff", 255), Name: long, ContentType: "a=b\nc"},
		{ID: 3, Bucket: "b", Name: "n", Created: time.Unix(1<<33, 0)},
		{ID: 4, Bucket: "b", Name: "n", Created: time.Unix(-5, 0)},
		{ID: 5, Bucket: "", Name: "n", ETag: [16]byte{1}},
		{ID: 6, Bucket: "b", Name: strings.Repeat("p/", 49) + "x"}, // 101 bytes: needs the prefix
	} {
		if info.Created.IsZero() {
			info.Created = created
		}
		info.Size, info.Stored = 5, time.Unix(1762516800, 123456789)
		m := member{info: info, crc: 0xdeadbeef, pack: 1<<63 | 5, at: 1024, batch: 512}
		b := encode(m, []byte("hello"))
		got, err := parseMember(b)
		if err != nil {
			t.Fatalf("%.20q: %v", info.Name, err)
		}
		if got.length() != int64(len(b)) || got.hdrLen > maxHeader {
			t.Errorf("%.20q: length %d; want %d", info.Name, got.length(), len(b))
		}
		m.hdrLen = got.hdrLen
		if !got.info.Created.Equal(info.Created) || !got.info.Stored.Equal(info.Stored) {
			t.Errorf("%.20q: times %v, %v", info.Name, got.info.Created, got.info.Stored)
		}
		got.info.Created, got.info.Stored = info.Created, info.Stored
		if got != m {
			t.Errorf("got %+v; want %+v", got, m)
		}
		for i := range int(got.hdrLen) {
			b[i] ^= 4
			other, err := parseMember(b)
			other.info.Created, other.info.Stored = info.Created, info.Stored
			if err == nil && other != m { // some bytes of the first header say nothing that is used
				t.Fatalf("%.20q: byte %d damaged, and not noticed: %+v", info.Name, i, other)
			}
			b[i] ^= 4
		}
	}
}

func TestPackHeader(t *testing.T) {
	b := encodePackHeader(7, 12, 1<<63|9, created.Unix())
	if id, number, uid, ok := parsePackHeader(b); id != 7 || number != 12 || uid != 1<<63|9 || !ok {
		t.Errorf("parsePackHeader = %v, %v, %x, %v", id, number, uid, ok)
	}
}

func TestMarker(t *testing.T) {
	m := marker{version: 1, id: 7, layout: LayoutPacks, created: created}
	if got, err := parseMarker(m.text()); err != nil || got != m {
		t.Errorf("parseMarker = %+v, %v; want %+v", got, err, m)
	}
	for _, bad := range []string{"", "version 1\n", "version 2\nstorage 1\nlayout packs\n", "version x\n"} {
		if _, err := parseMarker([]byte(bad)); err == nil {
			t.Errorf("parseMarker(%q) succeeds", bad)
		}
	}
}

// TestIndexSearch compares the search in a mapped index with a walk through it.
func TestIndexSearch(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, gap := range []int{1, 2, 1000, 1 << 30} {
		var entries []entry
		id := store.ObjectID(r.IntN(gap) + 1)
		for i := range 500 {
			entries = append(entries, entry{id: id, off: int64(i)})
			id += store.ObjectID(1 + r.IntN(gap))
			if i == 250 {
				id += 1 << 40
			}
		}
		path := filepath.Join(t.TempDir(), "x")
		if err := writeIndex(faultfs.OS{}, path, 1, 2, true, entries); err != nil {
			t.Fatal(err)
		}
		x, err := openIndex(faultfs.OS{}, path)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range entries {
			for _, id := range []store.ObjectID{e.id - 1, e.id, e.id + 1} {
				want := i
				if id > e.id {
					want = i + 1
				} else if id < e.id && i > 0 && entries[i-1].id == id {
					want = i - 1
				}
				if got := x.search(id); got != want {
					t.Fatalf("search(%d) = %d; want %d", id, got, want)
				}
			}
		}
		x.close()
	}
}

// TestModel does random operations without any fault, and compares with a map after each reopening.
func TestModel(t *testing.T) {
	for seed := range uint64(4) {
		dir := t.TempDir()
		m := newModel()
		r := rand.New(rand.NewPCG(seed, 7))
		for range 5 {
			workload(dir, crashOptions(faultfs.NoSync{}), r, 40, m)
			d := open(t, dir, crashOptions(faultfs.NoSync{}))
			if err := m.check(d); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			u, err := d.Usage(t.Context())
			entries, err2 := d.Manifest(t.Context(), 0, maxID, 1000)
			if err != nil || err2 != nil || u.Entities != int64(len(entries)) {
				t.Errorf("seed %d: Usage counts %d, the manifest has %d; %v, %v", seed, u.Entities, len(entries), err, err2)
			}
			d.Close()
		}
	}
}

// memory is a file in memory.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(p, off) }

func FuzzPackScan(f *testing.F) {
	pack := encodePackHeader(7, 1, 1<<63|9, 0)
	at := int64(len(pack))
	for i, n := range []int{0, 5, 600} {
		data := content(1, n)
		m := encode(member{info: store.EntityInfo{ID: store.ObjectID(i + 1), Bucket: "b", Name: "n"}, pack: 1<<63 | 9, at: at, batch: at, crc: checksum(data)}, data)
		pack = append(pack, m...)
		at += int64(len(m))
	}
	f.Add(pack)
	f.Add(append(pack, make([]byte, 2048)...))
	f.Add(bytes.Replace(pack, []byte("id=2"), []byte("id=9"), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		last := int64(0)
		res, err := scanPack(memory(b), int64(len(b)), 0, 0, func(m scanned) error {
			if m.at < last || m.at+m.hdrLen+m.info.Size > int64(len(b)) || m.info.ID == 0 {
				t.Errorf("member %+v after %d", m, last)
			}
			last = m.at + m.length()
			return nil
		})
		if err != nil || res.end > padded(int64(len(b))) { // the padding of the last member may be missing
			t.Errorf("scanPack = %+v, %v", res, err)
		}
		stop := errors.New("stop")
		Members(context.Background(), memory(b), int64(len(b)), func(Member) error { return stop })
	})
}

func checksum(b []byte) uint32 {
	s := scanner{w: newWindow(memory(b), int64(len(b)))}
	crc, _ := s.checksum(0, int64(len(b)))
	return crc
}

func FuzzMeta(f *testing.F) {
	m := fileMeta{info: store.EntityInfo{ID: 25, Size: 3<<20 + 1, Bucket: "b", Name: "n\n\xff", Created: created, Stored: created}, blocks: []uint32{1, 2, 3, 4}}
	f.Add(m.appendText(nil))
	f.Add(m.appendText(m.appendText(nil)))
	f.Add([]byte(metaMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		metas, err := parseMetas(b)
		if err != nil {
			return
		}
		var again []byte
		for _, m := range metas {
			again = m.appendText(again)
		}
		if _, err := parseMetas(again); err != nil {
			t.Errorf("printed again it cannot be read: %q", again)
		}
	})
}

func FuzzDelLog(f *testing.F) {
	b := appendDelRec(nil, 1, delRec{5, 1024}, 7)
	f.Add(appendDelRec(b, 2, delRec{6, 2048}, 7), uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, uid uint64) {
		n := 0
		parseDelLog(b, uid, func(delRec) { n++ })
		if n > len(b)/delRecord {
			t.Errorf("%d records in %d bytes", n, len(b))
		}
	})
}

func FuzzIndex(f *testing.F) {
	path := filepath.Join(f.TempDir(), "x")
	if err := writeIndex(faultfs.OS{}, path, 1, 2048, true, []entry{{id: 1}, {id: 5, size: 3}}); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint64(5))
	f.Fuzz(func(t *testing.T, b []byte, id uint64) {
		h, err := parseIndex(b)
		if err != nil {
			return
		}
		x := mapIndex{idxHeader: h, data: b}
		x.find(store.ObjectID(id))
		x.scan(store.ObjectID(id), func(int, entry) bool { return true })
	})
}
