package storetest

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"wheelhouse/store"
)

// Device runs the suite that every [store.Device] passes. open gives an empty one; it is called once per test, and closes
// the device by t.Cleanup.
func Device(t *testing.T, open func(t *testing.T) store.Device) {
	for name, test := range map[string]func(*testing.T, store.Device){
		"PutGet":      devicePutGet,
		"Create":      deviceCreate,
		"CreateWrong": deviceCreateWrong,
		"Abort":       deviceAbort,
		"Ranges":      deviceRanges,
		"WriteTo":     deviceWriteTo,
		"NoEntity":    deviceNoEntity,
		"Delete":      deviceDelete,
		"Replace":     deviceReplace,
		"Names":       deviceNames,
		"Manifest":    deviceManifest,
		"Usage":       deviceUsage,
		"Concurrent":  deviceConcurrent,
		"Context":     deviceContext,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// deviceSizes are those where something begins or ends, in bytes.
var deviceSizes = []int{0, 1, 511, 512, 513, 4096, 10_000, 64<<10 - 1, 64 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5 << 20}

var deviceCreated = time.Date(2026, 11, 7, 12, 34, 56, 0, time.UTC)

// deviceContent makes n bytes that depend on id.
func deviceContent(id store.ObjectID, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(id), byte(id >> 8), byte(n), byte(n >> 8), byte(n >> 16)})
	r.Read(b)
	return b
}

func deviceInfo(id store.ObjectID, data []byte) store.EntityInfo {
	return store.EntityInfo{
		ID: id, Size: int64(len(data)), Bucket: "photos", Name: fmt.Sprintf("2026/%d.jpg", id),
		ContentType: "image/jpeg", ETag: md5.Sum(data), Created: deviceCreated,
	}
}

func devicePut(t *testing.T, d store.Device, id store.ObjectID, data []byte) {
	t.Helper()
	if err := d.Put(t.Context(), deviceInfo(id, data), data); err != nil {
		t.Fatalf("Put(%d): %v", id, err)
	}
}

// wantDevice checks an entity by Get, Open and Stat.
func wantDevice(t *testing.T, d store.Device, want store.EntityInfo, data []byte) {
	t.Helper()
	got, err := d.Get(t.Context(), want.ID, int64(len(data)), nil)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("Get(%d) = %d bytes, %v; want the %d that were put", want.ID, len(got), err, len(data))
	}
	wantRange(t, d, want.ID, 0, -1, data)
	info, err := d.Stat(t.Context(), want.ID)
	if err != nil {
		t.Fatalf("Stat(%d): %v", want.ID, err)
	}
	if info.Stored.IsZero() {
		t.Errorf("Stat(%d): no time of storing", want.ID)
	}
	if !info.Created.Equal(want.Created) {
		t.Errorf("Stat(%d).Created = %v; want %v", want.ID, info.Created, want.Created)
	}
	want.Size = int64(len(data))
	info.Created, info.Stored = want.Created, want.Stored
	if info != want {
		t.Errorf("Stat(%d) = %+v; want %+v", want.ID, info, want)
	}
}

