// Program kairos executes the toolkit's tools by their short names, and shows the state
// of the whole node on one page: see kairos(8).
package main

import (
	"os"

	"github.com/kairos-io/toolkit/kairos/cmd"
)

func main() { os.Exit(cmd.Run(os.Args)) }
