package bench

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// TestBenchSizes measures the stripped programs and what they add to the
// initrd.
func TestBenchSizes(t *testing.T) {
	world := theWorld(t)
	limits := map[string]float64{"kairos-root": 4e6, "kairos-config": 10e6, "kairos-upgrade": 30e6}
	programs, err := filepath.Glob(filepath.Join(workspace.Top(), "build/*/kairos-*"))
	must(t, err)
	for _, program := range programs {
		info, err := os.Stat(program)
		must(t, err)
		name := filepath.Base(program)
		limit, ok := limits[name]
		if !ok {
			limit = 8e6
		}
		report(Figure{What: name + ", stripped", Value: float64(info.Size()), Unit: "B", Limit: limit})
	}

	root := filepath.Join(t.TempDir(), "root")
	must(t, world.Images.Unpack(t.Context(), "v1", root))
	with, err := os.Stat(filepath.Join(root, "usr/lib/modules", world.Images.Kernel, "initramfs.img"))
	must(t, err)
	must(t, os.RemoveAll(filepath.Join(root, "usr/lib/dracut/modules.d/90kairos")))
	without, err := world.Images.PlainInitrd(t.Context(), root)
	must(t, err)
	report(Figure{What: "initrd without the dracut module, compressed", Value: float64(len(without)), Unit: "B"})
	report(Figure{What: "the initrd grows by, compressed", Value: float64(with.Size()) - float64(len(without)), Unit: "B", Limit: 8e6})
}
