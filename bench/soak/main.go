// Command soak runs an installation of many processes under a mixed load for a time, breaks its parts at random, and
// checks that nothing that was acknowledged is lost and no wrong byte is served. Its last lines are its verdict; the exit
// status is 1 if anything was lost or wrong.
//
//	make soak SOAK=30m
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(log.Ltime)
	if len(os.Args) == 2 && os.Args[1] == holdArg {
		hold()
	}
	o := parse()
	var why error
	if o.network != "proxy" && os.Getenv(insideEnv) == "" {
		var status int
		var ok bool
		if status, ok, why = namespaced(); ok {
			os.Exit(status)
		}
		log.Printf("storages are behind proxies: %v", why)
	}
	if err := run(o, why); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	span    time.Duration
	clients int
	keys    int
	seed    uint64
	program string
	dir     string
	report  string
	every   time.Duration
	network string
	clocks  bool
}

func parse() (o options) {
	flag.DurationVar(&o.span, "time", 30*time.Minute, "how long to break things")
	flag.IntVar(&o.clients, "clients", 8, "clients at a time")
	flag.IntVar(&o.keys, "keys", 60, "names that each client uses")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of what is done and broken")
	flag.StringVar(&o.program, "program", "bin/wheelhouse", "the program")
	flag.StringVar(&o.dir, "dir", "", "where the installation lives; default: a temporary directory")
	flag.StringVar(&o.report, "report", "", "file that the report goes to, as Markdown")
	flag.DurationVar(&o.every, "every", 4*time.Second, "a fault about this often")
	flag.StringVar(&o.network, "network", "namespace", "namespace: each storage node in one of its own, where that is permitted; proxy: behind TCP proxies")
	flag.BoolVar(&o.clocks, "clocks", true, "let clocks jump; for that the program is built, instead of -program")
	flag.Parse()
	if o.network != "namespace" && o.network != "proxy" {
		fmt.Fprintf(os.Stderr, "soak: -network %q: want namespace or proxy\n", o.network)
		os.Exit(2)
	}
	return o
}

// run breaks an installation for a time. why says why there are no network namespaces.
func run(o options, why error) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.program, err = filepath.Abs(o.program); err != nil {
		return err
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "soak"); err != nil {
			return err
		}
		defer os.RemoveAll(o.dir)
	}
	var net network = &proxies{why: why}
	if os.Getenv(insideEnv) != "" {
		if net, err = newNamespaces(); err != nil {
			return err
		}
	}
	var noClocks error
	if o.clocks {
		log.Print("building the program with a clock that can jump")
		var program string
		if program, noClocks = buildWithClock(o.dir); noClocks == nil {
			o.program = program
		} else {
			o.clocks = false
			log.Printf("clocks are left alone: %v", noClocks)
		}
	}
	c := newCluster(o, net)
	c.noClocks = noClocks
	defer c.close()
	if err := c.start(ctx); err != nil {
		return err
	}
	log.Printf("seed %d; %d processes are up; breaking them for %s", o.seed, len(c.procs), o.span)

	f := &faults{c: c, rnd: rand.New(rand.NewPCG(o.seed, 1)), counts: map[string]int{}}
	l := newLoad(c, o, &f.was)
	loading, endLoad := context.WithCancel(ctx)
	breaking, endFaults := context.WithTimeout(ctx, o.span)
	defer endFaults()
	defer endLoad()
	var clients, breaker sync.WaitGroup
	for i := range o.clients {
		clients.Go(func() { l.client(loading, i) })
	}
	breaker.Go(func() { f.run(breaking, o.every) })
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for breaking.Err() == nil {
		select {
		case <-tick.C:
			log.Print(l.summary(), "; faults ", f.total())
		case <-breaking.Done():
		}
	}
	breaker.Wait()
	endLoad()
	clients.Wait()
	log.Print("everything is mended; reading back all that was acknowledged")
	if err := c.mend(ctx); err != nil {
		return err
	}
	l.verify(ctx)
	r := newReport(o, l, f, c)
	r.print(os.Stdout)
	if o.report != "" {
		if err := r.write(o.report); err != nil {
			return err
		}
	}
	return r.verdict()
}
