// Package buildinfo holds what the linker says of a build.
package buildinfo

import (
	"path"
	"strings"
)

// Version is the version of the toolkit, set by the linker from git.
var Version = "devel"

// Where "make install" puts programs, and what belongs to them: BINDIR and LIBDIR
// of the makefile.
var (
	BinDir = "/usr/bin"
	LibDir = "/usr/lib/kairos"
)

// Lib returns the path of something in LibDir, from the root of the system.
func Lib(name string) string { return path.Join(strings.TrimPrefix(LibDir, "/"), name) }
