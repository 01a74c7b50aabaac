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

// signalledFile records, in assess.StateDir, which signals were sent in this boot, so that a
// restarted service does not repeat them.
const signalledFile = "told.json"

// signalled is the content of that file.
type signalled struct {
	BootID      string          `json:"boot_id"`
	SoftReboots int             `json:"soft_reboots"`
	Verdict     history.Outcome `json:"verdict"`
	Assessed    time.Time       `json:"assessed"`
	Fallback    time.Time       `json:"fallback"` // of the last one
}

// signal signals the verdict and the fallbacks of this boot, each once.
func (s *Service) signal(status assess.Status) {
	boot := status.Boot
	if boot.BootID == "" {
		return
	}
	last := s.readSignalled()
	if last.BootID != boot.BootID {
		last = signalled{BootID: boot.BootID}
	}
	now := signalled{boot.BootID, boot.SoftReboots, boot.Outcome, boot.Assessed, last.Fallback}
	_, fallbacks, _, err := s.node.History()
	if err != nil {
		s.log.Warn("cannot read the fallbacks", "error", err)
	}
	for _, f := range fallbacks {
		if f.BootID == boot.BootID && f.Time.After(last.Fallback) {
			now.Fallback = f.Time
			s.jobs.LogError(s.object.Emit(Name, "FellBack", fallback(&f)))
		}
	}
	judged := boot.Outcome == history.Good || boot.Outcome == history.Bad
	if judged && (now.SoftReboots != last.SoftReboots || now.Verdict != last.Verdict || !now.Assessed.Equal(last.Assessed)) {
		s.jobs.LogError(s.object.Emit(Name, "Assessed", string(boot.Outcome), boot.Reason, bus.Dict(boot)))
	}
	if now != last {
		s.writeSignalled(now)
	}
}

func (s *Service) readSignalled() (t signalled) {
	data, err := os.ReadFile(filepath.Join(s.node.Root, assess.StateDir, signalledFile))
	if err != nil || json.Unmarshal(data, &t) != nil {
		return signalled{}
	}
	return t
}

func (s *Service) writeSignalled(t signalled) {
	root, err := os.OpenRoot(filepath.Join(s.node.Root, assess.StateDir))
	if err == nil {
		defer root.Close()
		err = atomicfile.WriteJSON(root, signalledFile, t, 0o644)
	}
	if err != nil {
		s.log.Warn("cannot record what was signalled", "error", err)
	}
}
