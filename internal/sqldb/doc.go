// Package sqldb is one SQLite file opened for a server: a pool of connections that read, and one writer that lets
// every change which waits share a transaction, so that throughput is bound by rows and not by fsyncs.
//
// The file is in WAL mode with synchronous=FULL: when [DB.Write] returns nil the change survives a power failure.
// Readers see the last committed state at once, in this process and in any other that has the file open. Several
// processes of one machine may open the same file; they take turns (turn.go).
//
// # Writing
//
// [DB.Write] hands a closure to the writer. All closures that are waiting when the previous commit ends run one after
// the other in one transaction, in the order of their calls. A closure that returns an error leaves nothing behind
// and does not disturb its neighbours; how that costs nothing in the usual case is told in batch.go.
//
// # Memory
//
// SQLite's page caches are bounded by [Options]: Readers×ReaderCache + WriterCache + 2 MiB for checkpoints, 34 MiB by
// default. The file is not mapped unless asked for: mapped pages count once per connection in the process's resident
// size, and an unreadable sector would kill the process instead of failing one call; what they gain was measured at
// less than a microsecond a lookup.
package sqldb
