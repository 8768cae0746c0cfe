package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"wheelhouse/internal/service"
)

// runRestart tells a running server to hand over to a new process, and waits until it has.
func runRestart(ctx context.Context, env *environment, args []string) error {
	fs := newFlags("restart", env.stderr)
	data := fs.String("data", defaultConfig().Data, "data `directory` of the server")
	timeout := fs.Duration("timeout", 2*time.Minute, "how long to wait for the new process")
	rest, err := parseFlags(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usagef("unexpected argument: %s", rest[0])
	}
	return restart(ctx, env, *data, *timeout)
}

// restart sends SIGUSR2 to the process that holds a data directory, and waits until another one holds it.
func restart(ctx context.Context, env *environment, data string, timeout time.Duration) error {
	old, err := service.ReadHolder(data)
	if err != nil {
		return fmt.Errorf("no server to restart: %w", err)
	}
	if old.PID == 0 {
		return fmt.Errorf("the lock of %s does not say which process holds it; send it SIGUSR2 yourself", data)
	}
	if err := syscall.Kill(old.PID, syscall.SIGUSR2); err != nil {
		return fmt.Errorf("signal process %d: %w", old.PID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d has not handed over within %v; its log says why", old.PID, timeout)
		case <-tick.C:
		}
		// The old process ends when the new one serves.
		now, err := service.ReadHolder(data)
		if err == nil && now.PID != old.PID && syscall.Kill(old.PID, 0) != nil {
			fmt.Fprintf(env.stdout, "process %d has taken over from %d\n", now.PID, old.PID)
			return nil
		}
	}
}
