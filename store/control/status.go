package control

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/placement"
)

// status is the whole installation in one answer, with a verdict.
func (a *api) status(r *http.Request) (any, error) {
	ctx := r.Context()
	totals, err := a.cat.Totals(ctx)
	if err != nil {
		return nil, err
	}
	s := store.Status{Totals: totals, Time: a.opt.Now().UTC()}
	if s.Queue, err = a.queue(ctx); err != nil {
		return nil, err
	}
	if s.Operations, err = a.operationList(ctx, 20); err != nil {
		return nil, err
	}
	if s.Storages, err = a.storageList(ctx); err != nil {
		return nil, err
	}
	if s.Clusters, err = a.clusterList(ctx); err != nil {
		return nil, err
	}
	if s.Processes, err = a.cat.Processes(ctx); err != nil {
		return nil, err
	}
	if a.opt.Lookups != nil {
		s.Lookups = a.opt.Lookups(ctx)
	}
	owed, err := a.cat.Owed(ctx)
	if err != nil {
		return nil, err
	}
	for i := range s.Storages {
		s.Storages[i].Owed = owed[s.Storages[i].ID]
	}
	return s, a.judge(ctx, &s)
}

// nearlyFull is the share of a storage's space, in percent, above which an operator should do something.
const nearlyFull = 95

// judge finds what keeps an installation from being healthy, and sets the verdict.
func (a *api) judge(ctx context.Context, s *store.Status) error {
	top, err := a.cat.Topology(ctx)
	if err != nil {
		return err
	}
	settings, err := a.cat.Settings(ctx)
	if err != nil {
		return err
	}
	deadAfter, err := store.ParseDeadAfter(settings[store.SettingDeadAfter])
	if err != nil {
		deadAfter = store.DefaultDeadAfter
	}
	for i := range s.Storages {
		s.Problems = append(s.Problems, storageProblems(&s.Storages[i], deadAfter, s.Time)...)
	}
	s.Problems = append(s.Problems, clusterProblems(top)...)
	s.Problems = append(s.Problems, a.processProblems(s)...)
	catalog, err := a.catalogProblems(ctx, s.Time)
	if err != nil {
		return err
	}
	s.Problems = append(s.Problems, catalog...)
	for _, kind := range store.TaskKinds {
		if n := s.Queue[kind].Failed; n > 0 {
			s.Problems = append(s.Problems, store.Problem{
				Severity: store.VerdictDegraded, What: fmt.Sprintf("%d jobs %s have failed for good", n, kind),
				Do: "see why: wheelhouse jobs list; again: wheelhouse jobs retry",
			})
		}
	}
	// One is begun at once; it is delayed when it has failed.
	if n := s.Queue[store.TaskRepairObject].Delayed; n > 0 {
		s.Problems = append(s.Problems, store.Problem{
			Severity: store.VerdictDegraded, What: fmt.Sprintf("%d repairs of entities have failed and are tried again", n),
			Do: "see why: wheelhouse jobs list --func " + store.TaskRepairObject + "; an object that no storage has good bytes of must be stored again, or deleted",
		})
	}
	slices.SortStableFunc(s.Problems, func(a, b store.Problem) int { return cmp.Compare(gravity(b.Severity), gravity(a.Severity)) })
	s.Verdict = store.VerdictHealthy
	if len(s.Problems) > 0 {
		s.Verdict = s.Problems[0].Severity
	} else {
		s.Problems = []store.Problem{} // a list, in JSON too
	}
	return nil
}

// processProblems finds what keeps the processes from their work.
func (a *api) processProblems(s *store.Status) (list []store.Problem) {
	if a.opt.Changes != nil {
		if err := a.opt.Changes(); err != nil {
			list = append(list, store.Problem{
				Severity: store.VerdictCritical, What: "the catalog takes no changes: nothing can be stored or deleted",
				Do: strings.TrimPrefix(err.Error(), store.ErrNoChanges.Error()+": "),
			})
			return list // nor what the processes say of themselves
		}
	}
	// A process that has just begun may not have heard of the others.
	if !a.opt.Worker && s.Time.Sub(a.begun) > store.ProcessWindow &&
		!slices.ContainsFunc(s.Processes, func(p store.Process) bool { return p.Role == "worker" || p.Role == "up" }) {
		list = append(list, store.Problem{
			Severity: store.VerdictDegraded, What: "no worker runs: nothing is replicated, repaired, cleared away or backed up",
			Do: "start one on the catalog's machine: wheelhouse worker --config FILE",
		})
	}
	return list
}

func gravity(verdict string) int {
	switch verdict {
	case store.VerdictCritical:
		return 2
	case store.VerdictDegraded:
		return 1
	}
	return 0
}

