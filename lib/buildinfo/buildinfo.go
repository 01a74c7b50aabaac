// Package buildinfo holds what the linker says of a build.
package buildinfo

// Version is the version of the toolkit, set by the linker from git.
var Version = "devel"
