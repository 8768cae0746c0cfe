package gearman_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"slices"
	"strings"

	"wheelhouse/gearman"
)

// A worker that does one function, four jobs at a time, until it is told to stop.
func ExampleWorker() {
	w, err := gearman.NewWorker([]string{"10.0.0.1", "10.0.0.2"}, gearman.WorkerOptions{Concurrency: 4, ClientID: "upper-1"})
	if err != nil {
		log.Fatal(err)
	}
	err = w.Handle("upper", func(ctx context.Context, c *gearman.Call) ([]byte, error) {
		return []byte(strings.ToUpper(string(c.Arg))), nil
	}, 0)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

func ExampleClient_Do() {
	c, err := gearman.NewClient([]string{"10.0.0.1", "10.0.0.2"}, gearman.ClientOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	out, err := c.Do(context.Background(), gearman.Job{Func: "upper", Arg: []byte("hello"), Unique: "-"})
	if thrown, ok := errors.AsType[*gearman.Exception](err); ok {
		log.Fatalf("the worker says: %s", thrown.Data)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(out))
}

// Start shows how far a job is while it runs.
func ExampleClient_Start() {
	c, err := gearman.NewClient([]string{"10.0.0.1"}, gearman.ClientOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	task, err := c.Start(ctx, gearman.Job{Func: "encode", Arg: []byte("film.mov")})
	if err != nil {
		log.Fatal(err)
	}
	for {
		e, err := task.Next(ctx)
		if err == io.EOF {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		if e.Type == gearman.EventStatus {
			fmt.Printf("%d of %d\n", e.Num, e.Den)
		}
	}
}

// Submit leaves a job to the server.
func ExampleClient_Submit() {
	c, err := gearman.NewClient([]string{"10.0.0.1"}, gearman.ClientOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	h, err := c.Submit(context.Background(), gearman.Job{Func: "mail", Arg: []byte("{…}"), Priority: gearman.Low})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("queued as", h)
}

// Map runs a function over many inputs, in parallel and in order.
func ExampleMap() {
	c, err := gearman.NewClient([]string{"10.0.0.1"}, gearman.ClientOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	words := [][]byte{[]byte("one"), []byte("two"), []byte("three")}
	for out, err := range gearman.Map(context.Background(), c, "upper", slices.Values(words), gearman.MapOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(out))
	}
}
