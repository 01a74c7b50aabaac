package checks

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/kairos-io/toolkit/lib/report"
)

// UnlockName is the name of the built-in check for encrypted volumes.
const UnlockName = "unlock"

// Unlock returns the built-in check for encrypted volumes: it fails if one stayed
// locked because of this deployment. A volume that the previous deployment could not
// have opened either (the TPM was cleared, or the disk is in another machine) causes a
// message only, since a fallback would not help.
func Unlock(root string) func(context.Context, io.Writer, io.Writer) error {
	return func(_ context.Context, out, problem io.Writer) error {
		var locked []string
		unlocks, err := report.ReadDir[report.Unlock](root, report.UnlockDir)
		for _, r := range unlocks {
			why := strings.ReplaceAll(r.Error, "\n", "; ")
			switch {
			case why == "":
			case r.OfDeployment:
				locked = append(locked, r.Name)
				fmt.Fprintf(problem, "%s: %s\n", r.Name, why)
			default:
				fmt.Fprintf(out, "%s stayed locked, as it would with another deployment: %s\n", r.Name, why)
			}
		}
		if err == nil && len(locked) > 0 {
			err = fmt.Errorf("%s stayed locked", List(locked))
		}
		return err
	}
}
