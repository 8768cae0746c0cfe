package recovery

import (
	"context"
	"fmt"
	"slices"

	"wheelhouse/store"
	"wheelhouse/store/idguard"
)

// Clusters finds out which storages mirror each other, where nothing else says so: those that have at least half of what the smaller one
// holds in common. An error names a storage that holds nothing while there are several clusters: it may belong to any.
func Clusters(ctx context.Context, list []Storage) ([][]store.StorageID, error) {
	n := len(list)
	common := make([][]int64, n) // common[i][j] for j ≤ i: ids that both hold
	for i := range common {
		common[i] = make([]int64, i+1)
	}
	failed, err := walk(ctx, list, 1, idguard.Beyond, false, func(h held) (bool, error) {
		for _, i := range h.by {
			for _, j := range h.by {
				if j <= i {
					common[i][j]++
				}
			}
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	for i, err := range failed {
		if err != nil {
			return nil, fmt.Errorf("storage %d: %w", list[i].ID, err)
		}
	}
	return group(list, common)
}

func group(list []Storage, common [][]int64) (groups [][]store.StorageID, err error) {
	of := make([]int, len(list)) // place in groups
	var empty []store.StorageID
	for i := range list {
		of[i] = -1
		if common[i][i] == 0 {
			empty = append(empty, list[i].ID)
			continue
		}
		for j := range i {
			if of[j] < 0 || 2*common[i][j] < min(common[i][i], common[j][j]) {
				continue
			}
			if of[i] < 0 {
				of[i] = of[j]
				groups[of[i]] = append(groups[of[i]], list[i].ID)
			} else if of[i] != of[j] { // it joins two
				from, to := of[j], of[i]
				groups[to] = append(groups[to], groups[from]...)
				groups[from] = nil
				for k := range i {
					if of[k] == from {
						of[k] = to
					}
				}
			}
		}
		if of[i] < 0 {
			of[i] = len(groups)
			groups = append(groups, []store.StorageID{list[i].ID})
		}
	}
	groups = slices.DeleteFunc(groups, func(g []store.StorageID) bool { return g == nil })
	switch {
	case len(groups) == 0:
		groups = [][]store.StorageID{empty}
	case len(groups) == 1:
		groups[0] = append(groups[0], empty...)
	case len(empty) > 0:
		return nil, fmt.Errorf("storages %d hold nothing: say which cluster each belongs to", empty)
	}
	for _, g := range groups {
		slices.Sort(g)
	}
	slices.SortFunc(groups, func(a, b []store.StorageID) int { return int(a[0]) - int(b[0]) })
	return groups, nil
}
