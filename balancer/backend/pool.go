package backend

import (
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/balancer"
	"wheelhouse/balancer/config"
)

// nodefileInterval is how often a nodefile's time is looked at.
const nodefileInterval = 3 * time.Second

// Pool is a pool at work. Its methods are safe for concurrent use.
type Pool struct {
	name string
	log  *slog.Logger
	set  atomic.Pointer[balancer.PoolSettings]
	view atomic.Pointer[view]
	turn atomic.Uint64 // of RoundRobin

	circuit                   circuit
	active, pending, retrying atomic.Int64 // towards max_requests, max_pending, max_retries, where those are set
	refused                   [len(limitNames)]atomic.Int64

	mu       sync.Mutex      // guards all below, and changes of view
	listed   []balancer.Node // as they are configured, or as the nodefile has them
	fileTime time.Time       // of the nodefile that listed was read from
	badTime  time.Time       // of one that was found not good since
	looked   time.Time
	names    names
	queues   []*Queue // that use the pool

	lookup                Lookup
	wakeNames, wakeChecks chan struct{} // there is news for Run
	recheck               atomic.Bool   // there will be for checking
}

// view is the nodes as they are now. It is never changed.
type view struct {
	nodes []*Node
	ring  ring // of ConsistentHash
	local string
}

// NewPool makes a pool. Update gives it its settings. lookup finds the addresses of nodes that are given by name, nil: the system's.
func NewPool(name string, log *slog.Logger, lookup Lookup) *Pool {
	if lookup == nil {
		lookup = net.DefaultResolver.LookupNetIP
	}
	p := &Pool{
		name: name, log: log.With("pool", name), lookup: lookup, names: names{known: map[string][]string{}, failed: map[string]error{}},
		wakeNames: make(chan struct{}, 1), wakeChecks: make(chan struct{}, 1),
	}
	p.set.Store(&balancer.PoolSettings{Name: name})
	p.view.Store(&view{})
	return p
}

// Name is the pool's name.
func (p *Pool) Name() string { return p.name }

// Settings are those in force.
func (p *Pool) Settings() *balancer.PoolSettings { return p.set.Load() }

// Nodes are the nodes as they are now. The slice is not to be changed.
func (p *Pool) Nodes() []*Node { return p.view.Load().nodes }

// Local is the name of the handler of this process that stands for the pool, "" when there is none.
func (p *Pool) Local() string { return p.view.Load().local }

// Update puts new settings in force. Nodes that stay keep their state. What it changes of health checks is in force after Settled.
func (p *Pool) Update(set *balancer.PoolSettings) {
	p.mu.Lock()
	old := p.set.Load()
	another, newer := old.NodeFile != set.NodeFile, !p.fileTime.Equal(set.NodeFileTime) // it was read since
	if another {
		p.badTime = time.Time{}
	}
	p.listed, p.fileTime = set.Nodes, set.NodeFileTime
	p.set.Store(set)
	if set.NodeFile != "" && (another || newer) {
		p.readFile()
	}
	p.relist()
	p.rebuild()
	p.mu.Unlock()
	if set.HealthPath == "" && old.HealthPath != "" {
		for _, n := range p.Nodes() { // nobody would ever find them well
			n.recover()
		}
	}
	if old.ResolveInterval != set.ResolveInterval {
		poke(p.wakeNames)
	}
	if old.HealthPath != set.HealthPath || old.HealthInterval != set.HealthInterval {
		p.recheck.Store(true)
	}
	p.notify()
}

// Settled begins with changed health checks: the services that use the pool know how to connect to its nodes now, which may be another way
// than before.
func (p *Pool) Settled() {
	if p.recheck.Swap(false) {
		poke(p.wakeChecks)
	}
}

// notify tells the queues that nodes have changed.
func (p *Pool) notify() {
	p.mu.Lock()
	list := slices.Clone(p.queues)
	p.mu.Unlock()
	for _, q := range list {
		q.changed()
	}
}

