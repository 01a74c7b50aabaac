//go:build !cgo

package confine

// Threads says whether all threads of the program can be confined: not those of C
// libraries, which the runtime does not know.
const Threads = true
