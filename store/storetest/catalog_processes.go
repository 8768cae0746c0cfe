package storetest

import (
	"time"

	"wheelhouse/store"
)

func catalogProcesses(t *catalogTest) {
	list := func() []store.Process {
		t.Helper()
		list, err := t.Catalog.Processes(t.ctx)
		t.ok(err)
		return list
	}
	t.equal("at first", list(), []store.Process(nil))
	begun := t.clock.now()
	w := store.Process{Name: "host/1", Role: "worker", Version: "v1", Schema: 4, Started: begun}
	d := store.Process{Name: "host/2", Role: "dispatcher", Version: "v2", Schema: 4, Started: begun, Foreground: store.Foreground{P99: 1500 * time.Microsecond, Reads: 700}}
	t.ok(t.Catalog.ReportProcess(t.ctx, w))
	t.ok(t.Catalog.ReportProcess(t.ctx, d))
	w.Seen, d.Seen = begun, begun
	t.equal("both, by role", list(), []store.Process{d, w})

	t.clock.add(store.ProcessWindow - time.Second)
	d.Foreground = store.Foreground{P99: time.Second, Reads: 1}
	t.ok(t.Catalog.ReportProcess(t.ctx, d))
	d.Seen = t.clock.now()
	t.equal("with news", list(), []store.Process{d, w})
	t.clock.add(2 * time.Second)
	t.equal("one is not heard any more", list(), []store.Process{d})
	t.ok(t.Catalog.EndProcess(t.ctx, d.Name))
	t.ok(t.Catalog.EndProcess(t.ctx, "nobody"))
	t.equal("stopped", list(), []store.Process(nil))
}