// readFile reads the nodefile, if its time has changed. p.mu is held.
func (p *Pool) readFile() (changed bool) {
	path := p.set.Load().NodeFile
	fi, err := os.Stat(path)
	if err != nil || fi.ModTime().Equal(p.fileTime) || fi.ModTime().Equal(p.badTime) {
		if err != nil {
			p.log.Warn("nodefile cannot be read, its last nodes stay", "file", path, "err", err)
		}
		return false
	}
	nodes, at, err := config.ReadNodeFile(path)
	if err != nil {
		p.log.Warn("nodefile is not good, its last nodes stay", "file", path, "err", err)
		p.badTime = fi.ModTime()
		return false
	}
	p.listed, p.fileTime, p.badTime = nodes, at, time.Time{}
	return true
}

// Listed are the nodes as they are configured, and, where they are a nodefile's, when that was modified.
func (p *Pool) Listed() ([]balancer.Node, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listed, p.fileTime
}

// rebuild makes the view of what is configured, read and resolved. p.mu is held.
func (p *Pool) rebuild() {
	set := p.set.Load()
	old := map[string]*Node{}
	for _, n := range p.view.Load().nodes {
		old[n.Addr] = n
	}
	v := &view{}
	seen := map[string]*Node{}
	add := func(addr, name string, weight int) {
		n := seen[addr]
		if n == nil {
			if n = old[addr]; n == nil || n.Name != name { // the name is what its certificate is for
				n = newNode(addr, name, weight)
			}
			seen[addr], v.nodes = n, append(v.nodes, n)
		}
		n.weight.Store(int32(weight))
	}
	for _, n := range p.listed {
		switch {
		case strings.HasPrefix(n.Addr, "local:"):
			v.local = strings.TrimPrefix(n.Addr, "local:")
		case !isName(n.Addr):
			add(n.Addr, "", n.Weight)
		default:
			for _, addr := range p.names.known[n.Addr] {
				add(addr, n.Addr, n.Weight)
			}
		}
	}
	if set.Method == balancer.ConsistentHash {
		v.ring = newRing(v.nodes)
	}
	p.view.Store(v)
}

// refresh is Refresh, if it is time to.
func (p *Pool) refresh(now time.Time) {
	set := p.set.Load()
	if set.NodeFile == "" {
		return
	}
	p.mu.Lock()
	if now.Sub(p.looked) < nodefileInterval {
		p.mu.Unlock()
		return
	}
	p.looked = now
	p.mu.Unlock()
	p.Refresh()
}

// Refresh looks at the nodefile, if there is one.
func (p *Pool) Refresh() {
	p.mu.Lock()
	changed := p.set.Load().NodeFile != "" && p.readFile()
	if changed {
		p.relist()
		p.rebuild()
	}
	p.mu.Unlock()
	if changed {
		p.notify()
	}
}

// pick chooses a node for a request by the pool's method; nil when there is none that may be used. exclude are nodes that have
// failed the request already; they are chosen only when there is no other.
func (p *Pool) pick(now time.Time, key string, exclude []*Node, ok func(*Node) bool) *Node {
	set, v := p.set.Load(), p.view.Load()
	if set.Method == balancer.ConsistentHash && key != "" {
		if n := v.ring.find(key, func(n *Node) bool { return n.usable(now) && ok(n) && !slices.Contains(exclude, n) }); n != nil {
			return n
		}
	}
	var few [32]*Node
	list := few[:0]
	for _, n := range v.nodes {
		if n.usable(now) && ok(n) && !slices.Contains(exclude, n) {
			list = append(list, n)
		}
	}
	if len(list) == 0 {
		for _, n := range exclude {
			if n.usable(now) && ok(n) && slices.Contains(v.nodes, n) {
				list = append(list, n)
			}
		}
	}
	if len(list) == 0 {
		return nil
	}
	switch set.Method {
	case balancer.RoundRobin:
		return p.inTurn(list, now, set.SlowStart)
	case balancer.LeastConn:
		return drawn(lightest(list, now, set.SlowStart), now, set.SlowStart)
	case balancer.PowerOfTwo:
		a, b := drawn(list, now, set.SlowStart), drawn(list, now, set.SlowStart)
		if lighter(b, a, now, set.SlowStart) < 0 {
			return b
		}
		return a
	}
	return drawn(list, now, set.SlowStart)
}

