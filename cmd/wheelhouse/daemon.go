package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"wheelhouse/internal/service"
)

// What the servers that take another daemon's flags have in common.

// daemonFiles are the flags for a process's id and its user.
type daemonFiles struct{ pidFile, user string }

func (d *daemonFiles) writePID() error {
	if d.pidFile == "" {
		return nil
	}
	return os.WriteFile(d.pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644) // for others to read
}

func (d *daemonFiles) removePID() {
	if d.pidFile != "" {
		os.Remove(d.pidFile) // another user's directory may not allow it
	}
}

// changeUser gives up what the process may do beyond a user of the system.
func (d *daemonFiles) changeUser() error {
	if d.user == "" {
		return nil
	}
	u, err := user.Lookup(d.user)
	if err != nil {
		return fmt.Errorf("--user: %w", err)
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	if err := errors.Join(uerr, gerr); err != nil {
		return fmt.Errorf("--user %s: %w", d.user, err)
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
			return fmt.Errorf("--user %s: %w", d.user, err)
		}
	}
	return nil
}

// announceDaemon prints the line that scripts wait for, which begins with ready, lets go of the terminal, and logs that.
func announceDaemon(out io.Writer, log *slog.Logger, line, version string, stderrIsLog bool) {
	releaseDaemon(out, log, line, stderrIsLog)
	log.Info("ready", "addr", strings.TrimPrefix(line, "ready "), "version", version)
}

// releaseDaemon prints the line that scripts wait for, and lets go of the terminal.
func releaseDaemon(out io.Writer, log *slog.Logger, line string, stderrIsLog bool) {
	fmt.Fprintln(out, line)
	if err := detach(stderrIsLog); err != nil {
		log.Warn("the process could not detach", "err", err)
	}
	if err := service.NotifyReady(); err != nil {
		log.Warn("systemd was not told", "err", err)
	}
}

// drainContext is for finishing what is under way: it ends after limit if that is above 0, and with a signal for which hurry is true. stop
// is to be called when that is done.
func drainContext(ctx context.Context, limit time.Duration, signals <-chan os.Signal, hurry func(os.Signal) bool) (_ context.Context, stop func()) {
	var cancel context.CancelFunc
	if ctx = context.WithoutCancel(ctx); limit > 0 {
		ctx, cancel = context.WithTimeout(ctx, limit)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	go func() {
		for {
			select {
			case sig := <-signals:
				if hurry(sig) {
					cancel()
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, cancel
}

// daemonWeb serves what operators look at.
func daemonWeb(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
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

// detach lets go of what a process in the background holds of whoever started it; of standard error, too, unless that is the log.
func detach(stderrIsLog bool) error {
	if os.Getenv(daemonVariable) == "" {
		return nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	fds := []int{0, 1}
	if !stderrIsLog {
		fds = append(fds, 2)
	}
	for _, fd := range fds {
		if err := syscall.Dup3(int(null.Fd()), fd, 0); err != nil {
			return err
		}
	}
	return nil
}
