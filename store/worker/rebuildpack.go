package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"wheelhouse/store"
)

// packTries is how often the next bytes of a pack are asked for before the rest of it is left to be copied entity by entity.
const packTries = 3

// takePack takes over one pack, from where it was left. A pack that is rewritten meanwhile is begun anew in its new version. One
// that cannot be read any further is taken as far as it can be, so that a bad place on a sibling's disk does not keep the storage
// from ever being filled.
func (b *rebuilding) takePack(ctx context.Context, p part) error {
	reached, counted := int64(0), false
	for tries := 1; ; tries++ {
		have, err := b.dst.Adopting(ctx, p.info.UID)
		if err != nil {
			return err
		}
		if have.Size > reached {
			reached, tries = have.Size, 1
		}
		if !counted {
			b.r.Done(0, min(have.Size, p.info.Size))
			counted = true
		}
		err = b.takeVersion(ctx, p, have)
		rewritten := errors.Is(err, store.ErrNoPack) || errors.Is(err, store.ErrCorrupt)
		if err == nil || ctx.Err() != nil || !rewritten && !errors.Is(err, errSource) {
			return err
		}
		packs, listErr := p.src.Packs(ctx)
		if listErr != nil {
			return errors.Join(err, listErr) // it is not the pack that is at fault
		}
		i := slices.IndexFunc(packs, func(q store.PackInfo) bool { return q.Name == p.info.Name })
		switch {
		case i < 0:
			return nil // nothing in it was alive any more
		case packs[i].UID != p.info.UID:
			counted, reached = false, 0
			p.info = packs[i]
		}
		if tries < packTries {
			if err := sleep(ctx, b.w.opt.RetryAfter); err != nil {
				return err
			}
			continue
		}
		if errors.Is(err, store.ErrNoPack) {
			return nil // rewritten all the time: what of it is alive is copied by itself
		}
		return b.leavePack(ctx, p, err)
	}
}

// takeVersion takes over a version of a pack. An error that wraps errSource is the sibling's.
func (b *rebuilding) takeVersion(ctx context.Context, p part, have store.Adoption) error {
	uid, size := p.info.UID, p.info.Size
	if have.Done {
		b.r.Done(p.info.Entities, 0)
		return nil
	}
	for have.Size < size {
		in, err := p.src.OpenPack(ctx, p.info.Name, uid, have.Size)
		if err != nil {
			return sourceError(err)
		}
		src := &sourceReader{r: in}
		_, err = b.dst.AppendPack(ctx, uid, have.Size, io.LimitReader(b.r.Reader(ctx, src), min(appendPart, size-have.Size)))
		_ = in.Close()
		if src.err != nil && ctx.Err() == nil {
			return sourceError(src.err)
		}
		if err != nil {
			return err
		}
		was := have.Size
		if have, err = b.dst.Adopting(ctx, uid); err != nil {
			return err
		}
		if have.Size <= was {
			return sourceError(fmt.Errorf("no bytes came after the first %d", was))
		}
	}
	return b.finishPack(ctx, p, have.Size)
}

func (b *rebuilding) finishPack(ctx context.Context, p part, size int64) error {
	log, err := p.src.DeleteLog(ctx, p.info.Name, p.info.UID)
	if err != nil {
		return sourceError(err)
	}
	have, err := b.dst.FinishPack(ctx, p.info.UID, size, log)
	if err != nil {
		return err
	}
	// What was damaged was left out, as it should be if it has been repaired, by a copy that lies elsewhere. If it has not, the comparison
	// finds it missing.
	b.r.Done(have.Entities, 0)
	return nil
}

// leavePack takes over what has come of a pack. The rest of its entities is copied one by one, from whoever has them.
func (b *rebuilding) leavePack(ctx context.Context, p part, cause error) error {
	have, err := b.dst.Adopting(ctx, p.info.UID)
	if err != nil {
		return err
	}
	b.r.Problem(store.OperationProblem{
		Kind: store.ProblemCorrupt, Storage: p.from.ID,
		Reason: fmt.Sprintf("its pack %s cannot be read from byte %d on: %v", p.info.Name, have.Size, cause),
	})
	if have.Size == 0 || have.Done {
		return nil
	}
	err = b.finishPack(ctx, p, have.Size)
	if errors.Is(err, errSource) || errors.Is(err, store.ErrCorrupt) {
		return ctx.Err() // without its delete log, or without a head, nothing can be made of it
	}
	return err
}

// sourceReader remembers how reading has failed, which is otherwise mixed up with how writing has.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
