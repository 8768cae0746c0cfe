package segcache

import (
	"fmt"
	"strings"
	"testing"
)

// Where the limit has been higher, what lies beyond makes room for large items, too, though nobody but Room forgets anything.
func TestLargeItemsAfterLowerLimit(t *testing.T) {
	t.Parallel()
	const limit = 16 << 20
	c := newCache(t, Options{Limit: limit, Now: 1})
	if !c.SetLimit(2 * limit) {
		t.Fatal("the limit cannot be raised")
	}
	small, large := []byte(strings.Repeat("x", 1000)), []byte(strings.Repeat("y", 60_000))
	for i := range 2 * limit / len(small) {
		if err := set(c, fmt.Sprint("small", i), &Put{A: small}); err != nil {
			t.Fatal(err)
		}
	}
	if !c.SetLimit(limit) {
		t.Fatal("the limit cannot be lowered")
	}
	for i := range 20 {
		if err := set(c, fmt.Sprint("large", i), &Put{A: large}); err != nil {
			t.Fatalf("item %d: %v", i, err)
		}
	}
	c.check(t)
	if used := c.segs.used; used > c.capacity() {
		t.Errorf("%d segments are in use; want %d at most", used, c.capacity())
	}
}
