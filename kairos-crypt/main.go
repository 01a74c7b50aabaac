// Command kairos-crypt makes, opens and looks after encrypted volumes whose keys
// the TPM keeps.
package main

import (
	"fmt"
	"os"

	"github.com/kairos-io/toolkit/kairos-crypt/cmd"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

func main() {
	if err := cmdline.Harden(); err != nil {
		fmt.Fprintln(os.Stderr, "kairos-crypt:", err)
		os.Exit(cmdline.ExitFailed)
	}
	cmdline.Main(cmd.App(cmd.Local()))
}
