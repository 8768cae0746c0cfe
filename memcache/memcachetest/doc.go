// Package memcachetest tests cache servers that speak memcached's protocols, whoever made them: transcripts of conversations, and the
// means to start Debian's memcached beside ours.
package memcachetest
