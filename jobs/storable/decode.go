package storable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Limits of an image.
const (
	MaxDepth  = 200     // of hashes, arrays and references in each other
	MaxValues = 1 << 20 // in all; what is referred to twice counts twice
)

// ErrNotImage is why bytes cannot be decoded that do not begin as an image does, in network order.
var ErrNotImage = errors.New("storable: not an image of Storable in network order")

// The header: major version 2 with the flag of network order, and the minor versions that there have been.
const (
	header   = 2<<1 | 1
	minMinor = 4
	maxMinor = 11
)

// Is reports whether bytes begin as an image does. Decode may still fail.
func Is(image []byte) bool {
	return len(image) > 2 && image[0] == header && image[1] >= minMinor && image[1] <= maxMinor
}

// Types of values, as Storable.xs has them.
const (
	sxObject       = 0 // one that was seen before, by its number
	sxLongScalar   = 1
	sxArray        = 2
	sxHash         = 3
	sxRef          = 4
	sxUndef        = 5
	sxInteger      = 6 // native: 8 bytes, as little-endian machines have them
	sxDouble       = 7
	sxByte         = 8
	sxNetInt       = 9
	sxScalar       = 10
	sxSvUndef      = 14
	sxSvYes        = 15
	sxSvNo         = 16
	sxBless        = 17
	sxIxBless      = 18
	sxOverload     = 20
	sxUTF8         = 23
	sxLongUTF8     = 24
	sxFlagHash     = 25
	sxWeakRef      = 27
	sxWeakOverload = 28
	sxUndefElem    = 31
	sxTrue         = 34
	sxFalse        = 35
)

// Decode returns what an image holds: nil, bool, int64, float64, string, []any or map[string]any. References are followed, and
// the classes of objects dropped. A string has the bytes that Perl's has: UTF-8 where Perl knew it to be text, and
// whatever they are where it did not. Cycles are an error.
func Decode(image []byte) (any, error) {
	if !Is(image) {
		return nil, ErrNotImage
	}
	d := decoder{rest: image[2:]}
	v, err := d.value(0)
	if err != nil {
		return nil, err
	}
	if len(d.rest) > 0 {
		return nil, fmt.Errorf("storable: %d bytes behind the end", len(d.rest))
	}
	return v, nil
}

type decoder struct {
	rest    []byte
	seen    []seen
	classes int
	values  int
}

// seen is a value that may be referred to by its number.
type seen struct {
	v    any
	size int // values in it; 0 while it is being decoded
}

var errShort = errors.New("storable: image is cut off")

func (d *decoder) take(n int) ([]byte, error) {
	if n < 0 || n > len(d.rest) {
		return nil, errShort
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b, nil
}

func (d *decoder) byte() (byte, error) {
	b, err := d.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (d *decoder) uint32() (int, error) {
	b, err := d.take(4)
	if err != nil {
		return 0, err
	}
	return int(binary.BigEndian.Uint32(b)), nil
}

// text reads a string behind its length, of one byte or four.
func (d *decoder) text(long bool) (string, error) {
	n, err := d.length(long)
	if err != nil {
		return "", err
	}
	b, err := d.take(n)
	return string(b), err
}

func (d *decoder) length(long bool) (int, error) {
	if long {
		return d.uint32()
	}
	n, err := d.byte()
	return int(n), err
}

func (d *decoder) count(n int) error {
	if d.values += n; d.values > MaxValues {
		return fmt.Errorf("storable: more than %d values", MaxValues)
	}
	return nil
}

// value decodes one value.
func (d *decoder) value(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("storable: deeper than %d", MaxDepth)
	}
	if err := d.count(1); err != nil {
		return nil, err
	}
	kind, err := d.byte()
	if err != nil {
		return nil, err
	}
	switch kind { // those that have no number of their own
	case sxObject:
		return d.before()
	case sxBless, sxIxBless:
		if err := d.class(kind); err != nil {
			return nil, err
		}
		return d.value(depth + 1)
	}
	number, before := len(d.seen), d.values
	d.seen = append(d.seen, seen{})
	v, err := d.numbered(kind, depth)
	d.seen[number] = seen{v, d.values - before + 1}
	return v, err
}

// numbered decodes what is behind the type of a value.
func (d *decoder) numbered(kind byte, depth int) (any, error) {
	switch kind {
	case sxArray:
		return d.array(depth)
	case sxHash, sxFlagHash:
		return d.hash(kind == sxFlagHash, depth)
	case sxRef, sxOverload, sxWeakRef, sxWeakOverload:
		return d.value(depth + 1)
	case sxUndef, sxSvUndef, sxUndefElem:
		return nil, nil
	case sxSvYes, sxTrue:
		return true, nil
	case sxSvNo, sxFalse:
		return false, nil
	case sxScalar, sxUTF8:
		return d.text(false)
	case sxLongScalar, sxLongUTF8:
		return d.text(true)
	}
	return d.number(kind)
}

func (d *decoder) number(kind byte) (any, error) {
	size := map[byte]int{sxByte: 1, sxNetInt: 4, sxInteger: 8, sxDouble: 8}[kind]
	if size == 0 {
		return nil, fmt.Errorf("storable: value of type %d: none that can be read here", kind)
	}
	b, err := d.take(size)
	if err != nil {
		return nil, err
	}
	switch kind {
	case sxByte:
		return int64(b[0]) - 128, nil
	case sxNetInt:
		return int64(int32(binary.BigEndian.Uint32(b))), nil
	case sxInteger:
		return int64(binary.LittleEndian.Uint64(b)), nil
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
}

// before returns a value that is there already.
func (d *decoder) before() (any, error) {
	n, err := d.uint32()
	switch {
	case err != nil:
		return nil, err
	case n >= len(d.seen):
		return nil, fmt.Errorf("storable: refers to value %d, which is not there yet", n)
	case d.seen[n].size == 0:
		return nil, errors.New("storable: a value holds itself")
	}
	return d.seen[n].v, d.count(d.seen[n].size)
}

// class skips the class of an object.
func (d *decoder) class(kind byte) error {
	n, err := d.byte()
	if err != nil {
		return err
	}
	size := int(n)
	if size&0x80 != 0 { // a long one follows
		if size, err = d.uint32(); err != nil {
			return err
		}
	}
	if kind == sxIxBless {
		if size >= d.classes {
			return fmt.Errorf("storable: class %d of %d", size, d.classes)
		}
		return nil
	}
	d.classes++
	_, err = d.take(size)
	return err
}

func (d *decoder) array(depth int) (any, error) {
	n, err := d.uint32()
	if err != nil {
		return nil, err
	}
	if n > len(d.rest) { // each takes a byte at least
		return nil, errShort
	}
	list := make([]any, n)
	for i := range list {
		if list[i], err = d.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (d *decoder) hash(flags bool, depth int) (any, error) {
	if flags {
		if _, err := d.byte(); err != nil { // restricted or not
			return nil, err
		}
	}
	n, err := d.uint32()
	if err != nil {
		return nil, err
	}
	if n > len(d.rest)/5 { // each takes a byte and the length of its key at least
		return nil, errShort
	}
	m := make(map[string]any, n)
	for range n {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if flags {
			if _, err := d.byte(); err != nil { // of the key: whether it is UTF-8; its bytes are the same
				return nil, err
			}
		}
		key, err := d.text(true)
		if err != nil {
			return nil, err
		}
		m[key] = v
	}
	return m, nil
}
