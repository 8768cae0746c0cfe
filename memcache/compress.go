package memcache

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
)

// Codec compresses values. It is used by many at once.
//
// The client brings [Gzip] alone, as it imports only the standard library; zstd is a Codec of the program's own around the library that it
// has (the example of [WithCompression] does it with github.com/klauspost/compress).
type Codec interface {
	// Flag returns the one bit of an item's flags that says "compressed by this". It must never change, and no other use of flags may have
	// it: clients without this codec see it, and the bytes as they are stored.
	Flag() uint32
	// Compress returns src compressed, in memory of its own.
	Compress(src []byte) ([]byte, error)
	// Decompress undoes Compress. When the result has more than limit bytes it returns an error, without having taken much more memory.
	Decompress(src []byte, limit int) ([]byte, error)
}

// minCompress is the least size from which on values are compressed. Numbers for Increment are shorter.
const minCompress = 64

// GzipFlag is the flag of [Gzip].
const GzipFlag = 1 << 16

// Gzip compresses as RFC 1952 says. Level is 1 (fast) to 9, or 0 for the default, 6.
type Gzip struct{ Level int }

var _ Codec = Gzip{}

// Flag returns [GzipFlag].
func (Gzip) Flag() uint32 { return GzipFlag }

// Compress implements [Codec].
func (g Gzip) Compress(src []byte) ([]byte, error) {
	level := g.Level
	if level == 0 {
		level = gzip.DefaultCompression
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(src); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil { // writes what is left
		return nil, err
	}
	return b.Bytes(), nil
}

// Decompress implements [Codec].
func (Gzip) Decompress(src []byte, limit int) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(src))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("%w: the limit is %d", ErrTooLarge, limit)
	}
	return b, nil
}

// pack returns the value and flags to be stored for an item.
func (o *options) pack(i *Item) (value []byte, flags uint32, err error) {
	if len(i.Value) > o.maxValue {
		return nil, 0, fmt.Errorf("%w: %d bytes; the limit is %d", ErrTooLarge, len(i.Value), o.maxValue)
	}
	for _, c := range o.codecs {
		if i.Flags&c.Flag() != 0 {
			return nil, 0, fmt.Errorf("%w: flag %#x of the item is that of a codec", ErrCompression, c.Flag())
		}
	}
	if len(o.codecs) == 0 || len(i.Value) <= o.compressAbove {
		return i.Value, i.Flags, nil
	}
	c := o.codecs[0]
	small, err := c.Compress(i.Value)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrCompression, err)
	}
	if len(small) >= len(i.Value) {
		return i.Value, i.Flags, nil
	}
	return small, i.Flags | c.Flag(), nil
}

// unpack undoes pack in an item that was read.
func (o *options) unpack(i *Item) error {
	for _, c := range o.codecs {
		if i.Flags&c.Flag() == 0 {
			continue
		}
		value, err := c.Decompress(i.Value, o.maxValue)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCompression, err)
		}
		i.Value, i.Flags = value, i.Flags&^c.Flag()
		return nil
	}
	return nil
}
