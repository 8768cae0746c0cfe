// Package segcache keeps items — a key, a value, flags, an expiry time, a version — in a fixed amount of memory, and forgets the
// least useful ones. It knows no protocol and no clock: who owns a Cache tells it the time.
//
// Memory is cut into segments outside of the garbage collector's view. One or more adjacent segments form a region, a log that is
// appended to and then sealed. Regions are grouped by time to live, so that most expire as a whole (Segcache, NSDI '21). The index
// is an array of 8-byte slots in buckets of a cache line: a tag, the item's address, and how often it was used. An item costs 20
// bytes and its slot besides key and value.
//
// What is to be forgotten is chosen as S3-FIFO (SOSP '23) does, region by region: new items are on probation in a queue of a tenth of
// the memory; those that were used there are copied to the main queue, the others are dropped and leave a mark, by which they go
// to the main queue at once when they come back. docs/design/003-memcached.md says why.
package segcache
