package placement_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"wheelhouse/store"
	"wheelhouse/store/placement"
)

// topology has n read-write clusters of three storages each, with ids from 1.
func topology(n int) *store.Topology {
	t := &store.Topology{}
	for c := 1; c <= n; c++ {
		t.Clusters = append(t.Clusters, store.Cluster{ID: store.ClusterID(c)})
		for range 3 {
			t.Storages = append(t.Storages, store.Storage{ID: store.StorageID(len(t.Storages) + 1), Cluster: store.ClusterID(c)})
		}
	}
	return t
}

var two = placement.Need{Durable: 2}

func TestClustersSpreadEvenly(t *testing.T) {
	const clusters, objects = 7, 70_000
	top := topology(clusters)
	got := map[store.ClusterID]int{}
	for id := store.ObjectID(1); id <= objects; id++ {
		got[placement.Clusters(top, nil, id, two)[0]]++
	}
	for c, n := range got {
		if mean := objects / clusters; n < mean*95/100 || n > mean*105/100 {
			t.Errorf("cluster %d has %d objects; want %d ± 5 %%", c, n, mean)
		}
	}
	if len(got) != clusters {
		t.Errorf("%d clusters were used; want %d", len(got), clusters)
	}
}

func TestClustersMoveLittleWhenOneJoins(t *testing.T) {
	const objects = 40_000
	before, after := topology(9), topology(10)
	moved := 0
	for id := store.ObjectID(1); id <= objects; id++ {
		was, is := placement.Clusters(before, nil, id, two), placement.Clusters(after, nil, id, two)
		if was[0] != is[0] {
			moved++
			if is[0] != 10 {
				t.Fatalf("object %d moved from cluster %d to %d, which did not join", id, was[0], is[0])
			}
		}
		// The new one is slipped in; the order of the others stays.
		if rest := slices.DeleteFunc(is, func(c store.ClusterID) bool { return c == 10 }); !slices.Equal(rest, was) {
			t.Fatalf("object %d: order of the old clusters changed from %v to %v", id, was, rest)
		}
	}
	if want := objects / 10; moved < want*90/100 || moved > want*110/100 {
		t.Errorf("%d of %d objects moved; want about %d", moved, objects, want)
	}
}

func TestClustersDoNotDependOnListOrder(t *testing.T) {
	top := topology(6)
	shuffled := topology(6)
	rng := rand.New(rand.NewPCG(1, 2))
	for id := store.ObjectID(1); id < 500; id++ {
		rng.Shuffle(len(shuffled.Clusters), func(i, j int) {
			shuffled.Clusters[i], shuffled.Clusters[j] = shuffled.Clusters[j], shuffled.Clusters[i]
		})
		a, b := placement.Clusters(top, nil, id, two), placement.Clusters(shuffled, nil, id, two)
		if !slices.Equal(a, b) {
			t.Fatalf("object %d: %v and %v from the same clusters", id, a, b)
		}
	}
}

func TestClustersThatMayTakeAnObject(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*store.Topology)
		class  *store.Class
		need   placement.Need
		want   []store.ClusterID
	}{
		{name: "all", need: two, want: []store.ClusterID{1, 2}},
		{name: "class", class: &store.Class{Clusters: []store.ClusterID{2}}, need: two, want: []store.ClusterID{2}},
		{name: "class that names none", class: &store.Class{}, need: two, want: []store.ClusterID{1, 2}},
		{
			name: "read-only", need: two, want: []store.ClusterID{2},
			change: func(t *store.Topology) { t.Clusters[0].Mode = store.ClusterRO },
		},
		{
			name: "retire", need: two, want: []store.ClusterID{2},
			change: func(t *store.Topology) { t.Clusters[0].Mode = store.ClusterRetire },
		},
		{name: "two storages down", need: two, want: []store.ClusterID{1}, change: func(t *store.Topology) {
			t.Storages[3].Mode, t.Storages[4].Mode = store.ModeDown, store.ModeDead
		}},
		{name: "spare and filling count as writable", need: two, want: []store.ClusterID{1, 2}, change: func(t *store.Topology) {
			t.Storages[3].Mode, t.Storages[4].Mode, t.Storages[5].Mode = store.ModeSpare, store.ModeFilling, store.ModeRO
		}},
		{name: "more copies than storages", need: placement.Need{Storages: 4, Durable: 2}},
		{
			name: "dead storages hold no copies", need: placement.Need{Storages: 3, Durable: 2}, want: []store.ClusterID{1},
			change: func(t *store.Topology) { t.Storages[5].Mode = store.ModeDead },
		},
		{name: "no room", need: placement.Need{Durable: 2, Size: 100}, want: []store.ClusterID{2}, change: func(t *store.Topology) {
			for i := range 2 {
				t.Storages[i].Capacity, t.Storages[i].Used = 1000, 950
			}
		}},
		{name: "full", need: two, want: []store.ClusterID{2}, change: func(t *store.Topology) { fill(t, 0, 1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			top := topology(2)
			if tt.change != nil {
				tt.change(top)
			}
			got := placement.Clusters(top, tt.class, 17, tt.need)
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("Clusters = %v; want %v", got, tt.want)
			}
			if got, want := placement.Any(top, tt.class, tt.need), len(tt.want) > 0; got != want {
				t.Errorf("Any = %v; want %v", got, want)
			}
			if n := testing.AllocsPerRun(10, func() { placement.Any(top, tt.class, tt.need) }); n != 0 {
				t.Errorf("Any allocates %v times", n)
			}
		})
	}
}

