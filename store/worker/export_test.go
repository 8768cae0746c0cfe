package worker

import "context"

// Round does one round of Run.
func Round(w *Worker, ctx context.Context) error { return w.round(ctx) }
