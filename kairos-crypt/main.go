// Command kairos-crypt creates, opens and manages encrypted volumes whose keys the TPM
// keeps.
package main

import (
	"fmt"
	"os"

	"github.com/kairos-io/toolkit/kairos-crypt/cmd"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/harden"
)

func main() {
	if err := harden.Process(); err != nil {
		fmt.Fprintln(os.Stderr, "kairos-crypt:", err)
		os.Exit(exit.Failed)
	}
	cmdline.Main(cmd.App(cmd.Local()))
}
