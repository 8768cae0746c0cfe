// Package placement decides which cluster takes an object and in which order a cluster's storages are tried.
//
// Everything here is a pure function of its arguments: every dispatcher and worker that knows the same topology comes to
// the same answer without asking anybody. Both orders are rendezvous hashing (highest random weight, Thaler and
// Ravishankar 1998) over murmur3: each candidate gets a weight from its own id and the object's, and the candidates are
// tried from the highest weight down. When a cluster joins, it takes over 1/n of the new objects and no object moves
// between the others.
package placement

import (
	"encoding/binary"
	"slices"

	"github.com/twmb/murmur3"

	"wheelhouse/store"
)

// Need is what a write asks of the cluster that takes it.
type Need struct {
	Storages int   // the cluster must have at least so many storages that are not dead; 0: no such demand
	Durable  int   // so many of them must be writable now
	Size     int64 // bytes that each of them must have room for; 0 or less: not known, but it must not be full
}

// Clusters returns the clusters that may take an object, in the order in which they are to be tried: those of the class
// (all, where it names none) that are read-write and meet the need. A cluster that has lost a storage is as good as
// read-only, and comes after all that are intact: what it takes is owed to the lost one and has a copy less until that is back.
func Clusters(t *store.Topology, class *store.Class, id store.ObjectID, need Need) []store.ClusterID {
	type candidate struct {
		id     store.ClusterID
		lost   bool
		weight uint64
	}
	var found []candidate
	for i := range t.Clusters {
		c := &t.Clusters[i]
		if !takes(t, c, class, need, hasRoom) {
			continue
		}
		found = append(found, candidate{c.ID, !Intact(t, c.ID), weight(uint64(c.ID), id)})
	}
	slices.SortFunc(found, func(a, b candidate) int {
		if a.lost != b.lost {
			if b.lost {
				return -1
			}
			return 1
		}
		return compareWeights(a.weight, b.weight, uint64(a.id), uint64(b.id))
	})
	ids := make([]store.ClusterID, len(found))
	for i, c := range found {
		ids[i] = c.id
	}
	return ids
}

// takes reports whether a cluster may take an object, with the storages that have room for it.
func takes(t *store.Topology, c *store.Cluster, class *store.Class, need Need, room func(*store.Storage, int64) bool) bool {
	return c.Mode == store.ClusterRW && classTakes(class, c.ID) && meets(t, c.ID, need, room)
}

// Any reports whether any cluster may take an object, whichever id it gets: whether Clusters finds one. It does not allocate.
func Any(t *store.Topology, class *store.Class, need Need) bool {
	for i := range t.Clusters {
		if takes(t, &t.Clusters[i], class, need, hasRoom) {
			return true
		}
	}
	return false
}

// Full reports whether no cluster may take an object, and want of space is all that keeps one of them from it.
func Full(t *store.Topology, class *store.Class, need Need) bool {
	if Any(t, class, need) {
		return false
	}
	return slices.ContainsFunc(t.Clusters, func(c store.Cluster) bool {
		return takes(t, &c, class, need, func(*store.Storage, int64) bool { return true })
	})
}

// Intact reports whether no storage of a cluster is lost: down, dead or being filled.
func Intact(t *store.Topology, id store.ClusterID) bool {
	for i := range t.Storages {
		if t.Storages[i].Cluster == id && t.Storages[i].Mode.Lost() {
			return false
		}
	}
	return true
}

// InForce is the mode of a cluster that holds at the moment, for status pages: the one that is set, but read-only where
// it has lost a storage and an intact cluster takes the writes of every class instead, or where it cannot take any. degraded
// says that it takes writes although it has lost a storage, so that they are owed a copy.
func InForce(t *store.Topology, c *store.Cluster) (mode store.ClusterMode, degraded bool) {
	if c.Mode != store.ClusterRW {
		return c.Mode, false
	}
	needed := len(t.Classes) == 0 && needs(t, nil, c.ID)
	for i := range t.Classes {
		needed = needed || needs(t, &t.Classes[i], c.ID)
	}
	if !needed {
		return store.ClusterRO, false
	}
	return store.ClusterRW, !Intact(t, c.ID)
}

// needs reports whether a cluster is among the first choices of a class for some object.
func needs(t *store.Topology, class *store.Class, id store.ClusterID) bool {
	need := Need{Durable: store.DefaultMinDurable}
	if class != nil && class.MinDurable > 0 {
		need.Durable = class.MinDurable
	}
	order := Clusters(t, class, 0, need)
	if !slices.Contains(order, id) {
		return false
	}
	return Intact(t, id) || !Intact(t, order[0])
}

// Storages sorts the storages of one cluster, in place, into the order in which an object is to be read from them. The
// first differs from object to object, so that each storage serves an even share and every dispatcher asks the same one
// for the same object (its page cache then holds it). It does not allocate.
func Storages(id store.ObjectID, storages []store.StorageID) {
	// Insertion sort: a mirror group has a handful of storages, and this must not allocate.
	for i := 1; i < len(storages); i++ {
		for j := i; j > 0 && storageBefore(id, storages[j], storages[j-1]); j-- {
			storages[j], storages[j-1] = storages[j-1], storages[j]
		}
	}
}

func storageBefore(id store.ObjectID, a, b store.StorageID) bool {
	return compareWeights(storageWeight(a, id), storageWeight(b, id), uint64(a), uint64(b)) < 0
}

// Largest returns the size of the biggest cluster of the class in storages that are not dead: the most copies that an
// object can be asked to have.
func Largest(t *store.Topology, class *store.Class) int {
	largest := 0
	for _, c := range t.Clusters {
		if classTakes(class, c.ID) {
			largest = max(largest, living(t, c.ID))
		}
	}
	return largest
}

func classTakes(class *store.Class, id store.ClusterID) bool {
	return class == nil || len(class.Clusters) == 0 || slices.Contains(class.Clusters, id)
}

func living(t *store.Topology, id store.ClusterID) int {
	n := 0
	for i := range t.Storages {
		if t.Storages[i].Cluster == id && t.Storages[i].Mode != store.ModeDead {
			n++
		}
	}
	return n
}

func meets(t *store.Topology, id store.ClusterID, need Need, room func(*store.Storage, int64) bool) bool {
	living, writable := 0, 0
	for i := range t.Storages {
		s := &t.Storages[i]
		if s.Cluster != id || s.Mode == store.ModeDead {
			continue
		}
		living++
		if s.Mode.Writable() && room(s, need.Size) {
			writable++
		}
	}
	return living >= need.Storages && writable >= need.Durable
}

// hasRoom goes by what the storage last said; it refuses by itself when that was too hopeful.
func hasRoom(s *store.Storage, size int64) bool {
	return s.Capacity == 0 || s.Capacity-s.Used > max(size, 0)
}

func compareWeights(a, b, ida, idb uint64) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	case ida < idb: // equal weights must not drop a candidate, as they did in STF
		return -1
	case ida > idb:
		return 1
	}
	return 0
}

// The two orders use different seeds, so that the cluster an object went to says nothing about the storage tried first.
func weight(candidate uint64, id store.ObjectID) uint64 {
	return hash(0x77686c31, candidate, uint64(id))
}

func storageWeight(s store.StorageID, id store.ObjectID) uint64 {
	return hash(0x77686c32, uint64(s), uint64(id))
}

func hash(seed, a, b uint64) uint64 {
	var buf [16]byte
	binary.LittleEndian.PutUint64(buf[:8], a)
	binary.LittleEndian.PutUint64(buf[8:], b)
	return murmur3.SeedSum64(seed, buf[:])
}
