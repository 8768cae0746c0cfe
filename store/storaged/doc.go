// Package storaged is the storage node: disks over HTTP, by path as STF's storages and MogileFS's mogstored have them, and
// the client that makes such a disk a [store.Device] again.
//
// Below /dev<N>/, where N is the storage's id:
//
//	0/000/000/0000000025.fid   GET HEAD PUT DELETE   an entity; Range, conditional requests, Content-MD5
//	usage                      GET                   mogstored's usage file; JSON when asked for by Accept
//	manifest?from=&to=&limit=  GET                   ids in a range: id, size, crc32c, time stored
//	digest?from=&to=           GET                   count, bytes and hash of a range of ids
//	delete                     POST                  entities by id, one a line
//	bulk                       GET                   the packs
//	bulk/<pack>                GET                   a pack's bytes, resumable by Range
//	bulk/files?from=&limit=    GET                   the entities that are files of their own, as a manifest
//	packs                      GET                   the packs, with the uids of their versions, as JSON
//	packs/<pack>?uid=&off=     GET                   one version of a pack, from an offset on; with log=1, its delete log
//	adopt/<uid>                GET PUT POST          taking over a pack of another storage: how far, more bytes, the end
//	blocks?from=&to=           GET                   digests by block of ids: block, count, bytes, hash of sizes, hash of checksums
//	entities                   POST                  a manifest of the ids in the body
//	scrub?cursor=&most=        POST                  verify some entities, as JSON
//	anything else              GET HEAD PUT DELETE   a plain file, for clients that bring their own paths
//	any directory              MKCOL                 needless, and allowed
//
// Requests carry an HMAC of the installation's secret, in a header or, for URLs that are handed to proxies, in the query.
package storaged
