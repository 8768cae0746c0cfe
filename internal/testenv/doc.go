// Package testenv runs real database servers for tests and measurements: MariaDB and PostgreSQL, on loopback and a socket,
// with all their files below one temporary directory.
//
// Tests call [MariaDB] or [PostgreSQL] for a fresh database in a server that the whole test binary shares; its TestMain
// must be [Main], which stops the servers. What is about crashes starts a [Server] of its own.
//
// Servers refuse to run as root. When this process does, they run as the user that their Debian package makes, and their
// files belong to that.
package testenv