func wantRange(t *testing.T, d store.Device, id store.ObjectID, off, n int64, want []byte) {
	t.Helper()
	r, err := d.Open(t.Context(), id, off, n)
	if err != nil {
		t.Fatalf("Open(%d, %d, %d): %v", id, off, n, err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("Open(%d, %d, %d) reads %d bytes, %v; want %d", id, off, n, len(got), err, len(want))
	}
}

func wantNoDevice(t *testing.T, d store.Device, id store.ObjectID) {
	t.Helper()
	if _, err := d.Get(t.Context(), id, 1, nil); !errors.Is(err, store.ErrNoEntity) {
		t.Errorf("Get(%d) = %v; want ErrNoEntity", id, err)
	}
	if r, err := d.Open(t.Context(), id, 0, -1); !errors.Is(err, store.ErrNoEntity) {
		t.Errorf("Open(%d) = %v; want ErrNoEntity", id, err)
		if err == nil {
			r.Close()
		}
	}
	if _, err := d.Stat(t.Context(), id); !errors.Is(err, store.ErrNoEntity) {
		t.Errorf("Stat(%d) = %v; want ErrNoEntity", id, err)
	}
}

func devicePutGet(t *testing.T, d store.Device) {
	for i, n := range deviceSizes {
		id := store.ObjectID(i + 1)
		data := deviceContent(id, n)
		devicePut(t, d, id, data)
		wantDevice(t, d, deviceInfo(id, data), data)
	}
	// A buffer that is large enough is used, whatever was in it.
	data := deviceContent(7, deviceSizes[6])
	buf := make([]byte, 3, len(data)+10)
	got, err := d.Get(t.Context(), 7, int64(len(data)), buf)
	if err != nil || !bytes.Equal(got, data) || &got[0] != &buf[0] {
		t.Errorf("Get into a large buffer = %d bytes, %v", len(got), err)
	}
}

func deviceCreate(t *testing.T, d store.Device) {
	id := store.ObjectID(0)
	for _, n := range deviceSizes {
		for _, known := range []bool{true, false} {
			id++
			data := deviceContent(id, n)
			info := deviceInfo(id, data)
			begin := info
			begin.ETag = [16]byte{}
			if !known {
				begin.Size = -1
			}
			w, err := d.Create(t.Context(), begin)
			if err != nil {
				t.Fatalf("Create(%d bytes, known %v): %v", n, known, err)
			}
			for rest, part := data, 1; len(rest) > 0; part = part*3 + 1 { // parts of many sizes
				p := rest[:min(part, len(rest))]
				if m, err := w.Write(p); m != len(p) || err != nil {
					t.Fatalf("Write = %d, %v; want %d", m, err, len(p))
				}
				rest = rest[len(p):]
			}
			if err := w.Commit(t.Context(), info.ETag); err != nil {
				t.Fatalf("Commit(%d bytes, known %v): %v", n, known, err)
			}
			w.Abort() // does nothing after Commit
			wantDevice(t, d, info, data)
		}
	}
}

// deviceCreateWrong ends entities with fewer and with more bytes than were announced.
func deviceCreateWrong(t *testing.T, d store.Device) {
	for i, n := range []int{10, 2 << 20} {
		for j, delta := range []int{-1, 1} {
			id := store.ObjectID(1 + 2*i + j)
			data := deviceContent(id, n+delta)
			info := deviceInfo(id, data)
			info.Size = int64(n)
			w, err := d.Create(t.Context(), info)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(data)
			if err == nil {
				err = w.Commit(t.Context(), info.ETag)
			}
			w.Abort()
			if err == nil {
				t.Errorf("%d bytes where %d were announced are taken", len(data), n)
			}
			wantNoDevice(t, d, id)
		}
	}
}

func deviceAbort(t *testing.T, d store.Device) {
	for i, n := range []int{0, 10, 2 << 20} {
		id := store.ObjectID(i + 1)
		w, err := d.Create(t.Context(), store.EntityInfo{ID: id, Size: -1, Bucket: "b", Name: "n", Created: deviceCreated})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(deviceContent(id, n)); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		w.Abort()
		if err := w.Commit(t.Context(), [16]byte{}); err == nil {
			t.Error("Commit after Abort succeeds")
		}
		wantNoDevice(t, d, id)
	}
	if m, err := d.Manifest(t.Context(), 0, 100, 10); err != nil || len(m) > 0 {
		t.Errorf("Manifest = %v, %v; want nothing", m, err)
	}
}

func deviceRanges(t *testing.T, d store.Device) {
	const mib = 1 << 20
	sizes := []int64{0, 1, 10_000, mib, 3*mib + 12345}
	for i, size := range sizes {
		id := store.ObjectID(i + 1)
		data := deviceContent(id, int(size))
		devicePut(t, d, id, data)
		for _, r := range [][2]int64{
			{0, 0},
			{0, 1},
			{0, -1},
			{0, size},
			{0, size + 100},
			{1, 1},
			{size / 2, -1},
			{size / 2, size / 4},
			{size - 1, 1},
			{size, -1},
			{size, 5},
			{mib - 1, 2},
			{mib, mib},
			{mib - 7, 2*mib + 9},
			{2 * mib, -1},
			{3*mib - 1, 1},
			{3*mib + 1, 100},
		} {
			off, n := r[0], r[1]
			if off < 0 || off > size {
				continue
			}
			end := size
			if n >= 0 {
				end = min(size, off+n)
			}
			wantRange(t, d, id, off, n, data[off:end])
		}
	}
}

// fileSender notes what it is sent by file, and by memory.
type fileSender struct {
	bytes.Buffer
	files int64
}

func (s *fileSender) SendFile(f *os.File, off, n int64) (int64, error) {
	m, err := io.Copy(&s.Buffer, io.NewSectionReader(f, off, n))
	s.files += m
	return m, err
}

// failingWriter takes n bytes and fails then.
type failingWriter struct{ left int }

var errFailing = errors.New("the client is gone")

func (w *failingWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.left -= n
	if n < len(p) {
		return n, errFailing
	}
	return n, nil
}

func deviceWriteTo(t *testing.T, d store.Device) {
	for i, n := range []int{0, 1, 10_000, 1 << 20, 3<<20 + 5} {
		id := store.ObjectID(i + 1)
		data := deviceContent(id, n)
		devicePut(t, d, id, data)
		var plain bytes.Buffer
		var sender fileSender
		for _, w := range []io.Writer{struct{ io.Writer }{&plain}, &sender} {
			r, err := d.Open(t.Context(), id, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			if m, err := r.WriteTo(w); m != int64(n) || err != nil {
				t.Errorf("WriteTo = %d, %v; want %d", m, err, n)
			}
			r.Close()
		}
		if !bytes.Equal(plain.Bytes(), data) || !bytes.Equal(sender.Bytes(), data) {
			t.Errorf("WriteTo of %d bytes gives others", n)
		}
		if n == 0 {
			continue
		}
		r, err := d.Open(t.Context(), id, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 1)
		if _, err := io.ReadFull(r, head); err != nil {
			t.Fatal(err)
		}
		m, err := r.WriteTo(&failingWriter{left: n / 2})
		if n > 2 && (m != int64(n/2) || !errors.Is(err, errFailing) || store.IsReadError(err)) {
			t.Errorf("WriteTo a writer that fails after %d bytes = %d, %v", n/2, m, err)
		}
		r.Close()
	}
}

func deviceNoEntity(t *testing.T, d store.Device) {
	wantNoDevice(t, d, 1)
	devicePut(t, d, 2, nil)
	wantNoDevice(t, d, 1)
	wantNoDevice(t, d, 3)
	if err := d.Delete(t.Context(), []store.ObjectID{1, 3}); err != nil {
		t.Errorf("Delete of what is not there = %v", err)
	}
	if err := d.Delete(t.Context(), nil); err != nil {
		t.Errorf("Delete of nothing = %v", err)
	}
	if err := d.Put(t.Context(), store.EntityInfo{ID: 0}, nil); err == nil {
		t.Error("Put with id 0 succeeds")
	}
}

func deviceDelete(t *testing.T, d store.Device) {
	sizes := []int{10, 2 << 20, 10, 2 << 20}
	for i, n := range sizes {
		devicePut(t, d, store.ObjectID(i+1), deviceContent(store.ObjectID(i+1), n))
	}
	r, err := d.Open(t.Context(), 2, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(t.Context(), []store.ObjectID{1, 2, 99}); err != nil {
		t.Fatal(err)
	}
	r.Close()
	wantNoDevice(t, d, 1)
	wantNoDevice(t, d, 2)
	for id := store.ObjectID(3); id <= 4; id++ {
		data := deviceContent(id, sizes[id-1])
		wantDevice(t, d, deviceInfo(id, data), data)
	}
	for id := store.ObjectID(1); id <= 2; id++ { // what was deleted may be stored again
		data := deviceContent(id, sizes[id-1])
		devicePut(t, d, id, data)
		wantDevice(t, d, deviceInfo(id, data), data)
	}
}

// deviceReplace stores ids again, smaller and larger.
func deviceReplace(t *testing.T, d store.Device) {
	for round, n := range []int{10, 10, 2 << 20, 2 << 20, 3 << 20, 0, 100} {
		data := deviceContent(store.ObjectID(round+1), n) // other bytes in each round
		info := deviceInfo(1, data)
		if err := d.Put(t.Context(), info, data); err != nil {
			t.Fatal(err)
		}
		wantDevice(t, d, info, data)
		m, err := d.Manifest(t.Context(), 0, 10, 10)
		if err != nil || len(m) != 1 || m[0].Size != int64(n) {
			t.Errorf("Manifest = %+v, %v; want one of %d bytes", m, err, n)
		}
	}
	if err := d.Delete(t.Context(), []store.ObjectID{1}); err != nil {
		t.Fatal(err)
	}
	wantNoDevice(t, d, 1) // and none of the older ones
}

func deviceNames(t *testing.T, d store.Device) {
	long := string(bytes.Repeat([]byte("x"), store.MaxObjectName))
	infos := []store.EntityInfo{
		{Bucket: "b", Name: "plain"},
		{Bucket: "b", Name: "with space, tab\t and newline\n"},
		{Bucket: "b", Name: "日本語/ファイル"},
		{Bucket: "b", Name: "\xff\xfe not UTF-8"},
		{Bucket: "b", Name: "../../etc/passwd"},
		{Bucket: "b", Name: "/"},
		{Bucket: "b", Name: "dir/"},
		{Bucket: "b", Name: "a//b/./c"},
		{Bucket: "b", Name: "%41%2f?x=y#z"},
		{Bucket: "b", Name: `"quoted\"`},
		{Bucket: "b", Name: long},
		{Bucket: "..", Name: "dots"},
		{Bucket: "b", Name: "no type"},
		{Bucket: "b", Name: "type", ContentType: `text/plain; charset="utf-8"`},
		{Bucket: "b", Name: "old", Created: time.Unix(0, 0)},
	}
	for i, info := range infos {
		for j, n := range []int{20, 1<<20 + 1} {
			info.ID = store.ObjectID(1 + 2*i + j)
			if info.Created.IsZero() {
				info.Created = deviceCreated
			}
			data := deviceContent(info.ID, n)
			info.Size, info.ETag = int64(n), md5.Sum(data)
			if err := d.Put(t.Context(), info, data); err != nil {
				t.Fatalf("Put(%q): %v", info.Name, err)
			}
			wantDevice(t, d, info, data)
		}
	}
}

func deviceManifest(t *testing.T, d store.Device) {
	sizes := map[store.ObjectID]int{30: 10, 10: 0, 20: 2 << 20, 15: 700, 40: 1, 25: 1<<20 + 1}
	order := []store.ObjectID{10, 15, 20, 25, 30, 40}
	for id, n := range sizes {
		devicePut(t, d, id, deviceContent(id, n))
	}
	all, err := d.Manifest(t.Context(), 0, 1000, 1000)
	if err != nil || len(all) != len(order) {
		t.Fatalf("Manifest = %+v, %v; want %d entries", all, err, len(order))
	}
	for i, m := range all {
		if m.ID != order[i] || m.Size != int64(sizes[m.ID]) || m.Stored.IsZero() {
			t.Errorf("Manifest[%d] = %+v; want id %d, %d bytes", i, m, order[i], sizes[order[i]])
		}
	}
	for _, c := range []struct {
		from, to store.ObjectID
		limit    int
		want     []store.ObjectID
	}{
		{0, 1000, 2, []store.ObjectID{10, 15}},
		{10, 30, 100, []store.ObjectID{10, 15, 20, 25}},
		{11, 31, 2, []store.ObjectID{15, 20}},
		{41, 1000, 10, nil},
		{20, 20, 10, nil},
	} {
		part, err := d.Manifest(t.Context(), c.from, c.to, c.limit)
		if err != nil || len(part) != len(c.want) {
			t.Errorf("Manifest(%d, %d, %d) = %+v, %v; want %v", c.from, c.to, c.limit, part, err, c.want)
			continue
		}
		for i := range part {
			if part[i].ID != c.want[i] {
				t.Errorf("Manifest(%d, %d, %d)[%d] = %d; want %d", c.from, c.to, c.limit, i, part[i].ID, c.want[i])
			}
		}
	}
	for _, span := range [][2]store.ObjectID{{0, 1000}, {15, 30}, {41, 99}} {
		var want store.RangeDigest
		for _, m := range all {
			if m.ID >= span[0] && m.ID < span[1] {
				want.Add(m.ID, m.Size, m.CRC)
			}
		}
		if got, err := d.Digest(t.Context(), span[0], span[1]); got != want || err != nil {
			t.Errorf("Digest(%v) = %+v, %v; want %+v", span, got, err, want)
		}
	}
}

func deviceUsage(t *testing.T, d store.Device) {
	devicePut(t, d, 1, deviceContent(1, 1000))
	devicePut(t, d, 2, deviceContent(2, 500))
	u, err := d.Usage(t.Context())
	if err != nil || u.Capacity <= 0 || u.Free <= 0 || u.Free > u.Capacity || u.Entities != 2 || u.Live < 1500 || u.ReadOnly {
		t.Errorf("Usage = %+v, %v", u, err)
	}
	for range 3 {
		if _, err := d.Get(t.Context(), 2, 500, nil); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := d.Usage(t.Context()); err != nil || v.Reads != u.Reads+3 {
		t.Errorf("after three reads Usage = %+v, %v; before them %+v", v, err, u)
	}
}

func deviceConcurrent(t *testing.T, d store.Device) {
	const workers, each = 8, 20
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				id := store.ObjectID(1 + w*each + i)
				data := deviceContent(id, 100+37*i)
				if err := d.Put(t.Context(), deviceInfo(id, data), data); err != nil {
					t.Errorf("Put(%d): %v", id, err)
					return
				}
				if got, err := d.Get(t.Context(), id, int64(len(data)), nil); err != nil || !bytes.Equal(got, data) {
					t.Errorf("Get(%d) right after Put = %d bytes, %v", id, len(got), err)
				}
				if i%3 == 0 {
					if err := d.Delete(t.Context(), []store.ObjectID{id}); err != nil {
						t.Errorf("Delete(%d): %v", id, err)
					}
				}
			}
		})
	}
	wg.Wait()
	m, err := d.Manifest(t.Context(), 0, 1000, 1000)
	if want := workers * (each - (each+2)/3); err != nil || len(m) != want {
		t.Errorf("Manifest has %d entries, %v; want %d", len(m), err, want)
	}
}

func deviceContext(t *testing.T, d store.Device) {
	ctx, cancel := context.WithCancel(t.Context())
	w, err := d.Create(ctx, deviceInfo(2, []byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := d.Put(ctx, deviceInfo(1, nil), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Put with a context that has ended = %v", err)
	}
	w.Write([]byte("x"))
	if err := w.Commit(ctx, [16]byte{}); err == nil {
		t.Error("Commit with a context that has ended succeeds")
	}
	w.Abort()
	wantNoDevice(t, d, 1)
	wantNoDevice(t, d, 2)
}
