package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wheelhouse/jobs"
	"wheelhouse/jobs/memqueue"
)

func Example() {
	q := memqueue.New(nil)
	w := jobs.New(q, jobs.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	err := w.Handle("greet", jobs.Handler{Work: func(ctx context.Context, j *jobs.Job) error {
		fmt.Printf("hello, %s\n", j.Arg)
		cancel()
		return nil
	}})
	if err != nil {
		panic(err)
	}
	if _, err := q.Insert(ctx, []jobs.Job{{Func: "greet", Arg: []byte("world")}}); err != nil {
		panic(err)
	}
	if err := w.Run(ctx); err != nil {
		panic(err)
	}
	// Output: hello, world
}

// work does all jobs that are in a queue.
func work(q jobs.Backend, name string, h jobs.Handler) {
	w := jobs.New(q, jobs.Options{})
	if err := w.Handle(name, h); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	for {
		stats, err := q.Stats(ctx)
		if err != nil {
			panic(err)
		}
		left := int64(0)
		for _, s := range stats {
			left += s.Ready + s.Running
		}
		if left == 0 {
			break
		}
		<-time.After(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		panic(err)
	}
}

// Mails to one server go out over one connection.
func ExampleHandler_batch() {
	q := memqueue.New(nil)
	for _, to := range []string{"ann@example.org", "bob@example.com", "cid@example.org"} {
		_, err := q.Insert(context.Background(), []jobs.Job{{Func: "mail", Arg: []byte(to), Coalesce: to[4:]}})
		if err != nil {
			panic(err)
		}
	}
	work(q, "mail", jobs.Handler{WorkBatch: func(ctx context.Context, list []*jobs.Job) error {
		fmt.Println("connect to", list[0].Coalesce)
		verdicts := make(jobs.Verdicts, len(list))
		for i, j := range list {
			fmt.Println("  mail to", string(j.Arg))
			if string(j.Arg) == "bob@example.com" {
				verdicts[i] = jobs.Permanent(errors.New("no such user"))
			}
		}
		return verdicts
	}})
	dead, err := q.List(context.Background(), jobs.Filter{State: jobs.StateDead})
	if err != nil {
		panic(err)
	}
	fmt.Println("dead:", string(dead[0].Arg), "-", dead[0].LastErr)
	// Output:
	// connect to example.org
	//   mail to ann@example.org
	//   mail to cid@example.org
	// connect to example.com
	//   mail to bob@example.com
	// dead: bob@example.com - no such user
}

// A job is split into others: they are there if and only if it is done.
func ExampleReplaceWith() {
	q := memqueue.New(nil)
	if _, err := q.Insert(context.Background(), []jobs.Job{{Func: "count", Arg: []byte("3")}}); err != nil {
		panic(err)
	}
	work(q, "count", jobs.Handler{Work: func(ctx context.Context, j *jobs.Job) error {
		fmt.Println(string(j.Arg))
		if j.Arg[0] == '1' {
			return nil
		}
		return jobs.ReplaceWith(jobs.Job{Func: "count", Arg: []byte{j.Arg[0] - 1}})
	}})
	// Output:
	// 3
	// 2
	// 1
}

// A periodic job is kept in the queue, and inserted once, however many processes look after it.
func ExampleScheduler() {
	now := time.Date(2027, 3, 27, 12, 0, 0, 0, time.UTC)
	q := memqueue.New(func() time.Time { return now })
	ctx := context.Background()
	err := q.Schedule(ctx, []jobs.Periodic{{Name: "report", Spec: "30 7 * * mon-fri", Func: "report", Arg: []byte(`{"to":"ops"}`)}})
	if err != nil {
		panic(err)
	}
	next, err := q.Tend(ctx) // a Worker does that
	fmt.Println("next:", next.Format(time.RFC1123), err)
	now = next
	if _, err := q.Tend(ctx); err != nil {
		panic(err)
	}
	list, err := q.List(ctx, jobs.Filter{})
	fmt.Println(list[0].Func, string(list[0].Arg), list[0].State, err)
	// Output:
	// next: Mon, 29 Mar 2027 07:30:00 UTC <nil>
	// report {"to":"ops"} ready <nil>
}

// At most two jobs at a time for each customer, and no more than a hundred a minute for all.
func ExampleControl() {
	q := memqueue.New(nil)
	ctx := context.Background()
	err := q.SetControl(ctx, "export", func(c *jobs.Control) {
		c.MaxRunningPerKey = 2
		c.Rate = jobs.Rate{N: 100, Per: time.Minute}
	})
	if err != nil {
		panic(err)
	}
	for i := range 6 {
		if _, err := q.Insert(ctx, []jobs.Job{{Func: "export", Key: []string{"big", "big", "big", "small"}[i%4]}}); err != nil {
			panic(err)
		}
	}
	got, err := q.Grab(ctx, jobs.GrabRequest{Funcs: []string{"export"}, N: 10, Lease: time.Minute})
	for _, j := range got {
		fmt.Println(j.Key)
	}
	fmt.Println(err)
	// Output:
	// big
	// big
	// small
	// <nil>
}
