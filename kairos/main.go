// Program kairos is the umbrella of the toolkit: it executes the tools by their
// short names, and shows what all of them know of the node on one page.
package main

import (
	"os"

	"github.com/kairos-io/toolkit/kairos/cmd"
)

func main() { os.Exit(cmd.Run(os.Args)) }
