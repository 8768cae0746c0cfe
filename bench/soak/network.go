package main

import "wheelhouse/internal/freeport"

// network is what lies between the storage nodes and everything else, and can be broken.
type network interface {
	// node makes the way to storage id: where its node is to listen, where the others reach it, and what must stand before
	// the command that runs it.
	node(id int) (listen, reached string, prefix []string, err error)
	set(id int, m netMode) error
	kind() string // what it is, for the report
	close()
}

// netMode is what is wrong with the network.
type netMode int

const (
	netGood   netMode = iota
	netCut            // whoever sends is told at once that there is no way; what is under way is lost
	netSilent         // packets vanish
	netSlow           // 50 KB/s each way
)

const slowRate = 50 << 10 // bytes a second

// proxies are the network where namespaces are not to be had.
type proxies struct {
	why  error // why they are not
	each []*proxy
}

func (p *proxies) node(int) (listen, reached string, prefix []string, err error) {
	if listen, err = freeport.Addr(); err != nil {
		return "", "", nil, err
	}
	x, err := newProxy(listen)
	if err != nil {
		return "", "", nil, err
	}
	p.each = append(p.each, x)
	return listen, x.addr(), nil, nil
}

func (p *proxies) set(id int, m netMode) error {
	p.each[id-1].set(m)
	return nil
}

func (p *proxies) kind() string {
	s := "behind TCP proxies, which break connections and not packets"
	if p.why != nil {
		s += " (network namespaces were not to be had: " + p.why.Error() + ")"
	}
	return s
}

func (p *proxies) close() {
	for _, x := range p.each {
		x.close()
	}
}
