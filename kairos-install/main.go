// Command kairos-install installs an image on a disk: see kairos-install(8).
package main

import (
	"github.com/kairos-io/toolkit/kairos-install/cmd"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func main() { cmdline.Main(cmd.App(cmd.Local())) }
