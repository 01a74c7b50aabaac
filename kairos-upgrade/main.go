// Program kairos-upgrade stages container images as the next boot of a node,
// and keeps its store of deployments: kairos-upgrade(8).
package main

import (
	"os"
	"runtime/debug"

	"github.com/kairos-io/toolkit/kairos-upgrade/cmd"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"github.com/kairos-io/toolkit/lib/cmdline"
)

// memory is the soft limit in bytes on what the runtime takes: it collects
// its own garbage more often rather than grow beyond.
const memory = 80 << 20

func main() {
	if source.Init() {
		return // as a helper of containers/storage
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory)
	}
	cmdline.Main(cmd.App())
}
