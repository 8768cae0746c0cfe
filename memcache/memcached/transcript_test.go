package memcached

import (
	"testing"

	"wheelhouse/memcache/memcachetest"
)

func TestTranscripts(t *testing.T) {
	memcachetest.Run(t, func(t *testing.T) string { return serve(t, Options{DebugTime: true}).addr }, false)
}

// memcached 1.6.18 says the same wherever a transcript does not claim otherwise.
func TestTranscriptsAgainstDebian(t *testing.T) {
	memcachetest.Run(t, func(t *testing.T) string { return memcachetest.StartDebian(t) }, true)
}
