package worker

import "context"

// Round does one round of Run.
func Round(w *Worker, ctx context.Context) error { return w.round(ctx) }

// Backup makes a backup of the catalog if one is due.
func Backup(w *Worker, ctx context.Context) error { return w.backupIfDue(ctx) }

// SetScrubRate lets w begin scrubs by itself.
func SetScrubRate(w *Worker, rate int64) { w.opt.ScrubRate = rate }
