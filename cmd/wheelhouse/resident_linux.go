package main

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// trimProgram takes what of the program's own file only its start needed out of the process's resident memory; what is needed again
// comes back from the system's cache of the file. Of a program of 45 MB, that start has touched 17. It does nothing where it cannot.
func trimProgram() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range cleanMappings(string(maps), exe) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED) // advice: a refusal costs nothing
	}
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// cleanMappings returns where a file is mapped so that nothing but the file's own contents is there: it cannot be written to, and
// nothing has been (a loader that relocates does). smaps is proc_pid_smaps(5).
func cleanMappings(smaps, file string) []mapping {
	var list []mapping
	var m mapping
	fits := false
	for line := range strings.Lines(smaps) {
		words := strings.Fields(line)
		switch {
		case len(words) >= 5 && strings.Contains(words[0], "-"): // the head of a mapping
			from, to, _ := strings.Cut(words[0], "-")
			start, err1 := strconv.ParseUint(from, 16, strconv.IntSize)
			end, err2 := strconv.ParseUint(to, 16, strconv.IntSize)
			m = mapping{uintptr(start), uintptr(end)}
			fits = err1 == nil && err2 == nil && start < end && len(words) == 6 && words[5] == file &&
				(words[1] == "r-xp" || words[1] == "r--p")
		case fits && len(words) == 3 && words[0] == "Anonymous:":
			if words[1] == "0" {
				list = append(list, m)
			}
			fits = false
		}
	}
	return list
}
