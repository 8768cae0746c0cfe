// Package faultfs is the file system as the durable parts of the project use it: an interface, [FS], the operating
// system behind it, [OS], and three more for tests. [Faulty] fails the n-th operation of a kind; [PowerCut] remembers
// what has not been synced yet, and takes it away; [NoSync] saves the time that syncs take.
package faultfs