// fill leaves storages without room.
func fill(t *store.Topology, storages ...int) {
	for _, i := range storages {
		t.Storages[i].Capacity, t.Storages[i].Used = 1000, 1000
	}
}

func TestFull(t *testing.T) {
	two := placement.Need{Durable: 2}
	for _, tt := range []struct {
		name   string
		need   placement.Need
		change func(t *store.Topology)
		want   bool
	}{
		{"room", two, func(t *store.Topology) {}, false},
		{"one cluster is full", two, func(t *store.Topology) { fill(t, 0, 1) }, false},
		{"all are", two, func(t *store.Topology) { fill(t, 0, 1, 3, 4) }, true},
		{"for so large an object", placement.Need{Durable: 2, Size: 2000}, func(t *store.Topology) {
			for i := range t.Storages {
				t.Storages[i].Capacity = 1000
			}
		}, true},
		{"one is full, the other down", two, func(t *store.Topology) {
			fill(t, 0, 1)
			t.Storages[3].Mode, t.Storages[4].Mode = store.ModeDown, store.ModeDown
		}, true},
		{"all are down", two, func(t *store.Topology) {
			for i := range t.Storages {
				t.Storages[i].Mode = store.ModeDown
			}
		}, false},
		{"full, and read-only besides", two, func(t *store.Topology) {
			fill(t, 0, 1, 3, 4)
			t.Clusters[0].Mode, t.Clusters[1].Mode = store.ClusterRO, store.ClusterRO
		}, false},
	} {
		top := topology(2)
		tt.change(top)
		if got := placement.Full(top, nil, tt.need); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestLargest(t *testing.T) {
	top := topology(2)
	top.Storages = append(top.Storages, store.Storage{ID: 7, Cluster: 2})
	if got := placement.Largest(top, nil); got != 4 {
		t.Errorf("Largest = %d; want 4", got)
	}
	top.Storages[6].Mode = store.ModeDead
	if got := placement.Largest(top, &store.Class{Clusters: []store.ClusterID{2}}); got != 3 {
		t.Errorf("Largest = %d; want 3: a dead storage holds nothing", got)
	}
}

func TestStoragesSpreadEvenlyAndStayInOrder(t *testing.T) {
	const objects = 60_000
	first := map[store.StorageID]int{}
	for id := store.ObjectID(1); id <= objects; id++ {
		all := []store.StorageID{1, 2, 3}
		placement.Storages(id, all)
		first[all[0]]++

		backwards := []store.StorageID{3, 2, 1}
		placement.Storages(id, backwards)
		if !slices.Equal(all, backwards) {
			t.Fatalf("object %d: the order depends on the order of the list", id)
		}
		without := []store.StorageID{1, 3}
		placement.Storages(id, without)
		if rest := slices.DeleteFunc(all, func(s store.StorageID) bool { return s == 2 }); !slices.Equal(rest, without) {
			t.Fatalf("object %d: the order of the others changed when one left", id)
		}
	}
	for id, n := range first {
		if mean := objects / 3; n < mean*97/100 || n > mean*103/100 {
			t.Errorf("storage %d is asked first for %d objects; want %d ± 3 %%", id, n, mean)
		}
	}
}

// The clusters and storages chosen are stored facts: a change of hash would make dispatchers of two versions disagree.
func TestOrderIsPinned(t *testing.T) {
	top := topology(5)
	if got, want := placement.Clusters(top, nil, 4711, two), pinnedClusters; !slices.Equal(got, want) {
		t.Errorf("Clusters(4711) = %v; want %v", got, want)
	}
	got := []store.StorageID{1, 2, 3}
	placement.Storages(4715, got)
	if !slices.Equal(got, pinnedStorages) {
		t.Errorf("Storages(4715) = %v; want %v", got, pinnedStorages)
	}
}

var (
	pinnedClusters = []store.ClusterID{3, 5, 4, 2, 1}
	pinnedStorages = []store.StorageID{3, 2, 1}
)

func TestStoragesDoesNotAllocate(t *testing.T) {
	s := []store.StorageID{1, 2, 3}
	id := store.ObjectID(1)
	if n := testing.AllocsPerRun(100, func() { id++; placement.Storages(id, s) }); n != 0 {
		t.Errorf("%v allocations; want none", n)
	}
}

func BenchmarkStorages(b *testing.B) {
	s := []store.StorageID{1, 2, 3}
	b.ReportAllocs()
	var id store.ObjectID
	for b.Loop() {
		id++
		placement.Storages(id, s)
	}
}

// A cluster that has lost a storage is passed over as long as another one is intact, and used when none is.
func TestClustersThatLostAStorageComeLast(t *testing.T) {
	for _, mode := range []store.StorageMode{store.ModeDown, store.ModeDead, store.ModeFilling} {
		top := topology(3)
		top.Storages[0].Mode, top.Storages[3].Mode = mode, mode // of clusters 1 and 2
		for id := store.ObjectID(1); id < 200; id++ {
			got := placement.Clusters(top, nil, id, two)
			if len(got) != 3 || got[0] != 3 {
				t.Fatalf("%v: object %d goes to %v; want cluster 3 first", mode, id, got)
			}
			if !slices.Equal(got[1:], slices.DeleteFunc(placement.Clusters(topology(3), nil, id, two), func(c store.ClusterID) bool { return c == 3 })) {
				t.Fatalf("%v: object %d: the others are not in rendezvous order: %v", mode, id, got)
			}
		}
		wantInForce(t, top, "cluster 1 ro, cluster 2 ro, cluster 3 rw")
		top.Storages[6].Mode = mode
		if got := placement.Clusters(top, nil, 1, two); len(got) != 3 {
			t.Errorf("%v: with none intact: %v", mode, got)
		}
		wantInForce(t, top, "cluster 1 rw degraded, cluster 2 rw degraded, cluster 3 rw degraded")
		top.Storages[7].Mode = store.ModeDown
		wantInForce(t, top, "cluster 1 rw degraded, cluster 2 rw degraded, cluster 3 "+map[bool]string{true: "rw degraded", false: "ro"}[mode == store.ModeFilling])
		// A class of which only a cluster without all its storages is left has its writes there.
		top.Storages[6].Mode, top.Storages[7].Mode = store.ModeRW, store.ModeRW
		top.Classes = []store.Class{{Name: store.DefaultClass}, {Name: "k", Clusters: []store.ClusterID{1}}}
		wantInForce(t, top, "cluster 1 rw degraded, cluster 2 ro, cluster 3 rw")
	}
}

func wantInForce(t *testing.T, top *store.Topology, want string) {
	t.Helper()
	var parts []string
	for i := range top.Clusters {
		mode, degraded := placement.InForce(top, &top.Clusters[i])
		part := fmt.Sprintf("cluster %d %v", top.Clusters[i].ID, mode)
		if degraded {
			part += " degraded"
		}
		parts = append(parts, part)
	}
	if got := strings.Join(parts, ", "); got != want {
		t.Errorf("in force: %s; want %s", got, want)
	}
}

func BenchmarkClusters(b *testing.B) {
	top := topology(8)
	top.Storages[5].Mode = store.ModeDown
	b.ReportAllocs()
	for b.Loop() {
		placement.Clusters(top, nil, 77, two)
	}
}
