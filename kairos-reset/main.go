// Command kairos-reset brings a node back to its factory state.
package main

import (
	"github.com/kairos-io/toolkit/kairos-reset/cmd"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func main() { cmdline.Main(cmd.App(cmd.Local())) }
