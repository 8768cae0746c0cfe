//go:build !linux

package main

// trimProgram does nothing: there is no way on this system.
func trimProgram() {}
