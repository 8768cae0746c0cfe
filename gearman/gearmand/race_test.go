//go:build race

package gearmand_test

const raceEnabled = true
