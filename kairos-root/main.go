// Command kairos-root mounts the immutable root and its writable paths in the
// initrd: see kairos-root(8).
package main

import (
	"os"

	"github.com/kairos-io/toolkit/kairos-root/cmd"
)

func main() { os.Exit(cmd.Run(os.Args, os.Stdout, os.Stderr)) }
