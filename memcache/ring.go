package memcache

import (
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
)

// Distribution says how keys are spread over servers. All clients of a set of servers must have the same one.
type Distribution int

const (
	// Ketama is libmemcached's MEMCACHED_BEHAVIOR_KETAMA: a ring with 100 points for each server, hashes by Jenkins's one-at-a-time.
	// When one server has a weight above 1, the points are those of KetamaWeighted, and keys are hashed as before: so does libmemcached.
	// pylibmc calls it "ketama".
	Ketama Distribution = iota
	// KetamaMD5 is Ketama with MD5 as hash (MEMCACHED_BEHAVIOR_HASH, MEMCACHED_HASH_MD5).
	KetamaMD5
	// KetamaWeighted is libmemcached's MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED: a ring with 160 points for each server on average,
	// proportional to the weights. pylibmc calls it "ketama_weighted", PHP's memcached Memcached::OPT_LIBKETAMA_COMPATIBLE.
	KetamaWeighted
	// Jump is the jump consistent hash of Lamping and Veach: the most even one, without memory. A server's place in the list is its
	// identity: servers can be added or taken away at the end alone. Weights are ignored.
	Jump
	// Rendezvous asks each server how much it wants a key: exact weights, and the least moves whichever server comes or goes. A look-up
	// takes time in proportion to the number of servers.
	Rendezvous
)

// String returns the distribution's name.
func (d Distribution) String() string {
	if d < 0 || int(d) >= len(distributions) {
		return "Distribution(" + strconv.Itoa(int(d)) + ")"
	}
	return distributions[d]
}

var distributions = [...]string{"ketama", "ketama_md5", "ketama_weighted", "jump", "rendezvous"}

// ParseDistribution reads what [Distribution.String] writes.
func ParseDistribution(s string) (Distribution, error) {
	i := slices.Index(distributions[:], s)
	if i < 0 {
		return 0, fmt.Errorf("memcache: distribution %q; want one of %v", s, distributions)
	}
	return Distribution(i), nil
}

// Ring places keys on servers. It does not change, and can be used by many at once.
type Ring struct {
	servers []Server
	kind    Distribution
	points  []point  // of the three ketamas, sorted
	seeds   []uint64 // Rendezvous: the servers' hashes
}

type point struct {
	hash   uint32
	server int32
}

// Points for each server, libmemcached's MEMCACHED_POINTS_PER_SERVER and MEMCACHED_POINTS_PER_SERVER_KETAMA.
const (
	plainPoints    = 100
	weightedPoints = 160
	pointsPerMD5   = 4
)

