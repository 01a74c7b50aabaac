package initrd

import (
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/lib/mount"
	"github.com/kairos-io/toolkit/lib/report"
)

// RunDir is the directory /run of the running system.
const RunDir = "/run"

// Status is the report with the current state: kairos-root status --json.
type Status struct {
	Report
	Mounts []MountStatus `json:"mounts"`
}

// MountStatus is a mount, and whether it still exists.
type MountStatus struct {
	Mount
	Mounted bool `json:"mounted"`
}

// readReport reads the report of a system by its directory /run.
func readReport(run string) (Report, error) {
	return report.Read[Report](run, strings.TrimPrefix(report.RootFile, RunDir))
}

// ReadStatus returns the status of the system beneath root.
func ReadStatus(run, root string) (*Status, error) {
	r, err := readReport(run)
	if err != nil {
		return nil, err
	}
	s := &Status{Report: r, Mounts: []MountStatus{}}
	for _, m := range r.Mounts {
		mounted, err := mount.IsMountPoint(filepath.Join(root, m.Target))
		if err != nil {
			return nil, err
		}
		s.Mounts = append(s.Mounts, MountStatus{m, mounted})
	}
	return s, nil
}

// Complete reports whether nothing is missing.
func (s *Status) Complete() bool {
	for _, m := range s.Mounts {
		if !m.Mounted {
			return false
		}
	}
	return s.Writable && len(s.Degraded) == 0
}
