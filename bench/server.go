package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"wheelhouse/store"
)

// bucket holds the objects of all lines that go over HTTP.
const bucket = "bench"

// server is Wheelhouse as clients reach it.
type server struct {
	front *child // the process that clients speak to
	pids  []int  // all processes that work for them
	data  string
	url   string
	addr  string // host:port
	api   *store.Client
}

// startUp runs everything in one process on the directory data, with what is there already, and makes the bucket.
func (l *lab) startUp(ctx context.Context, data string) (*server, error) {
	c, err := l.start(l.bin, "up", "--data", data, "--listen", "127.0.0.1:0", "--auth", "none")
	if err != nil {
		return nil, err
	}
	urls, err := c.waitReady(ctx)
	if err != nil {
		return nil, err
	}
	return newServer(ctx, c, []int{c.pid()}, data, urls["http"])
}

func newServer(ctx context.Context, front *child, pids []int, data, url string) (*server, error) {
	s := &server{front: front, pids: pids, data: data, url: url, addr: strings.TrimPrefix(url, "http://")}
	var err error
	if s.api, err = store.NewClient(url, store.ClientOptions{}); err != nil {
		return nil, err
	}
	if err := s.api.CreateBucket(ctx, bucket, store.BucketAttributes{Access: "public-read"}); err != nil {
		return nil, fmt.Errorf("create the bucket: %w", err)
	}
	return s, nil
}

// freshUp runs everything in one process on a new directory.
func (l *lab) freshUp(ctx context.Context) (*server, error) {
	data, err := l.mkdir("up")
	if err != nil {
		return nil, err
	}
	return l.startUp(ctx, filepath.Join(data, "data"))
}