// NewRing makes a ring. The servers must differ in their addresses and have a weight of at least 1.
func NewRing(servers []Server, kind Distribution) (*Ring, error) {
	if err := checkServers(servers); err != nil {
		return nil, err
	}
	r := &Ring{servers: slices.Clone(servers), kind: kind}
	switch kind {
	case Ketama, KetamaMD5:
		if slices.ContainsFunc(servers, func(s Server) bool { return s.Weight > 1 }) {
			r.placeWeighted()
		} else {
			r.placePlain()
		}
	case KetamaWeighted:
		r.placeWeighted()
	case Jump:
	case Rendezvous:
		for _, s := range servers {
			r.seeds = append(r.seeds, hash64(s.Addr()))
		}
	default:
		return nil, fmt.Errorf("memcache: there is no %v", kind)
	}
	// Where two points are equal the server that was named first has it, as with libmemcached, whose sort is stable.
	slices.SortStableFunc(r.points, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	return r, nil
}

// placePlain gives each server its points, each a hash of its own.
func (r *Ring) placePlain() {
	for i, s := range r.servers {
		for n := range plainPoints {
			r.points = append(r.points, point{r.ketamaHash(s.point() + "-" + strconv.Itoa(n)), int32(i)})
		}
	}
}

// placeWeighted gives each server points by its weight, four from each MD5. The arithmetic is libmemcached's, in single precision:
// rounding decides how many there are.
func (r *Ring) placeWeighted() {
	total := 0
	for _, s := range r.servers {
		total += s.Weight
	}
	for i, s := range r.servers {
		part := float32(s.Weight) / float32(total)
		share := float32(part * float32(weightedPoints))
		share = float32(share / pointsPerMD5)
		share = float32(share * float32(len(r.servers)))
		hashes := int(math.Floor(float64(float32(share + 0.0000000001))))
		for n := range hashes {
			sum := md5.Sum([]byte(s.point() + "-" + strconv.Itoa(n)))
			for x := range pointsPerMD5 {
				r.points = append(r.points, point{binary.LittleEndian.Uint32(sum[4*x:]), int32(i)})
			}
		}
	}
}

// ketamaHash is the hash of a key, and of a server's points where they have one each.
func (r *Ring) ketamaHash(key string) uint32 {
	if r.kind == Ketama {
		return oneAtATime(key)
	}
	sum := md5.Sum([]byte(key))
	return binary.LittleEndian.Uint32(sum[:])
}

// oneAtATime is Bob Jenkins's hash as libhashkit has it: bytes are signed, as char is there on most machines.
func oneAtATime(s string) (h uint32) {
	for i := range len(s) {
		h += uint32(int32(int8(s[i])))
		h += h << 10
		h ^= h >> 6
	}
	h += h << 3
	h ^= h >> 11
	return h + h<<15
}

// Servers returns the servers, in the order in which they were given.
func (r *Ring) Servers() []Server { return slices.Clone(r.servers) }

// Place returns the number of the server that has a key.
func (r *Ring) Place(key string) int { return r.place(key, nil) }

// place returns the first server for key that usable (nil: all) lets pass, or -1 if it lets none pass. It is asked once at most about
// each server.
func (r *Ring) place(key string, usable func(server int) bool) int {
	if usable == nil {
		usable = func(int) bool { return true }
	}
	switch r.kind {
	case Jump:
		return r.placeJump(key, usable)
	case Rendezvous:
		return r.placeRendezvous(key, usable)
	}
	h := r.ketamaHash(key)
	at, _ := slices.BinarySearchFunc(r.points, h, func(p point, h uint32) int { return cmp.Compare(p.hash, h) })
	var refused []int32
	for n := range len(r.points) {
		p := r.points[(at+n)%len(r.points)]
		if slices.Contains(refused, p.server) {
			continue
		}
		if usable(int(p.server)) {
			return int(p.server)
		}
		if refused = append(refused, p.server); len(refused) == len(r.servers) {
			break
		}
	}
	return -1
}

// placeJump asks again with another hash when a server may not be used: the keys of one that is away are spread over all others.
func (r *Ring) placeJump(key string, usable func(int) bool) int {
	h := hash64(key)
	refused := map[int]bool{}
	for n := range uint64(2*len(r.servers) + 8) {
		i := jump(mix(h+n*golden), len(r.servers))
		if refused[i] {
			continue
		}
		if usable(i) {
			return i
		}
		refused[i] = true
	}
	for i := range r.servers { // those that chance has not named
		if !refused[i] && usable(i) {
			return i
		}
	}
	return -1
}

// jump is the function of "A Fast, Minimal Memory, Consistent Hash Algorithm" (Lamping, Veach, 2014).
func jump(key uint64, buckets int) int {
	b, j := int64(-1), int64(0)
	for j < int64(buckets) {
		b = j
		key = key*2862933555777941757 + 1
		j = int64(float64(b+1) * (float64(int64(1)<<31) / float64((key>>33)+1)))
	}
	return int(b)
}

// placeRendezvous gives the key to who bids most. A bid is -weight/ln(x) with x evenly distributed between 0 and 1, so that who wins is
// proportional to weights.
func (r *Ring) placeRendezvous(key string, usable func(int) bool) int {
	h := hash64(key)
	bid := func(i int) float64 {
		x := (float64(mix(h^r.seeds[i])>>11) + 0.5) / (1 << 53)
		return -float64(r.servers[i].Weight) / math.Log(x)
	}
	refused := make([]bool, len(r.servers))
	for range r.servers {
		best, most := -1, 0.0
		for i := range r.servers {
			if b := bid(i); !refused[i] && (best < 0 || b > most) {
				best, most = i, b
			}
		}
		if usable(best) {
			return best
		}
		refused[best] = true
	}
	return -1
}

const golden = 0x9e3779b97f4a7c15

// hash64 is FNV-1a, mixed: FNV alone leaves the high bits of short keys alike.
func hash64(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	return mix(h.Sum64())
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
