package gearman

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// order returns the servers in the order in which they are tried for a key: rendezvous hashing, so that all clients that
// know the same servers agree, and one that goes or comes moves its own share alone.
func order(servers []*server, key string) []*server {
	type ranked struct {
		s    *server
		rank uint64
	}
	list := make([]ranked, len(servers))
	for i, s := range servers {
		h := fnv.New64a()
		_, _ = h.Write([]byte(s.addr)) // never fails
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(key))
		list[i] = ranked{s, mix(h.Sum64())}
	}
	slices.SortStableFunc(list, func(a, b ranked) int { return cmp.Compare(b.rank, a.rank) })
	out := make([]*server, len(list))
	for i, r := range list {
		out[i] = r.s
	}
	return out
}

// mix spreads what FNV leaves in the low bits over all of them. The constants are those of SplitMix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
