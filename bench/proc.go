package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on all of Linux's architectures but alpha and ia64.
const tick = 10 * time.Millisecond

// procStat returns the fields of /proc/PID/stat behind the name: the process's state is the first.
func procStat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 15 {
		return nil, fmt.Errorf("/proc/%d/stat: cannot be parsed", pid)
	}
	return fields, nil
}

// cpuTime is the user and system time that processes have used so far.
func cpuTime(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		fields, err := procStat(pid)
		if err != nil {
			return 0, err
		}
		for _, f := range fields[11:13] { // utime, stime
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}

// machineTime is what all processors have done since the machine was started, in ticks: the first line of /proc/stat (proc_stat(5)).
type machineTime struct{ all, stolen int64 }

// readMachineTime is nothing where the system does not tell.
func readMachineTime() (t machineTime) {
	text, err := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	f := strings.Fields(line)
	if err != nil || len(f) < 9 || f[0] != "cpu" {
		return machineTime{}
	}
	for i, field := range f[1:9] { // user nice system idle iowait irq softirq steal; the guests' time is in the first two already
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return machineTime{}
		}
		t.all += n
		if i == 7 {
			t.stolen = n
		}
	}
	return t
}

// stolenSince is the share of the time since then that a virtual machine's host gave to others.
func (t machineTime) stolenSince(before machineTime) float64 {
	if t.all <= before.all {
		return 0
	}
	return float64(t.stolen-before.stolen) / float64(t.all-before.all)
}

// withChildren is a process and its direct children.
func withChildren(pid int) ([]int, error) {
	pids := []int{pid}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		p, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		fields, err := procStat(p)
		if err == nil && fields[1] == strconv.Itoa(pid) {
			pids = append(pids, p)
		}
	}
	return pids, nil
}

// memory is what /proc/PID/status says of a process, in bytes.
type memory struct {
	RSS  int64 `json:"rss"`
	Anon int64 `json:"anon"`
	File int64 `json:"file"`
	Peak int64 `json:"peak"` // of RSS
}

func readMemory(pid int) (memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	var m memory
	into := map[string]*int64{"VmRSS:": &m.RSS, "RssAnon:": &m.Anon, "RssFile:": &m.File, "VmHWM:": &m.Peak}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 || into[f[0]] == nil {
			continue
		}
		kb, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return memory{}, fmt.Errorf("/proc/%d/status: %s: %w", pid, f[0], err)
		}
		*into[f[0]] = kb << 10
	}
	if m.RSS == 0 {
		return m, fmt.Errorf("process %d has no memory: it has ended", pid)
	}
	return m, nil
}

// watchMemory reads a process's memory every 100 ms while f runs, and returns the greatest values, Peak being the kernel's.
func watchMemory(ctx context.Context, pid int, f func(ctx context.Context) error) (memory, error) {
	// 5 sets the peak back to what it is now.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0) // without it the peak is the process's all-time one
	stop := make(chan struct{})
	var most memory
	var watching sync.WaitGroup
	watching.Go(func() {
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for {
			if m, err := readMemory(pid); err == nil {
				most = memory{RSS: max(most.RSS, m.RSS), Anon: max(most.Anon, m.Anon), File: max(most.File, m.File), Peak: m.Peak}
			}
			select {
			case <-stop:
				return
			case <-t.C:
			}
		}
	})
	err := f(ctx)
	close(stop)
	watching.Wait()
	if m, merr := readMemory(pid); merr == nil {
		most.Peak = m.Peak
	}
	return most, err
}
