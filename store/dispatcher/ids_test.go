package dispatcher

import (
	"context"
	"slices"
	"testing"

	"wheelhouse/store"
)

// blocksOf hands out blocks of ids one after the other, and remembers how large they were.
type blocksOf struct {
	next  store.ObjectID
	sizes []int
}

func (b *blocksOf) LeaseIDs(_ context.Context, _ string, n int) (store.ObjectID, error) {
	b.sizes = append(b.sizes, n)
	b.next += store.ObjectID(n)
	return b.next - store.ObjectID(n), nil
}

// A block of ids is used until the next renewal at most, also while uploads go on in it; those keep it leased.
func TestBlocksOfIDsAreLeftBehind(t *testing.T) {
	b := &blocksOf{next: 1}
	s := newIDSource(b, nil, "test")
	take := func() (store.ObjectID, func()) {
		t.Helper()
		id, settled, err := s.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return id, settled
	}
	first, settled := take()
	if inUse := s.blocks(); !slices.Equal(inUse, []store.ObjectID{first}) {
		t.Errorf("to be renewed: %v; want the block of %d", inUse, first)
	}
	if id, _ := take(); id < first+smallBlock {
		t.Errorf("after the renewal id %d; want one of another block", id)
	}
	settled()
	if inUse := s.blocks(); slices.Contains(inUse, first) {
		t.Errorf("to be renewed: %v, and nothing goes on in the first", inUse)
	}
	for range 2 * (smallBlock + largeBlock) {
		_, settled := take()
		settled()
	}
	if !slices.Contains(b.sizes, largeBlock) || slices.Max(b.sizes) > largeBlock || b.sizes[0] != smallBlock {
		t.Errorf("blocks of %d; want them to grow to %d where many are used", b.sizes, largeBlock)
	}
}
