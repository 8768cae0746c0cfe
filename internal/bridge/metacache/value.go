package metacache

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"wheelhouse/store"
)

// maxValue is the longest value that is stored, bytes. An object with all the metadata that it may have is shorter.
const maxValue = 32 << 10

// placeOf is what says which server has an object, or is asked for a bucket alone. It does not change with the epoch.
func placeOf(bucket store.BucketID, name string) string {
	return digest(append(binary.BigEndian.AppendUint64([]byte("place o"), uint64(bucket)), name...))
}

func placeOfBucket(name string) string { return digest(append([]byte("place b"), name...)) }

// objectKey and bucketKey are the keys at a server, in an epoch.
func objectKey(epoch uint64, bucket store.BucketID, name string) string {
	b := binary.BigEndian.AppendUint64([]byte("o"), epoch)
	return "wh:o:" + digest(append(binary.BigEndian.AppendUint64(b, uint64(bucket)), name...))
}

func bucketKey(epoch uint64, name string) string {
	return "wh:b:" + digest(append(binary.BigEndian.AppendUint64([]byte("b"), epoch), name...))
}

// digest is 128 bits of SHA-256, in 22 characters.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// What a value is of: its first byte.
const (
	kindBucket = 'b'
	kindObject = 'o'
	kindGone   = 'g' // there is no object with the name
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errValue says that a value is not what was asked for: damaged, foreign, or of another name with the same hash.
var errValue = errors.New("metacache: not the value of this name")

func seal(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)) }

// open checks a value's checksum and returns what comes after its kind.
func open(value []byte) (kind byte, r reader, ok bool) {
	n := len(value) - 4
	if n < 1 || crc32.Checksum(value[:n], castagnoli) != binary.LittleEndian.Uint32(value[n:]) {
		return 0, reader{}, false
	}
	return value[0], reader{rest: value[1:n]}, true
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, t.Unix()), uint64(t.Nanosecond()))
}

// encodeBucket writes a bucket.
func encodeBucket(k *store.Bucket) []byte {
	b := binary.AppendUvarint([]byte{kindBucket}, uint64(k.ID))
	b = appendText(b, k.Name)
	b = append(b, byte(k.Access))
	b = appendText(b, k.Class)
	b = appendText(b, k.CacheControl)
	b = binary.AppendUvarint(b, uint64(k.Owner))
	return seal(appendTime(b, k.Created))
}

// decodeBucket reads what encodeBucket writes of the bucket with a name.
func decodeBucket(value []byte, name string) (k store.Bucket, err error) {
	kind, r, ok := open(value)
	if !ok || kind != kindBucket {
		return k, errValue
	}
	k.ID = store.BucketID(r.number())
	k.Name = r.text()
	k.Access = store.Access(r.byte())
	k.Class = r.text()
	k.CacheControl = r.text()
	k.Owner = store.AccountID(r.number())
	k.Created = r.time()
	if !r.done() || k.Name != name {
		return store.Bucket{}, errValue
	}
	return k, nil
}

// encodeGone writes that a bucket has no object with a name.
func encodeGone(bucket store.BucketID, name string) []byte {
	return seal(appendText(binary.AppendUvarint([]byte{kindGone}, uint64(bucket)), name))
}

// encodeObject writes an object, without Missing.
func encodeObject(o *store.Object) []byte {
	b := make([]byte, 0, 160+len(o.Name))
	b = binary.AppendUvarint(append(b, kindObject), uint64(o.Bucket))
	b = appendText(b, o.Name)
	b = binary.AppendUvarint(b, uint64(o.ID))
	b = binary.AppendUvarint(b, uint64(o.Cluster))
	b = binary.AppendUvarint(b, uint64(o.Size))
	b = append(b, o.ETag[:]...)
	b = appendText(b, o.ContentType)
	b = appendText(b, o.CacheControl)
	b = appendTime(b, o.Created)
	b = append(b, o.Replicas)
	b = binary.AppendUvarint(b, uint64(len(o.Meta)))
	for _, f := range o.Meta {
		b = appendText(appendText(b, f.Name), f.Value)
	}
	return seal(b)
}

// decodeObject reads what encodeObject and encodeGone write of the object with a name.
func decodeObject(value []byte, bucket store.BucketID, name string) (o store.Object, gone bool, err error) {
	kind, r, ok := open(value)
	if !ok || kind != kindObject && kind != kindGone {
		return o, false, errValue
	}
	o.Bucket, o.Name = store.BucketID(r.number()), r.text()
	if kind == kindGone {
		if !r.done() || o.Bucket != bucket || o.Name != name {
			return store.Object{}, false, errValue
		}
		return store.Object{}, true, nil
	}
	o.ID = store.ObjectID(r.number())
	o.Cluster = store.ClusterID(r.number())
	o.Size = int64(r.number())
	copy(o.ETag[:], r.bytes(uint64(len(o.ETag))))
	o.ContentType = r.text()
	o.CacheControl = r.text()
	o.Created = r.time()
	o.Replicas = r.byte()
	for n := r.number(); n > 0 && !r.bad; n-- {
		o.Meta = append(o.Meta, store.Field{Name: r.text(), Value: r.text()})
	}
	if !r.done() || o.Bucket != bucket || o.Name != name || o.Size < 0 {
		return store.Object{}, false, errValue
	}
	o.Name = name
	return o, false, nil
}

// reader takes values apart. Once something was wrong, bad is set and everything is zero.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) done() bool { return !r.bad && len(r.rest) == 0 }

func (r *reader) bytes(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) text() string { return string(r.bytes(r.number())) }

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || r.bad {
		r.bad = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) time() time.Time {
	sec, n := binary.Varint(r.rest)
	if n <= 0 || r.bad {
		r.bad = true
		return time.Time{}
	}
	r.rest = r.rest[n:]
	ns := r.number()
	if r.bad || ns >= 1e9 {
		r.bad = true
		return time.Time{}
	}
	return time.Unix(sec, int64(ns)).UTC()
}
