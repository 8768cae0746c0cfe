package balancerd

import (
	"log/slog"
	"os"
	"strconv"
	"syscall"
)

// setNice is SERVER nice_level. On Linux a thread has a level of its own, and gives it to those that it starts.
func setNice(level int, log *slog.Logger) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		tasks = nil // the calling thread alone
		err = syscall.Setpriority(syscall.PRIO_PROCESS, 0, level)
	}
	for _, t := range tasks {
		tid, terr := strconv.Atoi(t.Name())
		if terr == nil {
			terr = syscall.Setpriority(syscall.PRIO_PROCESS, tid, level)
		}
		if terr != nil && terr != syscall.ESRCH { // a thread that has ended meanwhile
			err = terr
		}
	}
	if err != nil {
		log.Warn("nice_level could not be set", "level", level, "err", err)
	}
}
