package balancer

import "sync/atomic"

// Phase is what a request is doing, for those who look on.
type Phase int32

// The phases. A request that no backend is asked for stays in the first.
const (
	Answering  Phase = iota // within the balancer
	Buffering               // its body is taken in
	Waiting                 // for a backend
	Asked                   // a backend has it
	Delivering              // a backend's response is sent
)

// Watch is what others than a request's goroutine may see of it. Its methods are safe for concurrent use.
type Watch struct {
	phase    atomic.Int32
	priority atomic.Int32
	backend  atomic.Pointer[string]
}

// Wait notes that the request waits for a backend in a queue.
func (w *Watch) Wait(p Priority) {
	w.priority.Store(int32(p))
	w.phase.Store(int32(Waiting))
}

// Ask notes the backend that has the request. addr is not copied, and must not change.
func (w *Watch) Ask(addr *string) {
	w.backend.Store(addr)
	w.phase.Store(int32(Asked))
}

// Set notes another phase.
func (w *Watch) Set(p Phase) { w.phase.Store(int32(p)) }

// See is what the request is doing, the backend that has or had it ("" for none), and the queue that it waited in.
func (w *Watch) See() (Phase, string, Priority) {
	addr := ""
	if p := w.backend.Load(); p != nil {
		addr = *p
	}
	phase := Phase(w.phase.Load())
	if phase < Waiting && addr == "" {
		return phase, "", Normal
	}
	return phase, addr, Priority(w.priority.Load())
}
