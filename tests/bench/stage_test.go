package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/tests/registry"
	"github.com/kairos-io/toolkit/tests/story"
	"github.com/kairos-io/toolkit/tests/workspace"
)

// run runs a command and returns how long it took, its peak resident memory in
// bytes, the bytes that it caused to be written, and what it printed.
func measure(t *testing.T, cmd *exec.Cmd, wantStatus int) (seconds, memory, written float64, stdout []byte) {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	start := time.Now()
	err := cmd.Run()
	seconds = time.Since(start).Seconds()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != wantStatus {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return seconds, float64(usage.Maxrss) * 1024, float64(usage.Oublock) * 512, out.Bytes()
}

// TestBenchStaging stages v1, v1 again and v2 from the registry into a store
// on this machine, whose file system may lack fs-verity.
func TestBenchStaging(t *testing.T) {
	dir := t.TempDir()
	store, esp := filepath.Join(dir, "store"), filepath.Join(dir, "esp")
	must(t, os.Mkdir(store, 0o755))
	must(t, os.Mkdir(esp, 0o755))
	stage := func(what, version string, status int, peer string) {
		ref := world.Registry.LocalHost() + "/" + story.Repository + ":" + version
		mark := world.Registry.Mark()
		cmd := exec.CommandContext(t.Context(), filepath.Join(workspace.Top(), "build/bin/kairos-upgrade"),
			"stage", "--insecure", "--quiet", "--json", "--store", store, "--esp", esp, ref)
		seconds, memory, written, stdout := measure(t, cmd, status)
		requests := world.Registry.Since(mark)
		layers := 0
		for _, r := range requests {
			if r.Blob() && r.Bytes > 16<<10 {
				layers++
			}
		}
		f := Figure{What: what + ": time", Value: seconds, Unit: "s"}
		if peer != "" {
			f.Peer, f.By = copyWith(t, version), peer
		}
		report(f)
		report(Figure{What: what + ": peak resident memory", Value: memory, Unit: "B", Limit: 128 << 20})
		report(Figure{What: what + ": fetched", Value: float64(registry.Fetched(requests)), Unit: "B"})
		report(Figure{What: what + ": layers fetched", Value: float64(layers), Unit: ""})
		report(Figure{What: what + ": written by the process", Value: written, Unit: "B"})
		if status == 0 {
			var result struct {
				Objects int   `json:"objects_added"`
				Bytes   int64 `json:"bytes_added"`
			}
			if err := json.Unmarshal(stdout, &result); err != nil {
				t.Fatalf("stage --json: %v\n%s", err, stdout)
			}
			report(Figure{What: what + ": objects added", Value: float64(result.Objects), Unit: ""})
			report(Figure{What: what + ": bytes of objects added", Value: float64(result.Bytes), Unit: "B"})
		}
	}
	stage("v1 into an empty store", "v1", 0, "skopeo copy + tar -x")
	stage("v1 again", "v1", 3, "")
	stage("v2 after v1", "v2", 0, "")
}

// copyWith fetches an image with skopeo and unpacks it with tar, and returns
// the seconds that takes.
func copyWith(t *testing.T, version string) float64 {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "kairos-bench-")
	must(t, err)
	defer os.RemoveAll(dir)
	script := fmt.Sprintf(`skopeo copy --quiet --insecure-policy --src-tls-verify=false docker://%s/%s:%s dir:%s/image
mkdir %[4]s/root; cd %[4]s/image
for layer in $(skopeo inspect --format '{{range .Layers}}{{println .}}{{end}}' dir:. | sed 's/^sha256://'); do
  tar -x --zstd -f "$layer" -C %[4]s/root --exclude='.wh.*'
done; sync -f %[4]s`, world.Registry.LocalHost(), story.Repository, version, dir)
	seconds, _, _, _ := measure(t, workspace.Tool(t.Context(), "sh", "-euc", script), 0)
	return seconds
}
