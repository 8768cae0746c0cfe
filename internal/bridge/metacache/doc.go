// Package metacache puts cache servers before a store's catalog: look-ups are answered by any memcached that speaks the meta protocol, and
// whoever reads after a write was acknowledged sees that write or a newer one, in whichever process, whatever caches do or fail to do.
//
// What is cached is cached under an epoch, a random number that each server has. The epochs, and the list of servers, stand in one record in the
// catalog, which changes by compare-and-swap alone. A server is out (nobody reads from it), joining (writers delete there, nobody reads) or
// in. A process believes what it has read of the record for a time T, from before it asked (its lease), by its monotonic clock.
//
// Rules, in which 1.1 T stands for T on clocks that may differ by a tenth:
//
//  1. A reader takes an answer from a server only if a lease says in, and is valid when the answer is there.
//  2. A reader fills by a lease of the server's ([memcache.Client.GetLeases]), which it has before it asks the catalog, and which a delete
//     takes away. Nothing else is ever stored.
//  3. A writer commits first. Then it looks at the record by a lease that is valid after the commit: where the key's server is joining or in it
//     deletes the key, and waits for the answer. Where it is out, it returns only when 1.1 T have passed since it first saw that.
//  4. When the server does not answer, the writer swaps it to out, with another epoch, and returns 1.1 T later.
//  5. A server that has been seen out for 1.1 T, and answers, is swapped to joining with a fresh epoch; one that has been seen joining for 1.1 T is
//     swapped to in. Whoever wants to use it does that.
//
// Why it holds. Take a write that was committed at c and acknowledged at a, and a reader who begins after a and takes an answer under epoch E.
// If the writer deleted in E, then by rule 2 what is there now was filled by somebody who asked the catalog after c. If the writer saw another
// epoch or E not yet joining, and E came after what it saw: its lease was read before E was joining and valid at c, so by 5 E was in only after
// c, and whoever filled asked the catalog after that. If E was before what the writer saw, then a server that is in or joining had been seen
// out for 1.1 T by 5, and one that is out by 3 or 4 when the writer returned: by 1 nobody takes answers under E any more.
//
// Beyond that, a writer marks the key before it commits, so that readers ask the catalog until it has deleted: who has seen the new state does not see
// the old one again, and a writer that dies between commit and delete leaves a mark, which expires. A mark can be lost, when a server is started anew or has
// no room; then readers may see either state, in any order, until the write is acknowledged, or, if its writer has died, until the entry expires
// ([Options.TTL]). A server must not be started with items that are older than its end, such as an old
// snapshot: it would have what was deleted since.
package metacache
