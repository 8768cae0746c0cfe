// Package storetest has the conformance suites of the store's interfaces: every implementation passes the same one.
package storetest
