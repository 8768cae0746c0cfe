//go:build race

package main

// The race detector's own memory is a multiple of what it watches.
const raceMemory = 6
