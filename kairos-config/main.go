// Command kairos-config finds the node's configs, shows what they say, and
// applies them stage by stage: kairos-config(8).
package main

import (
	"github.com/kairos-io/toolkit/kairos-config/cmd"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func main() { cmdline.Main(cmd.App()) }
