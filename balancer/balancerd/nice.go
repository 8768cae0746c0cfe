package balancerd

import (
	"log/slog"
	"os"
	"strconv"
	"syscall"
)

// setNice is SERVER nice_level. On Linux a thread has a level of its own, and gives it to those that it starts: it is done when there is none that was
// not seen before, since one of those may have been started by a thread whose turn was still to come.
func setNice(level int, log *slog.Logger) {
	var err error
	for seen, more := map[string]bool{}, true; more; {
		tasks, rerr := os.ReadDir("/proc/self/task")
		if rerr != nil {
			err = syscall.Setpriority(syscall.PRIO_PROCESS, 0, level) // the calling thread alone
			break
		}
		more = false
		for _, t := range tasks {
			if seen[t.Name()] {
				continue
			}
			seen[t.Name()], more = true, true
			tid, terr := strconv.Atoi(t.Name())
			if terr == nil {
				terr = syscall.Setpriority(syscall.PRIO_PROCESS, tid, level)
			}
			if terr != nil && terr != syscall.ESRCH { // a thread that has ended meanwhile
				err = terr
			}
		}
	}
	if err != nil {
		log.Warn("nice_level could not be set", "level", level, "err", err)
	}
}
