//go:build !amd64 && !arm64

package segcache

func prefetch(uintptr) {}
