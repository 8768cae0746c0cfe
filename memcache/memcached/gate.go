package memcached

import "time"

// gate lets one at a time do what takes as long as hundreds of gets: parts of stats and of dumps. Now and then it stays closed for as long as
// has been worked behind it, so that a get waits for a few of these, and not for all. (That others wait at the gate is no measure for it:
// on a single processor nobody waits who is not made to.)
type gate struct {
	free chan struct{} // holds a token while nobody is in; the rest belongs to who is in
	used time.Duration // since it was closed
	last time.Time     // when it was used
}

const (
	gateTurn  = 500 * time.Microsecond // of work, after which others have theirs
	gateQuiet = 10 * time.Millisecond  // without work, after which what was before is forgotten
)

func (g *gate) init() {
	g.free = make(chan struct{}, 1)
	g.leave()
}

func (g *gate) leave() { g.free <- struct{}{} }

// do does f when it is its turn. f must be bounded, and must not wait for a client.
func (g *gate) do(f func()) {
	<-g.free
	begun := time.Now()
	if begun.Sub(g.last) > gateQuiet {
		g.used = 0
	}
	defer func() {
		g.last = time.Now()
		if g.used += g.last.Sub(begun); g.used < gateTurn {
			g.leave()
			return
		}
		pause := g.used
		g.used = 0
		time.AfterFunc(pause, g.leave)
	}()
	f()
}
