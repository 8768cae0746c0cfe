package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// progress draws a line on a terminal while bytes move: done, rate, time left. On anything but a terminal it draws
// nothing.
type progress struct {
	w     io.Writer
	name  string
	total int64 // -1: not known
	done  atomic.Int64
	begun time.Time
	stop  chan struct{}
	wait  sync.WaitGroup
}

// startProgress begins to draw. end must be called.
func startProgress(w io.Writer, name string, total int64) *progress {
	p := &progress{w: w, name: name, total: total, begun: time.Now(), stop: make(chan struct{})}
	if isTerminal(w) {
		p.wait.Go(p.run)
	}
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

func (p *progress) run() {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			fmt.Fprint(p.w, "\r\033[K")
			return
		case <-tick.C:
			fmt.Fprint(p.w, "\r\033[K"+p.line(time.Since(p.begun)))
		}
	}
}

// line is what is shown after some time.
func (p *progress) line(elapsed time.Duration) string {
	const width = 24
	done, rate := p.done.Load(), int64(0)
	if s := elapsed.Seconds(); s > 0 {
		rate = int64(float64(done) / s)
	}
	name := p.name
	if r := []rune(name); len(r) > 32 {
		name = "…" + string(r[len(r)-31:])
	}
	if p.total <= 0 {
		return fmt.Sprintf("%-32s %10s  %s/s", name, human(done), human(rate))
	}
	filled := int(min(done, p.total) * width / p.total)
	left := "--:--"
	if rate > 0 {
		left = shortTime(time.Duration(float64(p.total-done) / float64(rate) * 1e9))
	}
	return fmt.Sprintf("%-32s [%s%s] %3d%%  %s of %s  %s/s  %s left", name, strings.Repeat("#", filled),
		strings.Repeat(".", width-filled), done*100/p.total, human(done), human(p.total), human(rate), left)
}

func shortTime(d time.Duration) string {
	d = d.Round(time.Second)
	if d >= time.Hour {
		return fmt.Sprintf("%d:%02d:%02d", d/time.Hour, d/time.Minute%60, d/time.Second%60)
	}
	return fmt.Sprintf("%d:%02d", d/time.Minute, d/time.Second%60)
}

func (p *progress) end() {
	close(p.stop)
	p.wait.Wait()
}

// reader counts what is read.
func (p *progress) reader(r io.Reader) io.Reader { return &countingReader{r, &p.done} }

type countingReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}
