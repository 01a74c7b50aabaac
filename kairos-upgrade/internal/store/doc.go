// Package store keeps deployments: the contents of files, each once, the
// composefs images that put them together, and the records that say what was
// deployed.
//
// # Format
//
//	objects/ab/cdef…            contents of files, each named by its fs-verity digest
//	images/<digest>             composefs images, named by their own digest
//	deployments/<id>.json       records (package deployment of lib)
//	layers/<digest>             what layers hold, named by their DiffID
//	layers/<digest>.<digest>    the same by DiffID and table of contents
//	partial/                    what an interrupted transfer has left, see partial.go
//	contents                    which object has which plain SHA-256, see contents.go
//	quarantine/<digest>.json    manifest digests that failed on this node
//	boot-need.json              what images boot with that the ESP had no room for
//	serial                      highest serial ever given, decimal, newline
//	tmp/                        unfinished work, emptied by the next writer
//	lock                        flock(2)ed by the one writer; says who it is
//
// Digests are 64 lower-case hexadecimal digits: SHA-256 fs-verity digests of
// 4 KiB blocks without salt for objects and images, plain SHA-256 for the
// names of layers and quarantines. An object's first two digits are the name
// of its directory.
//
// # Order of writing
//
// A name in objects/ or images/ is that of a complete file, at every moment,
// also after a power cut. On a file system with fs-verity (ext4 with the
// feature verity, btrfs) a file is written in tmp/, fs-verity is enabled (which
// writes its content and its Merkle tree to the disk), the digest that the
// kernel measured is compared with the expected one, and only then the file is
// renamed. An object counts as present if the kernel measures the digest that
// its name says, so a name alone is never trusted.
//
// Elsewhere the kernel gives no such promise: objects stay in tmp/ until
// Commit has written out the file system, and are renamed then. Present is what
// has the name.
//
// Records name images, images name objects; they are written in the reverse
// order, with one syncfs(2) between, and removed in this order. What no record
// reaches is garbage. Boot files are objects too, named by the record: a
// deployment can be published again, or copied to another store, without
// its source.
//
// # Concurrency
//
// One process writes, others read. Objects are put by several goroutines at
// once. Readers need no lock: what a record reaches does not change.
package store

const (
	objectsDir = "objects"
	imagesDir  = "images"
	layersDir  = "layers"
	tmpDir     = "tmp"
	serialFile = "serial"
	lockFile   = "lock"
)
