// Package buildinfo holds the version and the directories that the linker writes into a
// program.
package buildinfo

import (
	"path"
	"strings"
)

// Version is the version of the toolkit, set by the linker from git.
var Version = "devel"

// BINDIR and LIBDIR of the makefile: where "make install" puts programs, and the files
// that belong to them.
var (
	BinDir = "/usr/bin"
	LibDir = "/usr/lib/kairos"
)

// Lib returns the path of a file in LibDir, relative to the root directory.
func Lib(name string) string { return path.Join(strings.TrimPrefix(LibDir, "/"), name) }
