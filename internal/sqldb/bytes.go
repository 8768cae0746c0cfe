package sqldb

import "unsafe"

// bytesOf is the memory of s, for calls that only read it.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// stringOf is b as a string; nobody may change b any more.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
