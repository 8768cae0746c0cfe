package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// fsync2Name is the subcommand that is the peer of the put lines: a program that keeps each object as two files, each
// written and synced. It is a process of its own, as our server is.
const fsync2Name = "fsync2"

// fanOut is how many directories the files of a copy are spread over.
const fanOut = 256

// fsync2Report is what the program prints. CPU is the process's, in µs, for all objects together.
type fsync2Report struct {
	Objects int64   `json:"objects"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_us"`
	P50     float64 `json:"p50_us"`
	P99     float64 `json:"p99_us"`
}

func fsync2Main(args []string) error {
	fs := flag.NewFlagSet(fsync2Name, flag.ContinueOnError)
	dir := fs.String("dir", "", "fresh `directory`")
	threads := fs.Int("threads", 1, "operating system `threads`, each of which writes one object at a time")
	size := fs.Int("size", 10<<10, "`bytes` of an object")
	span := fs.Duration("for", time.Second, "how long")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var copies [2]string
	for i := range copies {
		copies[i] = filepath.Join(*dir, strconv.Itoa(i))
		for d := range fanOut {
			if err := os.MkdirAll(filepath.Join(copies[i], fmt.Sprintf("%02x", d)), 0o755); err != nil {
				return err
			}
		}
	}
	report, err := fsync2Run(copies, *threads, *size, *span)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

func fsync2Run(copies [2]string, threads, size int, span time.Duration) (fsync2Report, error) {
	var next, written atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, threads)
	times := make([][]time.Duration, threads)
	cpu := ownCPU()
	begun := time.Now()
	for t := range threads {
		all.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			data := content(0, size)
			for time.Since(begun) < span && errs[t] == nil {
				i := next.Add(1)
				stamp(data, i)
				start := time.Now()
				if errs[t] = writeTwice(copies, i, data); errs[t] == nil {
					written.Add(1)
					times[t] = append(times[t], time.Since(start))
				}
			}
		})
	}
	all.Wait()
	r := fsync2Report{Objects: written.Load(), Seconds: time.Since(begun).Seconds(), CPU: micros(ownCPU() - cpu)}
	var sum []time.Duration
	for _, list := range times {
		sum = append(sum, list...)
	}
	if len(sum) > 0 {
		r.P50, r.P99 = micros(percentile(sum, 0.5)), micros(percentile(sum, 0.99))
	}
	return r, errors.Join(errs...)
}

// writeTwice makes both files of object i durable, one after the other.
func writeTwice(copies [2]string, i int64, data []byte) error {
	for _, c := range copies {
		f, err := os.OpenFile(fmt.Sprintf("%s/%02x/%010d", c, i%fanOut, i), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		if _, err = f.Write(data); err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// ownCPU is the time that this process has used so far.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fsync2 runs the program in a directory that is its own: see README.md, "Traps".
func (l *lab) fsync2(ctx context.Context, threads, size int, span time.Duration) (reading, error) {
	dir, err := l.mkdir(fsync2Name)
	if err != nil {
		return reading{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return reading{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, span+2*silence, fmt.Errorf("%s did not end within %v", fsync2Name, span+2*silence))
	defer cancel()
	cmd := command(ctx, self, fsync2Name, "-dir", dir, "-threads", strconv.Itoa(threads), "-size", strconv.Itoa(size), "-for", span.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return reading{}, fmt.Errorf("%s: %w", fsync2Name, err)
	}
	var r fsync2Report
	if err := json.Unmarshal(out, &r); err != nil {
		return reading{}, fmt.Errorf("%s: %w: %.100q", fsync2Name, err, out)
	}
	if r.Objects == 0 {
		return reading{}, fmt.Errorf("%s wrote nothing in %v", fsync2Name, span)
	}
	return reading{Rate: float64(r.Objects) / r.Seconds, CPU: r.CPU / float64(r.Objects), P50: r.P50, P99: r.P99}, nil
}
