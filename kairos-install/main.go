// Command kairos-install puts an image on a disk.
package main

import (
	"github.com/kairos-io/toolkit/kairos-install/cmd"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func main() { cmdline.Main(cmd.App(cmd.Local())) }
