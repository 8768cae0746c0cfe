package gearman

import (
	"bytes"
	"context"
	"io"
	"sync"
)

// EventType is what happened to a job.
type EventType uint8

// Events.
const (
	EventData     EventType = iota + 1 // a part of the result
	EventWarning                       // a part of what the worker warns of
	EventStatus                        // progress
	EventComplete                      // done; Data is the last part of the result
)

// Event is one thing that happened to a running job.
type Event struct {
	Type     EventType
	Data     []byte
	Num, Den uint64 // EventStatus
}

// MaxBuffered is how many bytes of a task's events wait to be read.
const MaxBuffered = 64 << 20

// Task is a job that the caller waits for.
type Task struct {
	handle Handle
	leave  func() // the caller listens no more

	mu     sync.Mutex // guards what follows
	events []Event
	size   int
	end    error // io.EOF once complete
	ready  chan struct{}
}

func newTask() *Task { return &Task{ready: make(chan struct{}, 1)} }

// Handle names the job on its server.
func (t *Task) Handle() Handle { return t.handle }

// put adds an event; end, if not nil, is the last word.
func (t *Task) put(e Event, end error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.end != nil {
		return
	}
	if t.size += len(e.Data); t.size > MaxBuffered && end == nil {
		e, end = Event{}, ErrTooSlow
		t.events = nil
	}
	if e.Type == EventStatus && len(t.events) > 0 && t.events[len(t.events)-1].Type == EventStatus {
		t.events = t.events[:len(t.events)-1] // nobody has seen it, and it is out of date
	}
	if e.Type != 0 {
		t.events = append(t.events, e)
	}
	t.end = end
	select {
	case t.ready <- struct{}{}:
	default:
	}
}

// Next returns what happens next, and io.EOF after EventComplete. Other errors end the task: ErrFailed, an *[Exception],
// ErrDisconnected, ErrTooSlow. When ctx ends the task goes on; call Next again, or Stop. One caller at a time.
func (t *Task) Next(ctx context.Context) (Event, error) {
	for {
		t.mu.Lock()
		if len(t.events) > 0 {
			e := t.events[0]
			t.events = t.events[1:]
			t.size -= len(e.Data)
			t.mu.Unlock()
			return e, nil
		}
		end := t.end
		t.mu.Unlock()
		if end != nil {
			return Event{}, end
		}
		select {
		case <-t.ready:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

// Result waits for the end and returns the whole result, all its parts joined. The limit of MaxBuffered does not hold
// for it: it takes the parts as they come. When ctx ends it stops the task.
func (t *Task) Result(ctx context.Context) ([]byte, error) {
	var first []byte
	var all *bytes.Buffer
	for {
		e, err := t.Next(ctx)
		switch {
		case err == io.EOF && all != nil:
			return all.Bytes(), nil
		case err == io.EOF:
			return first, nil
		case err != nil:
			t.Stop()
			return nil, err
		case e.Type != EventData && e.Type != EventComplete || len(e.Data) == 0:
		case all != nil:
			all.Write(e.Data)
		case first == nil:
			first = e.Data
		default:
			all = bytes.NewBuffer(first)
			all.Write(e.Data)
		}
	}
}

// Stop listens no more. The protocol has no word for it, so the job runs on; one that nobody listens to and that was not
// begun yet is dropped by the server when the client's connection ends.
func (t *Task) Stop() { t.leave() }
