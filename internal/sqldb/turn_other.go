//go:build !unix

package sqldb

// Without flock processes do not take turns; SQLite's lock alone keeps them apart.
func (t *turn) tryLock() error { return nil }

func (t *turn) unlock() {}
