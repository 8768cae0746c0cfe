package main

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// faults breaks things. At most one storage of a cluster and one dispatcher are broken at a time: that much the
// installation promises to bear. Bits are flipped on the first storage of each cluster alone.
type faults struct {
	c   *cluster
	rnd *rand.Rand
	was history

	mu      sync.Mutex // guards what follows
	counts  map[string]int
	rebuild time.Duration // the longest
}

func (f *faults) count(kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[kind]++
}

func (f *faults) total() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range f.counts {
		n += v
	}
	return n
}

// run breaks something about every so often until ctx ends, and mends what it has broken.
func (f *faults) run(ctx context.Context, every time.Duration) {
	busy := map[string]chan struct{}{} // what may be broken once at a time
	for k := range clusters {
		busy[fmt.Sprint("cluster", k)] = make(chan struct{}, 1)
	}
	busy["front"], busy["back"] = make(chan struct{}, 1), make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every/2 + time.Duration(f.rnd.Int64N(int64(every)))):
		}
		where, name, target, do := f.choose()
		span := 200*time.Millisecond + time.Duration(f.rnd.Int64N(int64(8*time.Second)))
		select {
		case busy[where] <- struct{}{}:
		default:
			continue
		}
		wg.Go(func() {
			defer func() { <-busy[where] }()
			f.count(name)
			defer f.was.begin(name + " " + target)()
			do(ctx, span)
		})
	}
}

// pause waits, but no longer than the time of breaking lasts.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// choose picks a fault and where it happens.
func (f *faults) choose() (where, name, target string, do func(context.Context, time.Duration)) {
	switch f.rnd.IntN(8) {
	case 0:
		n := 1 + f.rnd.IntN(dispatchers)
		return "front", "dispatcher killed", fmt.Sprint(n), f.killed(fmt.Sprint("dispatcher", n))
	case 1:
		n := 1 + f.rnd.IntN(workers)
		return "back", "worker killed", fmt.Sprint(n), f.killed(fmt.Sprint("worker", n))
	}
	k := f.rnd.IntN(clusters)
	if f.rnd.IntN(4) == 0 && f.c.clocks {
		return f.clock(k)
	}
	id, first := k*storages+1+f.rnd.IntN(storages), k*storages+1
	where = fmt.Sprint("cluster", k)
	kinds := []struct {
		name string
		id   int
		do   func(context.Context, time.Duration)
	}{
		{"storage killed", id, f.killed(storageName(id))},
		{"storage stopped", id, f.stopped(storageName(id))},
		{"network cut", id, f.network(id, netCut)},
		{"network silent", id, f.network(id, netSilent)},
		{"network slow", id, f.network(id, netSlow)},
		{"bit flipped", first, f.flip(first)},
		{"disk lost and rebuilt", first, f.lost(first)},
		{"disk full", id, f.full(id)},
	}
	n := len(kinds)
	if !f.c.mounted {
		n-- // a disk that is shared with everything else is not filled
	}
	kind := kinds[f.rnd.IntN(n)]
	return where, kind.name, fmt.Sprint(kind.id), kind.do
}

func (f *faults) killed(name string) func(context.Context, time.Duration) {
	return func(ctx context.Context, span time.Duration) {
		p := f.c.procs[name]
		p.kill()
		pause(ctx, span)
		if err := p.start(); err != nil {
			log.Printf("%s: %v", name, err)
		}
	}
}

func (f *faults) stopped(name string) func(context.Context, time.Duration) {
	return func(ctx context.Context, span time.Duration) {
		p := f.c.procs[name]
		p.signal(syscall.SIGSTOP)
		pause(ctx, span)
		p.signal(syscall.SIGCONT)
	}
}

