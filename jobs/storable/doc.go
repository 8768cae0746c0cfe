// Package storable reads and writes the arguments that Perl programs give their jobs: images of Perl's Storable module, in
// network order and without a file header, as nfreeze makes them. What it knows of the format are hashes, arrays, strings, numbers,
// undef, truth values, references, and objects, which it takes for what they are made of.
//
// [Unmarshal] is what handlers want: it reads such images and JSON alike. A Go program that writes for Perl workers should
// write JSON ([Raw] makes sure that it is not mistaken for an image), or [Marshal] for workers that want references.
package storable
