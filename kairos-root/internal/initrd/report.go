package initrd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"

	"github.com/kairos-io/toolkit/kairos-root/internal/plan"
)

// ReportPath is where the report of a running system is.
const ReportPath = "/run/kairos/root.json"

// DegradedPath exists when something that should be there is not. It holds a
// line for each problem.
const DegradedPath = "/run/kairos/degraded"

// Report says what is mounted: /run/kairos/root.json, and what kairos-root
// status --json prints.
type Report struct {
	Booted     deployment.Booted `json:"booted"`
	Writable   bool              `json:"writable"`   // the writable paths are mounted
	Persistent string            `json:"persistent"` // device of COS_PERSISTENT, "" when it is not mounted
	Overlay    string            `json:"overlay"`    // size limit of ephemeral changes
	Added      []string          `json:"added"`      // mount points that the image lacks
	Mounts     []Mount           `json:"mounts"`
	Skipped    []plan.Skip       `json:"skipped"`
	Degraded   []Problem         `json:"degraded"`
}

// Mount is a mount of the running system.
type Mount struct {
	Path   string `json:"path"`             // as it was asked for
	Target string `json:"target"`           // where it is
	Kind   string `json:"kind"`             // config, ephemeral, overlay, bind, volume
	Source string `json:"source,omitempty"` // device, or directory on COS_PERSISTENT
}

// Problem is something that should be there and is not.
type Problem struct {
	What   string `json:"what"`
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"`
}

// degraded notes and logs a problem that does not stop the boot.
func (i *Initrd) degraded(r *Report, what string, err error) {
	r.Degraded = append(r.Degraded, Problem{what, err.Error(), exit.HintOf(err)})
	i.Log.Error(what + ": " + err.Error())
	if hint := exit.HintOf(err); hint != "" {
		i.Log.Error("hint: " + hint)
	}
}

func (i *Initrd) writeReport(r *Report) error {
	if err := i.writeJSON("root.json", r); err != nil {
		return err
	}
	if len(r.Degraded) == 0 {
		return nil
	}
	var lines []byte
	for _, p := range r.Degraded {
		lines = fmt.Appendf(lines, "%s: %s\n", p.What, p.Reason)
	}
	return os.WriteFile(i.path("degraded"), lines, 0o644)
}

// writeJSON writes a file beneath /run/kairos.
func (i *Initrd) writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(i.path("."))
	if err != nil {
		return err
	}
	defer root.Close()
	return atomicfile.Write(root, name, append(data, '\n'), 0o644)
}

// ReadReport reads the report of a system whose /run is at run.
func ReadReport(run string) (*Report, error) {
	file := filepath.Join(run, "kairos/root.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return r, nil
}
