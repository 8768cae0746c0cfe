package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machineFacts says on one line what the figures were measured on.
func machineFacts(dir string) string {
	return fmt.Sprintf("machine: %d cores (%s), %s, %s, Linux %s, %s at %s, load %s",
		runtime.NumCPU(), orUnknown(cpuModel()), memTotal(), runtime.Version(), kernel(), fileSystem(dir), dir, loadAverage())
}

// programFacts says which source the measured program was built from.
func programFacts(file string) string {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return "program: of unknown origin"
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	state := ""
	if settings["vcs.modified"] == "true" {
		state = " with changes"
	}
	revision := settings["vcs.revision"]
	if revision == "" {
		revision = "not recorded"
	}
	return fmt.Sprintf("program: revision %.12s%s, built with %s", revision, state, info.GoVersion)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// valueOf finds a "key : value" line.
func valueOf(file, key string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func cpuModel() string { return valueOf("/proc/cpuinfo", "model name") }

func memTotal() string {
	var kb int64
	if _, err := fmt.Sscan(valueOf("/proc/meminfo", "MemTotal"), &kb); err != nil {
		return "memory unknown"
	}
	return fmt.Sprintf("%d GiB", (kb+1<<19)>>20)
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(text))
	if err != nil || len(f) < 3 {
		return "unknown"
	}
	return strings.Join(f[:3], " ")
}

// fileSystem names the type of the file system that dir is on, and whether an ext4 has a journal: it changes what files cost.
func fileSystem(dir string) string {
	text, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "unknown file system"
	}
	best, kind, device := "", "unknown file system", ""
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 3 || len(f[1]) < len(best) {
			continue
		}
		if dir == f[1] || strings.HasPrefix(dir, strings.TrimSuffix(f[1], "/")+"/") {
			best, kind, device = f[1], f[2], f[0]
		}
	}
	if kind != "ext4" {
		return kind
	}
	if journals, _ := filepath.Glob("/proc/fs/jbd2/" + filepath.Base(device) + "-*"); len(journals) == 0 {
		return "ext4 without a journal"
	}
	return "ext4"
}
