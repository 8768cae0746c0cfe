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
	"wheelhouse/internal/http1"
	"wheelhouse/internal/service"
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
	from, err := service.Inherit()
	if err != nil {
		return err
	}
	o := balancerOptions(config.NewLanguage(config.NewPlugins(balancerPlugins()...)), log, nil)
	o.Listen = balancerListen(from)
	b := balancerd.New(ctx, o)
	if err := b.LoadFile(*file); err != nil {
		return err
	}
	if err := takeOver(from, b, log); err != nil {
		return err
	}
	fmt.Fprintln(env.stdout, "ready")
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR2, syscall.SIGHUP)
	go b.Tick(ctx)
	for sig := range signals {
		switch sig {
		case syscall.SIGUSR2:
			if err := upgradeBalancer(ctx, b, time.Minute, log); err != nil {
				log.Error("upgrade failed; serving on as before", "err", err)
				continue
			}
			return nil
		case syscall.SIGHUP:
			if err := b.Reload(); err != nil {
				log.Error("reload failed; nothing has changed", "err", err)
			}
			continue
		}
		break
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return b.Shutdown(end)
}

// balancerOptions wire the balancer's parts together.
func balancerOptions(lang *config.Language, log *slog.Logger, local map[string]http1.Handler) balancerd.Options {
	return balancerd.Options{Language: lang, Log: log, Local: local}
}
