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
	if err := run(); err != nil {
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
}

func parse() (o options) {
	flag.DurationVar(&o.span, "time", 30*time.Minute, "how long to break things")
	flag.IntVar(&o.clients, "clients", 16, "clients at a time")
	flag.IntVar(&o.keys, "keys", 60, "names that each client uses")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of what is done and broken")
	flag.StringVar(&o.program, "program", "bin/wheelhouse", "the program")
	flag.StringVar(&o.dir, "dir", "", "where the installation lives; default: a temporary directory")
	flag.StringVar(&o.report, "report", "", "file that the report goes to, as Markdown")
	flag.DurationVar(&o.every, "every", 4*time.Second, "a fault about this often")
	flag.Parse()
	return o
}

func run() (err error) {
	o := parse()
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
	c, err := newCluster(o.program, o.dir)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.start(ctx); err != nil {
		return err
	}
	log.Printf("seed %d; %d processes are up; breaking them for %s", o.seed, len(c.procs), o.span)

	l := newLoad(c, o)
	f := &faults{c: c, rnd: rand.New(rand.NewPCG(o.seed, 1)), counts: map[string]int{}}
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
