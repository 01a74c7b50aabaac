package service

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/assess"
	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/history"
	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/bus"
)

// toldFile records, in assess.StateDir, which signals were sent in this boot, so that a
// restarted service does not repeat them.
const toldFile = "told.json"

// told is the content of that file.
type told struct {
	BootID      string          `json:"boot_id"`
	SoftReboots int             `json:"soft_reboots"`
	Verdict     history.Outcome `json:"verdict"`
	Assessed    time.Time       `json:"assessed"`
	Fallback    time.Time       `json:"fallback"` // of the last one
}

// announce signals the verdict and the fallbacks of this boot, each once.
func (s *Service) announce(status assess.Status) {
	boot := status.Boot
	if boot.BootID == "" {
		return
	}
	last := s.told()
	if last.BootID != boot.BootID {
		last = told{BootID: boot.BootID}
	}
	now := told{boot.BootID, boot.SoftReboots, boot.Outcome, boot.Assessed, last.Fallback}
	_, fallbacks, _, err := s.node.History()
	if err != nil {
		s.log.Warn("cannot read the fallbacks", "error", err)
	}
	for _, f := range fallbacks {
		if f.BootID == boot.BootID && f.Time.After(last.Fallback) {
			now.Fallback = f.Time
			s.jobs.Tell(s.object.Emit(Name, "FellBack", fallback(&f)))
		}
	}
	judged := boot.Outcome == history.Good || boot.Outcome == history.Bad
	if judged && (now.SoftReboots != last.SoftReboots || now.Verdict != last.Verdict || !now.Assessed.Equal(last.Assessed)) {
		s.jobs.Tell(s.object.Emit(Name, "Assessed", string(boot.Outcome), boot.Reason, bus.Dict(boot)))
	}
	if now != last {
		s.remember(now)
	}
}

func (s *Service) told() (t told) {
	data, err := os.ReadFile(filepath.Join(s.node.Root, assess.StateDir, toldFile))
	if err != nil || json.Unmarshal(data, &t) != nil {
		return told{}
	}
	return t
}

func (s *Service) remember(t told) {
	root, err := os.OpenRoot(filepath.Join(s.node.Root, assess.StateDir))
	if err == nil {
		defer root.Close()
		err = atomicfile.WriteJSON(root, toldFile, t, 0o644)
	}
	if err != nil {
		s.log.Warn("cannot record what was signalled", "error", err)
	}
}
