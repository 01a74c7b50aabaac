package initrd

import (
	"encoding/json"
	"fmt"
	"os"
	"path"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/report"
)

// DegradedPath exists when something that should be there is not. It holds a
// line for each problem.
const DegradedPath = report.Dir + "/degraded"

// Report says what is mounted, and what kairos-root status --json prints.
type Report = report.Root

// Mount is a mount of the running system.
type Mount = report.Mount

// Problem is something that should be there and is not.
type Problem = report.Degraded

// degraded notes and logs a problem that does not stop the boot.
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

// writeJSON writes a file beneath /run/kairos, which people read as well.
func (i *Initrd) writeJSON(name string, v any) error {
	root, err := os.OpenRoot(i.path("."))
	if err != nil {
		return err
	}
	defer root.Close()
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	return atomicfile.Write(root, name, append(data, '\n'), 0o644)
}
