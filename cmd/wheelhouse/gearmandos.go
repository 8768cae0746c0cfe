package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// setFiles sets how many files the process may have open.
func (g *gearmandConfig) setFiles() error {
	if g.files <= 0 {
		return nil
	}
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("--file-descriptors: %w", err)
	}
	lim.Cur = uint64(g.files)
	lim.Max = max(lim.Max, lim.Cur)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("--file-descriptors %d: %w", g.files, err)
	}
	return nil
}

// changeUser gives up what the process may do beyond a user of the system.
func (g *gearmandConfig) changeUser() error {
	if g.user == "" {
		return nil
	}
	u, err := user.Lookup(g.user)
	if err != nil {
		return fmt.Errorf("--user: %w", err)
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	if err := errors.Join(uerr, gerr); err != nil {
		return fmt.Errorf("--user %s: %w", g.user, err)
	}
	if uid == os.Geteuid() {
		return nil
	}
	for _, step := range []func() error{
		func() error { return syscall.Setgroups([]int{gid}) },
		func() error { return syscall.Setgid(gid) },
		func() error { return syscall.Setuid(uid) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("--user %s: %w", g.user, err)
		}
	}
	return nil
}

// daemonVariable tells the process in the background that it is there.
const daemonVariable = "WHEELHOUSE_DAEMON"

// daemonize starts the program again without a terminal, and ends well when that one is ready.
func daemonize(env *environment, name string, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, append([]string{name}, args...)...)
	cmd.Env = append(os.Environ(), daemonVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready") {
		return errors.Join(errors.New("the process in the background did not get ready"), cmd.Wait())
	}
	io.WriteString(env.stdout, line)
	return cmd.Process.Release()
}

// detach lets go of what a process in the background holds of whoever started it. Standard error stays if it is the log.
func (g *gearmandConfig) detach() error {
	if os.Getenv(daemonVariable) == "" {
		return nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	fds := []int{0, 1}
	if g.syslog || (g.logFile != "" && g.logFile != "stderr") {
		fds = append(fds, 2)
	}
	for _, fd := range fds {
		if err := syscall.Dup3(int(null.Fd()), fd, 0); err != nil {
			return err
		}
	}
	return nil
}
