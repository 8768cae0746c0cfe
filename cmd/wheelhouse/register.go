package main

import (
	"context"
	"time"

	"wheelhouse/store"
	"wheelhouse/store/catalog"
	"wheelhouse/store/foreground"
)

// versionHeader is what /healthz tells the program's version in.
const versionHeader = "X-Wheelhouse-Version"

// register has the process tell the others that it runs, and how its clients fare.
func (a *app) register(cat store.Processes, role string) error {
	name, err := processName()
	if err != nil {
		return err
	}
	p := store.Process{Name: name, Role: role, Version: buildVersion(), Schema: catalog.SchemaVersion(), Started: time.Now()}
	a.background = append(a.background, func(ctx context.Context) error {
		a.tell(ctx, cat, p)
		return nil
	})
	return nil
}

// tell reports p until ctx ends: at once when clients were served, else now and then.
func (a *app) tell(ctx context.Context, cat store.Processes, p store.Process) {
	tick := time.NewTicker(foreground.Window)
	defer tick.Stop()
	for told := (time.Time{}); ; {
		now, was := time.Now(), p.Reads
		if a.foreground != nil {
			p.Foreground = a.foreground(now)
		}
		if p.Reads > 0 || was > 0 || now.Sub(told) >= store.ProcessEvery {
			if err := cat.ReportProcess(ctx, p); err == nil {
				told = now
			} else if ctx.Err() == nil {
				a.log.Warn("the catalog was not told that this process runs", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = cat.EndProcess(end, p.Name) // otherwise it is forgotten soon
			return
		case <-tick.C:
		}
	}
}
