package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// wrkScript asks for the objects of [fileSet.name] in random order. All requests are made beforehand, so that a request costs
// the generator, which shares the cores with what it measures, as little as it can.
const wrkScript = `
local requests = {}

function setup(thread)
	counter = (counter or 0) + 1
	thread:set("seed", counter)
end

function init(args)
	math.randomseed(seed)
	for i = 0, %d - 1 do
		requests[i + 1] = wrk.format("GET", string.format("/%s/%%02x/%%04d", i %% 256, i))
	end
end

function request()
	return requests[math.random(#requests)]
end

function done(summary, latency)
	local e = summary.errors
	io.write(string.format('\nBENCH {"requests":%%d,"us":%%d,"bytes":%%d,"failed":%%d,"p50":%%d,"p99":%%d}\n',
		summary.requests, summary.duration, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
		latency:percentile(50), latency:percentile(99)))
end
`

// wrkReport is what done prints. Times are in µs.
type wrkReport struct {
	Requests int64 `json:"requests"`
	Micros   int64 `json:"us"`
	Bytes    int64 `json:"bytes"`
	Failed   int64 `json:"failed"`
	P50      int64 `json:"p50"`
	P99      int64 `json:"p99"`
}

// generator runs wrk on one set of objects.
type generator struct {
	script  string
	threads int
	conns   int
	size    int64 // of an object
}

func (l *lab) newGenerator(set *fileSet, threads, conns int) (*generator, error) {
	script := filepath.Join(set.root, "wrk.lua")
	text := fmt.Sprintf(wrkScript, set.n, bucket)
	return &generator{script: script, threads: threads, conns: conns, size: int64(set.size)}, os.WriteFile(script, []byte(text), 0o600)
}

// measure loads a server, whose processes pids are, for a time in whole seconds.
func (g *generator) measure(ctx context.Context, url string, pids []int, span time.Duration) (reading, error) {
	before, err := cpuTime(pids)
	if err != nil {
		return reading{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, span+silence, fmt.Errorf("wrk did not end within %v", span+silence))
	defer cancel()
	out, err := command(ctx, "wrk", "-t", strconv.Itoa(g.threads), "-c", strconv.Itoa(g.conns),
		"-d", fmt.Sprintf("%.0fs", span.Seconds()), "--timeout", "20s", "-s", g.script, url).CombinedOutput()
	if err != nil {
		return reading{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	after, err := cpuTime(pids)
	if err != nil {
		return reading{}, err
	}
	_, text, ok := bytes.Cut(out, []byte("\nBENCH "))
	var r wrkReport
	if !ok || json.Unmarshal(text, &r) != nil || r.Micros == 0 || r.Requests == 0 {
		return reading{}, fmt.Errorf("wrk: no result: %s", out)
	}
	if r.Failed > 0 || r.Bytes < r.Requests*g.size {
		return reading{}, fmt.Errorf("wrk: %d of %d requests failed (%d bytes): %s", r.Failed, r.Requests, r.Bytes, out)
	}
	return reading{
		Rate: float64(r.Requests) / float64(r.Micros) * 1e6, CPU: micros(after-before) / float64(r.Requests),
		P50: float64(r.P50), P99: float64(r.P99),
	}, nil
}
