package disk

import (
	"context"
	"io"

	"wheelhouse/store"
)

// Bulk is the bulk work on whatever disk is in the bay at the time of each call.
func (b *Bay) Bulk() store.Bulk { return bayBulk{b} }

type bayBulk struct{ b *Bay }

var _ store.Bulk = bayBulk{}

// now is the bulk work on the disk that is there.
func (w bayBulk) now() (store.Bulk, error) {
	d, err := w.b.Disk()
	if err != nil {
		return nil, err
	}
	return d.Bulk(), nil
}

// inBay calls f with the bulk work on the disk that is there.
func inBay[T any](w bayBulk, f func(store.Bulk) (T, error)) (v T, err error) {
	k, err := w.now()
	if err != nil {
		return v, err
	}
	return f(k)
}

func (w bayBulk) Packs(ctx context.Context) ([]store.PackInfo, error) {
	return inBay(w, func(k store.Bulk) ([]store.PackInfo, error) { return k.Packs(ctx) })
}

func (w bayBulk) OpenPack(ctx context.Context, name string, uid uint64, off int64) (io.ReadCloser, error) {
	return inBay(w, func(k store.Bulk) (io.ReadCloser, error) { return k.OpenPack(ctx, name, uid, off) })
}

func (w bayBulk) DeleteLog(ctx context.Context, name string, uid uint64) ([]byte, error) {
	return inBay(w, func(k store.Bulk) ([]byte, error) { return k.DeleteLog(ctx, name, uid) })
}

func (w bayBulk) Files(ctx context.Context, from store.ObjectID, limit int) ([]store.ManifestEntry, error) {
	return inBay(w, func(k store.Bulk) ([]store.ManifestEntry, error) { return k.Files(ctx, from, limit) })
}

func (w bayBulk) Adopting(ctx context.Context, uid uint64) (store.Adoption, error) {
	return inBay(w, func(k store.Bulk) (store.Adoption, error) { return k.Adopting(ctx, uid) })
}

func (w bayBulk) AppendPack(ctx context.Context, uid uint64, off int64, r io.Reader) (int64, error) {
	return inBay(w, func(k store.Bulk) (int64, error) { return k.AppendPack(ctx, uid, off, r) })
}

func (w bayBulk) FinishPack(ctx context.Context, uid uint64, size int64, log []byte) (store.Adoption, error) {
	return inBay(w, func(k store.Bulk) (store.Adoption, error) { return k.FinishPack(ctx, uid, size, log) })
}

func (w bayBulk) BlockDigests(ctx context.Context, from, to store.ObjectID) ([]store.BlockDigest, error) {
	return inBay(w, func(k store.Bulk) ([]store.BlockDigest, error) { return k.BlockDigests(ctx, from, to) })
}

func (w bayBulk) Entities(ctx context.Context, ids []store.ObjectID) ([]store.ManifestEntry, error) {
	return inBay(w, func(k store.Bulk) ([]store.ManifestEntry, error) { return k.Entities(ctx, ids) })
}

func (w bayBulk) Scrub(ctx context.Context, cursor string, most int64) (store.ScrubPart, error) {
	return inBay(w, func(k store.Bulk) (store.ScrubPart, error) { return k.Scrub(ctx, cursor, most) })
}
