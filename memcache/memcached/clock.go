package memcached

import (
	"context"
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"wheelhouse/memcache/segcache"
)

// clock tells the cache the time, in Unix seconds. debugtime moves and stops it.
type clock struct {
	cache *segcache.Cache
	begun uint32       // when the process started
	real  atomic.Int64 // Unix seconds, whatever debugtime says

	mu     sync.Mutex
	offset int64
	paused bool
}

func unixNow() uint32 { return uint32(time.Now().Unix()) }

// run ticks until ctx ends.
func (k *clock) run(ctx context.Context) {
	t := time.NewTicker(250 * time.Millisecond) // the clock is late by so much at most
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			k.tick()
		}
	}
}

func (k *clock) tick() {
	k.real.Store(time.Now().Unix())
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.paused {
		k.cache.Tick(uint32(int64(unixNow()) + k.offset))
	}
}

// add moves the clock.
func (k *clock) add(seconds int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.offset += seconds
	k.cache.Tick(uint32(int64(k.cache.Now()) + seconds))
}

func (k *clock) pause(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.paused = on
}

// binaryExpiry is expiry for the binary protocol's number of 32 bits, which has no sign: times up to the year 2106.
func (k *clock) binaryExpiry(b []byte) uint32 {
	exp := binary.BigEndian.Uint32(b)
	if exp > math.MaxInt32 {
		return exp
	}
	return k.expiry(int32(exp))
}

const (
	monthSeconds = 30 * 24 * 60 * 60 // expiry times above are absolute
	longAgo      = 1                 // an expiry time that has passed
)

// expiry makes a time of an expiry time as clients give it (protocol.txt, "Expiration times").
func (k *clock) expiry(exp int32) uint32 {
	switch {
	case exp == 0:
		return 0
	case exp < 0:
		return longAgo
	case exp > monthSeconds:
		if uint32(exp) <= k.begun {
			return longAgo
		}
		return uint32(exp)
	}
	return k.cache.Now() + uint32(exp)
}
