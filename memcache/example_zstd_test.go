package memcache_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"sync"

	"github.com/klauspost/compress/zstd"

	"wheelhouse/memcache"
)

// zstdCodec compresses by zstd, with a library of the program's own.
type zstdCodec struct {
	enc  *zstd.Encoder // EncodeAll may be called by many at once
	pool sync.Pool     // of *zstd.Decoder
}

func newZstdCodec() (*zstdCodec, error) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, err
	}
	return &zstdCodec{enc: enc}, nil
}

func (*zstdCodec) Flag() uint32 { return 1 << 17 }

func (z *zstdCodec) Compress(src []byte) ([]byte, error) { return z.enc.EncodeAll(src, nil), nil }

func (z *zstdCodec) Decompress(src []byte, limit int) ([]byte, error) {
	d, ok := z.pool.Get().(*zstd.Decoder)
	if !ok {
		var err error
		if d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(max(limit, 1)))); err != nil {
			return nil, err
		}
	}
	defer z.pool.Put(d)
	b, err := d.DecodeAll(src, nil) // the limit of a client does not change, so that of a decoder need not
	if err == nil && len(b) > limit {
		err = memcache.ErrTooLarge
	}
	return b, err
}

// zstd is not in the standard library, to which the client keeps: a program brings it as a codec.
func ExampleWithCompression_zstd() {
	addr, stop := server()
	defer stop()
	codec, err := newZstdCodec()
	if err != nil {
		log.Fatal(err)
	}
	c := connect(addr, memcache.WithCompression(1024, codec, memcache.Gzip{})) // what gzip has stored before is read, too
	defer c.Close()
	plain := connect(addr)
	defer plain.Close()
	ctx := context.Background()

	page := bytes.Repeat([]byte("all work and no play "), 500)
	if err := c.Set(ctx, &memcache.Item{Key: "page", Value: page}); err != nil {
		log.Fatal(err)
	}
	item, err := c.Get(ctx, "page")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bytes.Equal(item.Value, page), item.Flags)
	stored, err := plain.Get(ctx, "page")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(stored.Value) < len(page)/10, stored.Flags == 1<<17)
	// Output:
	// true 0
	// true true
}
