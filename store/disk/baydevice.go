package disk

import (
	"context"

	"wheelhouse/store"
)

// What follows passes everything on to the disk.

// PutAsync is as [Disk.PutAsync].
func (b *Bay) PutAsync(info store.EntityInfo, data []byte, done func(error)) {
	d, err := b.Disk()
	if err != nil {
		done(err)
		return
	}
	d.PutAsync(info, data, done)
}

// Put implements [store.Device].
func (b *Bay) Put(ctx context.Context, info store.EntityInfo, data []byte) error {
	d, err := b.Disk()
	if err != nil {
		return err
	}
	return d.Put(ctx, info, data)
}

// Create implements [store.Device].
func (b *Bay) Create(ctx context.Context, info store.EntityInfo) (store.EntityWriter, error) {
	d, err := b.Disk()
	if err != nil {
		return nil, err
	}
	return d.Create(ctx, info)
}

// Get implements [store.Device].
func (b *Bay) Get(ctx context.Context, id store.ObjectID, size int64, buf []byte) ([]byte, error) {
	d, err := b.Disk()
	if err != nil {
		return nil, err
	}
	return d.Get(ctx, id, size, buf)
}

// Open implements [store.Device].
func (b *Bay) Open(ctx context.Context, id store.ObjectID, off, n int64) (store.EntityReader, error) {
	d, err := b.Disk()
	if err != nil {
		return nil, err
	}
	return d.Open(ctx, id, off, n)
}

// Stat implements [store.Device].
func (b *Bay) Stat(ctx context.Context, id store.ObjectID) (store.EntityInfo, error) {
	d, err := b.Disk()
	if err != nil {
		return store.EntityInfo{}, err
	}
	return d.Stat(ctx, id)
}

// Delete implements [store.Device].
func (b *Bay) Delete(ctx context.Context, ids []store.ObjectID) error {
	d, err := b.Disk()
	if err != nil {
		return err
	}
	return d.Delete(ctx, ids)
}

// Manifest implements [store.Device].
func (b *Bay) Manifest(ctx context.Context, from, to store.ObjectID, limit int) ([]store.ManifestEntry, error) {
	d, err := b.Disk()
	if err != nil {
		return nil, err
	}
	return d.Manifest(ctx, from, to, limit)
}

// Digest implements [store.Device].
func (b *Bay) Digest(ctx context.Context, from, to store.ObjectID) (store.RangeDigest, error) {
	d, err := b.Disk()
	if err != nil {
		return store.RangeDigest{}, err
	}
	return d.Digest(ctx, from, to)
}

// Usage implements [store.Device].
func (b *Bay) Usage(ctx context.Context) (store.Usage, error) {
	d, err := b.Disk()
	if err != nil {
		return store.Usage{}, err
	}
	return d.Usage(ctx)
}

// Probe implements [store.Prober].
func (b *Bay) Probe(ctx context.Context) error {
	d, err := b.Disk()
	if err != nil {
		return err
	}
	return d.Probe(ctx)
}

// Packs is as [Disk.Packs].
func (b *Bay) Packs() []PackInfo {
	d, err := b.Disk()
	if err != nil {
		return nil
	}
	return d.Packs()
}

// OpenPack is as [Disk.OpenPack].
func (b *Bay) OpenPack(name string) (*PackReader, error) {
	d, err := b.Disk()
	if err != nil {
		return nil, err
	}
	return d.OpenPack(name)
}

// Files is as [Disk.Files].
func (b *Bay) Files(ctx context.Context, from store.ObjectID, limit int) ([]store.ManifestEntry, error) {
	d, err := b.Disk()
	if err != nil {
		return nil, err
	}
	return d.Files(ctx, from, limit)
}
