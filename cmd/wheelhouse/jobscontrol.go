package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"wheelhouse/store/control"
)

func jobsPause(ctx context.Context, env *environment, paused bool, args []string) error {
	name := "resume"
	if paused {
		name = "pause"
	}
	j, rest, closeQueue, err := newJobsFlags(name, env).open(ctx, args, 1, -1)
	if err != nil {
		return err
	}
	defer closeQueue()
	for _, fn := range rest {
		if err := j.SetControl(ctx, control.JobControl{Func: fn, Paused: &paused}); err != nil {
			return err
		}
	}
	return nil
}

// jobsLimit sets limits, and shows what is set then.
func jobsLimit(ctx context.Context, env *environment, args []string) error {
	f := newJobsFlags("limit", env)
	running := f.Int("running", 0, "jobs that run at a `time`; 0: any number")
	perKey := f.Int("running-per-key", 0, "the same for `each` key")
	rate := f.String("rate", "", "jobs that are begun in a time: `100/1m`, or none")
	ratePerKey := f.String("rate-per-key", "", "the same for each key: `10/1s`, or none")
	keepDone := f.Duration("keep-done", 0, "how long finished jobs are kept as records; 0: not at all")
	keepDead := f.Duration("keep-dead", 0, "how long dead and cancelled ones are; 0: as the queue does by itself")
	j, rest, closeQueue, err := f.open(ctx, args, 1, 1)
	if err != nil {
		return err
	}
	defer closeQueue()
	c := control.JobControl{Func: rest[0]}
	change := false
	f.Visit(func(g *flag.Flag) {
		text := g.Value.String()
		switch g.Name {
		case "running":
			c.MaxRunning = running
		case "running-per-key":
			c.MaxRunningPerKey = perKey
		case "rate":
			c.Rate = rate
		case "rate-per-key":
			c.RatePerKey = ratePerKey
		case "keep-done":
			text = keepDone.String()
			c.KeepDone = &text
		case "keep-dead":
			text = keepDead.String()
			c.KeepDead = &text
		default:
			return
		}
		change = true
	})
	if change {
		if err := j.SetControl(ctx, c); err != nil {
			return err
		}
	}
	list, err := j.Functions(ctx)
	if err != nil {
		return err
	}
	for _, s := range list {
		if text := describeControl(s.Control); s.Func == rest[0] && text != "" {
			fmt.Fprintf(env.stdout, "%s: %s\n", s.Func, text)
			return nil
		}
	}
	fmt.Fprintf(env.stdout, "%s: no limits\n", rest[0])
	return nil
}

// jobsCron manages periodic jobs.
func jobsCron(ctx context.Context, env *environment, args []string) error {
	return subcommand(args, map[string]func([]string) error{
		"list": func(args []string) error { return cronList(ctx, env, args) },
		"set": func(args []string) error {
			f := newJobsFlags("cron set", env)
			var p control.PeriodicJob
			f.StringVar(&p.Spec, "spec", "", "when: '`*/5 * * * *`' as in crontab(5), @daily, '@every 90s'")
			f.StringVar(&p.Func, "func", "", "`function` of the job")
			f.StringVar(&p.Zone, "zone", "", "time `zone` of the spec (default UTC)")
			f.StringVar(&p.Key, "key", "", "`key` by which limits per key count")
			f.IntVar(&p.Priority, "priority", 0, "larger first")
			arg := f.String("arg", "", "`argument` of the job")
			j, rest, closeQueue, err := f.open(ctx, args, 1, 1)
			if err != nil {
				return err
			}
			defer closeQueue()
			if p.Spec == "" || p.Func == "" {
				return usagef("--spec and --func are wanted")
			}
			p.Name, p.Arg = rest[0], []byte(*arg)
			return j.Schedule(ctx, p)
		},
		"rm": func(args []string) error {
			j, rest, closeQueue, err := newJobsFlags("cron rm", env).open(ctx, args, 1, 1)
			if err != nil {
				return err
			}
			defer closeQueue()
			return j.Unschedule(ctx, rest[0])
		},
	})
}

func cronList(ctx context.Context, env *environment, args []string) error {
	f := newJobsFlags("cron list", env)
	f.withJSON()
	j, _, closeQueue, err := f.open(ctx, args, 0, 0)
	if err != nil {
		return err
	}
	defer closeQueue()
	list, err := j.Periodics(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(env.stdout, list)
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.Local().Format(time.DateTime)
	}
	return table(env.stdout, "NAME\tSPEC\tZONE\tFUNCTION\tNEXT\tLAST\tARGUMENT", func(row func(...any)) {
		for _, p := range list {
			zone := p.Zone
			if zone == "" {
				zone = "UTC"
			}
			row(p.Name, p.Spec, zone, p.Func, at(p.Next), at(p.Last), brief(string(p.Arg), 40))
		}
	})
}
