// Command kairos-config finds, shows and validates the node's configs, and applies them
// stage by stage: kairos-config(8).
package main

import (
	"github.com/kairos-io/toolkit/kairos-config/cmd"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func main() { cmdline.Main(cmd.App()) }