func storageProblems(s *store.StorageStatus, deadAfter time.Duration, now time.Time) (list []store.Problem) {
	add := func(what, do string) {
		list = append(list, store.Problem{Severity: store.VerdictDegraded, Storage: s.ID, Cluster: s.Cluster, What: fmt.Sprintf("storage %d %s", s.ID, what), Do: do})
	}
	switch {
	case s.Mode == store.ModeDead.String():
		who := "is dead"
		if s.BySystem {
			who = "was declared dead by the system"
		}
		add(who, fmt.Sprintf("put a new disk in, then: wheelhouse storage accept %d; wheelhouse storage rebuild %d", s.ID, s.ID))
	case s.Mode == store.ModeDown.String() && s.Set != s.Mode:
		what := fmt.Sprintf("is down for %s: %s", shortDuration(now.Sub(s.DownSince)), s.Reason)
		do := "look at its machine; it is back by itself as soon as it answers"
		if left := deadAfter - now.Sub(s.DownSince) + time.Duration(s.Uncounted)*time.Second; deadAfter > 0 {
			do += ", and declared dead in " + shortDuration(max(left, 0))
		}
		add(what, do)
	case s.Mode == store.ModeDown.String():
		add("is set down", fmt.Sprintf("when that is over: wheelhouse storage set-mode %d rw", s.ID))
	case s.Mode == store.ModeFilling.String():
		add("is being filled", "")
	case s.Capacity > 0 && s.Used*100 >= s.Capacity*nearlyFull:
		add(fmt.Sprintf("is full to %d %%", s.Used*100/s.Capacity), "add a cluster: wheelhouse cluster add, wheelhouse storage add")
	}
	if s.Owed > 0 {
		do := "it is being caught up with"
		if !writable(s.Mode) {
			do = "it is caught up with as soon as it can be written"
		}
		add(fmt.Sprintf("is owed %d entities", s.Owed), do)
	}
	return list
}

// shortDuration is for people: two units at most.
func shortDuration(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

func clusterProblems(top *store.Topology) (list []store.Problem) {
	for _, c := range top.Clusters {
		members, readable := 0, 0
		for i := range top.Storages {
			if st := &top.Storages[i]; st.Cluster == c.ID {
				members++
				if st.Mode.Readable() {
					readable++
				}
			}
		}
		name := fmt.Sprintf("cluster %d (%s)", c.ID, c.Name)
		switch {
		case members > 0 && readable == 0:
			list = append(list, store.Problem{
				Severity: store.VerdictCritical, Cluster: c.ID, What: name + " has no storage in service: its objects cannot be read",
				Do: "bring one of its storages back first",
			})
		case members > 1 && readable == 1:
			list = append(list, store.Problem{
				Severity: store.VerdictDegraded, Cluster: c.ID, What: name + " has one storage left to be read from",
				Do: "do not touch that one; bring the others back or rebuild them",
			})
		}
	}
	classes := top.Classes
	if len(classes) == 0 {
		classes = []store.Class{{Name: store.DefaultClass}}
	}
	for i := range classes {
		k := &classes[i]
		durable := cmp.Or(max(0, k.MinDurable), store.DefaultMinDurable)
		need := placement.Need{Durable: durable}
		switch {
		case placement.Full(top, k, need):
			list = append(list, store.Problem{
				Severity: store.VerdictCritical, What: fmt.Sprintf("no cluster takes objects of class %s: the storages are full", k.Name),
				Do: "add a cluster: wheelhouse cluster add, wheelhouse storage add; what is deleted gives its space back after catalog.grace",
			})
		case !slices.ContainsFunc(top.Clusters, func(c store.Cluster) bool {
			return c.Mode == store.ClusterRW && (len(k.Clusters) == 0 || slices.Contains(k.Clusters, c.ID))
		}):
			list = append(list, store.Problem{
				Severity: store.VerdictCritical, What: fmt.Sprintf("no cluster takes objects of class %s: none is rw", k.Name),
				Do: "wheelhouse cluster set-mode ID rw, or add one: wheelhouse cluster add, wheelhouse storage add",
			})
		case !placement.Any(top, k, need):
			list = append(list, store.Problem{
				Severity: store.VerdictCritical, What: fmt.Sprintf("no cluster takes objects of class %s: %d writable storages are needed", k.Name, durable),
				Do: "bring storages back, or let fewer suffice: wheelhouse class set --durable 1 " + k.Name,
			})
		}
	}
	return list
}

func writable(mode string) bool {
	m, err := store.ParseStorageMode(mode)
	return err == nil && m.Writable()
}
