// Package disk keeps one storage's entities in a local directory: small ones appended to packs, which are tar archives,
// larger ones as plain files; or, in layout "files", each as one file in MogileFS's paths.
//
// What is acknowledged is durable, and what is read has been verified. DESIGN.md has the format on disk, and how to
// get the data back by hand.
package disk
