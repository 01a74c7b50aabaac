package checks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// UnlockName is the name of the built-in check of encrypted volumes.
const UnlockName = "unlock"

// unlockRecords is where kairos-crypt(8) records how unlocks ended, beneath the
// root of the system.
const unlockRecords = "run/kairos/crypt/unlocks"

// unlockRecord is the part of a record that says what stayed locked, and whether
// the deployment is why.
type unlockRecord struct {
	Name         string `json:"name"`
	Error        string `json:"error"`
	OfDeployment bool   `json:"of_deployment"`
}

// Unlock returns the built-in check that no encrypted volume stayed locked
// because of this deployment. One that the deployment before would not have
// opened either, since the TPM was cleared or the disk is in another machine, is
// only said: booting that would help nobody.
func Unlock(root string) func(context.Context, io.Writer, io.Writer) error {
	return func(_ context.Context, out, problem io.Writer) error {
		system, err := os.OpenRoot(root)
		if err != nil {
			return err
		}
		defer system.Close()
		dir, err := system.Open(unlockRecords)
		if errors.Is(err, os.ErrNotExist) {
			return nil // nothing is encrypted
		}
		if err != nil {
			return err
		}
		defer dir.Close()
		names, err := dir.Readdirnames(-1)
		if err != nil {
			return err
		}
		slices.Sort(names)
		var locked []string
		for _, name := range names {
			if path.Ext(name) != ".json" {
				continue
			}
			data, err := readBounded(system, path.Join(unlockRecords, name))
			if err != nil {
				return err
			}
			var r unlockRecord
			if err := json.Unmarshal(data, &r); err != nil {
				return fmt.Errorf("read /%s/%s: %w", unlockRecords, name, err)
			}
			why := strings.ReplaceAll(r.Error, "\n", "; ")
			switch {
			case r.Error == "":
			case r.OfDeployment:
				locked = append(locked, r.Name)
				fmt.Fprintf(problem, "%s: %s\n", r.Name, why)
			default:
				fmt.Fprintf(out, "%s stayed locked, as it would with another deployment: %s\n", r.Name, why)
			}
		}
		if len(locked) > 0 {
			return fmt.Errorf("%s stayed locked", list(locked))
		}
		return nil
	}
}