// clock picks whose clock jumps: that of the machine of the catalog, of one of the processes there, or of a storage of a cluster.
func (f *faults) clock(cluster int) (where, name, target string, do func(context.Context, time.Duration)) {
	by := []int64{3600, -3600}[f.rnd.IntN(2)]
	front := []string{}
	for i := range dispatchers {
		front = append(front, fmt.Sprint("dispatcher", i+1))
	}
	for i := range workers {
		front = append(front, fmt.Sprint("worker", i+1))
	}
	where, who := "front", front
	switch f.rnd.IntN(3) {
	case 0:
		who = []string{front[f.rnd.IntN(len(front))]}
	case 1:
		where, who = fmt.Sprint("cluster", cluster), []string{storageName(cluster*storages + 1 + f.rnd.IntN(storages))}
	}
	return where, "clock jumped", fmt.Sprintf("%s %+d s", strings.Join(who, " "), by), f.jumped(who, by)
}

// jumped sets processes' clocks, and sets them right again.
func (f *faults) jumped(who []string, by int64) func(context.Context, time.Duration) {
	set := func(by int64) {
		for _, name := range who {
			if err := setClock(f.c.procs[name].time, by); err != nil {
				log.Print(err)
			}
		}
	}
	return func(ctx context.Context, span time.Duration) {
		set(by)
		pause(ctx, span)
		set(0)
	}
}

func (f *faults) network(id int, m netMode) func(context.Context, time.Duration) {
	return func(ctx context.Context, span time.Duration) {
		if err := f.c.net.set(id, m); err != nil {
			log.Print(err)
		}
		pause(ctx, span)
		if err := f.c.net.set(id, netGood); err != nil {
			log.Print(err)
		}
	}
}

// full fills the file system of a storage, and empties it again.
func (f *faults) full(id int) func(context.Context, time.Duration) {
	return func(ctx context.Context, span time.Duration) {
		name := filepath.Join(f.c.disks[id-1], "filler")
		var st syscall.Statfs_t
		if err := syscall.Statfs(f.c.disks[id-1], &st); err != nil {
			log.Print(err)
			return
		}
		file, err := os.Create(name)
		if err != nil {
			log.Print(err)
			return
		}
		defer os.Remove(name)
		defer file.Close()
		block := make([]byte, 1<<20)
		for range st.Bavail * uint64(st.Bsize) >> 20 {
			if _, err := file.Write(block); err != nil {
				break // that is what was wanted
			}
		}
		pause(ctx, span)
	}
}

// lost empties the disk of a storage, and has it rebuilt.
func (f *faults) lost(id int) func(context.Context, time.Duration) {
	return func(ctx context.Context, span time.Duration) {
		p := f.c.procs[storageName(id)]
		p.kill()
		if err := os.RemoveAll(filepath.Join(f.c.disks[id-1], "storage")); err != nil {
			log.Print(err)
		}
		pause(ctx, span)
		if err := p.start(); err != nil {
			log.Printf("%s: %v", p.name, err)
		}
		// The rebuild is waited for, also when the time of breaking is over: until then the disk counts as broken.
		begun := time.Now()
		if err := f.c.rebuild(context.WithoutCancel(ctx), id); err != nil {
			log.Printf("storage %d is not rebuilt: %v", id, err)
			f.count("rebuild failed")
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rebuild = max(f.rebuild, time.Since(begun))
	}
}

// flip changes one bit of one file of a storage's data.
func (f *faults) flip(id int) func(context.Context, time.Duration) {
	seed := f.rnd.Uint64()
	return func(context.Context, time.Duration) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		var files []string
		var sizes []int64
		err := filepath.WalkDir(f.c.disks[id-1], func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".tar") && !strings.HasSuffix(path, ".fid") {
				return nil // what is gone meanwhile is not flipped
			}
			if info, err := d.Info(); err == nil && info.Size() > 0 {
				files, sizes = append(files, path), append(sizes, info.Size())
			}
			return nil
		})
		if err != nil || len(files) == 0 {
			return
		}
		i := rnd.IntN(len(files))
		file, err := os.OpenFile(files[i], os.O_RDWR, 0)
		if err != nil {
			return
		}
		defer file.Close()
		at := rnd.Int64N(sizes[i])
		var b [1]byte
		if _, err := file.ReadAt(b[:], at); err != nil {
			return
		}
		b[0] ^= 1 << rnd.IntN(8)
		if _, err := file.WriteAt(b[:], at); err != nil {
			log.Print(err)
		}
	}
}
