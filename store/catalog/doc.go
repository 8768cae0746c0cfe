// Package catalog keeps what exists in the store and where it is, in SQL.
//
// [SQLite] is the embedded catalog: one file, which the processes of one machine may share. [Cached] puts a cache of
// lookups in front of any catalog whose writers are all in this process.
//
// One row per object, in the order of (bucket, name), so that a lookup is one descent of one tree and a listing is a
// range scan. There is no row per entity: an object's cluster says which storages hold it, and those that do not yet are
// rows of the table missing, which is normally empty. schema.go has the tables.
package catalog
