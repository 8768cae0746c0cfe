//go:build amd64 || arm64

package segcache

// prefetch asks the processor to have the cache line at an address at hand. The address need not be one.
//
//go:noescape
func prefetch(addr uintptr)
