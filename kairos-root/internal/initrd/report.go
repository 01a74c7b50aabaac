package initrd

import (
	"fmt"
	"os"
	"path"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report"
)

// DegradedPath is a file that exists when something is missing, with one line for each
// problem.
const DegradedPath = report.Dir + "/degraded"

// Report describes the mounts: the object that kairos-root status --json prints.
type Report = report.Root

// Mount is a mount of the running system.
type Mount = report.Mount

// Problem is a part of the system that is missing.
type Problem = report.Degraded

// degraded records and logs a problem that does not stop the boot.
func (i *Initrd) degraded(r *Report, what string, err error) {
	r.Degraded = append(r.Degraded, Problem{What: what, Reason: err.Error(), Hint: exit.HintOf(err)})
	i.Log.Error(what + ": " + err.Error())
	if hint := exit.HintOf(err); hint != "" {
		i.Log.Error("hint: " + hint)
	}
}

func (i *Initrd) writeReport(r *Report) error {
	if err := i.writeJSON(path.Base(report.RootFile), r); err != nil {
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

// writeJSON writes an indented JSON file beneath /run/kairos.
func (i *Initrd) writeJSON(name string, v any) error {
	root, err := os.OpenRoot(i.path("."))
	if err != nil {
		return err
	}
	defer root.Close()
	return atomicfile.WriteJSON(root, name, v, 0o644)
}
