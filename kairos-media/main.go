// Command kairos-media makes files that boot from images.
package main

import (
	"github.com/kairos-io/toolkit/kairos-media/cmd"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func main() { cmdline.Main(cmd.App()) }
