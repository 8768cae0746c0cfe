package backend

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"
)

// pointsPerWeight is how many points of the ring a node of weight 1 has.
const pointsPerWeight = 100

// ring is a circle of hash values on which nodes lie many times each: a key belongs to the first node at or after its own value,
// so that when a node comes or goes only its share of the keys moves. The ring of package memcache is another thing: its points and hashes are
// libmemcached's, bit by bit, because other clients must find the same keys; this one only has to be even, and can pass over nodes.
type ring []point

type point struct {
	hash uint64
	node *Node
}

func newRing(nodes []*Node) ring {
	var r ring
	for _, n := range nodes {
		for i := range n.Weight() * pointsPerWeight {
			r = append(r, point{hashOf(n.Addr + "#" + strconv.Itoa(i)), n})
		}
	}
	slices.SortFunc(r, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	return r
}

// hashOf is FNV-1a, its bits mixed once more: alone it leaves keys that differ in their last byte close together.
func hashOf(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// find is the key's node, or the next one for which ok holds; nil when there is none.
func (r ring) find(key string, ok func(*Node) bool) *Node {
	if len(r) == 0 {
		return nil
	}
	h := hashOf(key)
	start, _ := slices.BinarySearchFunc(r, h, func(p point, h uint64) int { return cmp.Compare(p.hash, h) })
	var last *Node
	for i := range r {
		n := r[(start+i)%len(r)].node
		if n == last {
			continue
		}
		if last = n; ok(n) {
			return n
		}
	}
	return nil
}
