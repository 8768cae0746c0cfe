package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"wheelhouse/balancer/balancerd"
	"wheelhouse/balancer/config"
)

// runBalancer is the balancer alone: Perlbal's language, in a file and on the console.
func runBalancer(ctx context.Context, env *environment, args []string) error {
	fs := newFlags("balancer", env.stderr)
	file := fs.String("config", "/etc/perlbal/perlbal.conf", "configuration `file`")
	rest, err := parseFlags(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usagef("unexpected argument: %s", rest[0])
	}
	log := slog.New(slog.NewTextHandler(env.stderr, nil))
	b := balancerd.New(ctx, balancerd.Options{Language: config.NewLanguage(config.NewPlugins()), Log: log})
	if err := b.LoadFile(*file); err != nil {
		return err
	}
	fmt.Fprintln(env.stdout, "ready")
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go b.Tick(ctx)
	<-signals
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return b.Shutdown(end)
}
