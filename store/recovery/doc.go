// Package recovery brings a catalog back from the storages alone, whose entities say which objects they are of: it finds the
// newest intact backup, makes a catalog safe to serve that is older than what the storages hold, and adopts what came after.
//
// All of it runs while nothing else uses the catalog.
package recovery
