package sqldb

// Waiting is how many calls of Write wait for the writer.
func (db *DB) Waiting() int {
	db.writer.mu.Lock()
	defer db.writer.mu.Unlock()
	return len(db.writer.pending)
}
