package netpoll

import "testing"

// What happens before a try is postponed, or while it is, is never lost: the goroutine is not left waiting.
func TestNothingIsLost(t *testing.T) {
	more := func(uintptr) bool { return false }
	var h half
	h.happen()
	if h.postpone(more) {
		t.Error("a try was postponed though something has happened")
	}
	h.state.Store(quiet)
	if !h.postpone(more) {
		t.Fatal("a try was not postponed")
	}
	if h.happen() {
		t.Error("who has postponed a try is woken before it")
	}
	if !h.tryNow(0) || h.done {
		t.Error("something has happened before the try, and nobody is woken to look")
	}
	h.state.Store(quiet)
	if !h.postpone(more) || h.tryNow(0) || !h.happen() {
		t.Error("what happens after the try wakes nobody")
	}
	h.state.Store(quiet)
	if !h.postpone(func(uintptr) bool { return true }) || !h.tryNow(0) || !h.done {
		t.Error("the try was all, and nobody is woken")
	}
}
