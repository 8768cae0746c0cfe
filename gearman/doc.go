// Package gearman calls functions on other machines: a client that asks a Gearman job server for work to be done, and a worker
// that does it. The job server is package gearmand, or any other that speaks the protocol.
//
// A [Client] knows several servers, chooses among them by the job's Unique key, so that equal jobs meet on one server and
// are done once, and goes on to the next when one is gone. It keeps a few connections to each, and each carries any
// number of jobs at a time. [Client.Do] waits for the result; [Client.Start] follows a job while it runs; [Client.Submit]
// leaves it to the server; [Map] runs a function over many inputs.
//
// A [Worker] serves functions from all its servers at once, and stops when what it has begun is finished.
//
// The package imports the standard library alone. Source: Gearman's PROTOCOL, and what gearmand 1.1.20 does.
package gearman
