// Command kairos-boot-assess decides whether a boot is good and keeps the history of
// boots: kairos-boot-assess(8).
package main

import (
	"github.com/kairos-io/toolkit/kairos-boot-assess/cmd"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func main() { cmdline.Main(cmd.App(assess.Local())) }