// pickFree chooses a node to connect to where any will do.
func (p *Pool) pickFree(now time.Time, ok func(*Node) bool) *Node {
	var few [32]*Node
	list := few[:0]
	for _, n := range p.view.Load().nodes {
		if n.usable(now) && ok(n) {
			list = append(list, n)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return drawn(list, now, p.set.Load().SlowStart)
}

// Usable are the addresses of the nodes that may be used now, without those that are excluded.
func (p *Pool) Usable(now time.Time, exclude []*Node) []string {
	var list []string
	for _, n := range p.Nodes() {
		if n.usable(now) && !slices.Contains(exclude, n) {
			list = append(list, n.Addr)
		}
	}
	return list
}

// anyUsable reports whether there is a node that may be used.
func (p *Pool) anyUsable(now time.Time) bool {
	return slices.ContainsFunc(p.Nodes(), func(n *Node) bool { return n.usable(now) })
}

// another reports whether there is a node that may be used and is not excluded.
func (p *Pool) another(now time.Time, exclude []*Node) bool {
	return len(exclude) == 0 || slices.ContainsFunc(p.Nodes(), func(n *Node) bool { return !slices.Contains(exclude, n) && n.usable(now) })
}

// inTurn goes round by weight.
func (p *Pool) inTurn(list []*Node, now time.Time, slow time.Duration) *Node {
	total := 0
	for _, n := range list {
		total += n.Weight()
	}
	at := int(p.turn.Add(1) % uint64(total))
	for _, n := range list {
		if at -= n.Weight(); at < 0 {
			if rand.Float64() > n.share(now, slow) {
				return drawn(list, now, slow)
			}
			return n
		}
	}
	return list[0]
}

// lightest are those of a list that have the least to do, all of them: the first alone would get everything while there is little to do.
// They are in the list's own memory.
func lightest(list []*Node, now time.Time, slow time.Duration) []*Node {
	least := list[:1]
	for _, n := range list[1:] {
		switch c := lighter(n, least[0], now, slow); {
		case c < 0:
			least = append(least[:0], n)
		case c == 0:
			least = append(least, n)
		}
	}
	return least
}

// lighter compares nodes by the requests that each has for its weight.
func lighter(a, b *Node, now time.Time, slow time.Duration) int {
	la := float64(a.Active.Load()+1) / (float64(a.Weight()) * a.share(now, slow))
	lb := float64(b.Active.Load()+1) / (float64(b.Weight()) * b.share(now, slow))
	switch {
	case la < lb:
		return -1
	case la > lb:
		return 1
	}
	return 0
}

// drawn is a node by chance, by weight.
func drawn(list []*Node, now time.Time, slow time.Duration) *Node {
	total := 0.0
	for _, n := range list {
		total += float64(n.Weight()) * n.share(now, slow)
	}
	x := rand.Float64() * total
	for _, n := range list {
		if x -= float64(n.Weight()) * n.share(now, slow); x < 0 {
			return n
		}
	}
	return list[len(list)-1]
}

// Failed notes that the node has failed the connection's request, and leaves the node alone for a while if it fails again and again,
// unless too many nodes are left alone already.
func (c *Conn) Failed(err error) {
	c.ticket.tell(failed, c.Node.Addr+": "+err.Error())
	if c.ticket.pool != nil {
		c.ticket.pool.failed(c.Node, err)
	}
}

func (p *Pool) failed(n *Node, err error) {
	now, set := time.Now(), p.set.Load()
	if !n.failed(now, err, set) {
		return
	}
	out := 0
	nodes := p.Nodes()
	for _, other := range nodes {
		if other != n && !other.healthy(now) {
			out++
		}
	}
	if (out+1)*100 > set.EjectMax*len(nodes) {
		return
	}
	d := n.eject(now, set)
	p.log.Warn("node is left alone for a while: its requests failed", "addr", n.Addr, "dur", d, "err", err)
}
