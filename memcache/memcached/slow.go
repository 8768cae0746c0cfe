package memcached

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	slowKept = 128 // commands
	slowText = 120 // bytes of one
)

// slowLog keeps the last commands that took long.
type slowLog struct {
	after time.Duration // 0: none is looked at
	total atomic.Uint64
	mu    sync.Mutex
	list  [slowKept]slowEntry
	next  int
}

type slowEntry struct {
	at    time.Time
	took  time.Duration
	from  string
	user  string
	text  string
	valid bool
}

func (l *slowLog) note(c *conn, text string, took time.Duration) {
	if took < l.after {
		return
	}
	l.total.Add(1)
	from := c.remote()
	if from == "" || from == "@" {
		from = "unix"
	}
	c.s.log.Info("slow command", "addr", from, "text", text, "dur", took)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list[l.next] = slowEntry{time.Now(), took, from, c.user, text, true}
	l.next = (l.next + 1) % slowKept
}

// timedBinary is binCommand for the list, where it is "binary", its opcode and its key.
func (c *conn) timedBinary(h *binHead, rule *binRule, extras, key []byte) error {
	begun := time.Now()
	text := fmt.Sprintf("binary %#02x %s", h.op, printable(string(key[:min(len(key), slowText)])))
	err := c.binCommand(h, rule, extras, key)
	if err != errPartial {
		c.s.slow.note(c, text, time.Since(begun))
	}
	return err
}

// report lists them, the latest first: "SLOW unix-time microseconds address command".
func (l *slowLog) report(out []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range slowKept {
		e := &l.list[(l.next-1-i+2*slowKept)%slowKept]
		if e.valid {
			out = fmt.Appendf(out, "SLOW %d %d %s %s\r\n", e.at.Unix(), e.took.Microseconds(), e.from, e.text)
		}
	}
	return append(out, "END\r\n"...)
}
