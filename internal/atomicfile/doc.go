// Package atomicfile replaces files so that after a crash there is either the old or the new one, whole: a temporary
// file in the same directory, write, fsync, rename, fsync of the directory.
package atomicfile
