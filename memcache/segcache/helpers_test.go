package segcache

import (
	"context"
	"testing"
)

func contextFor(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}
