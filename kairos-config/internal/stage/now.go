package stage

import (
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Later is a step that can't be applied to the running system.
type Later struct {
	Step
	Reason string
}

// NowStage is the name under which steps are recorded that were applied
// without a reboot.
const NowStage = "apply"

// bootStages are the stages of a boot, in their order.
var bootStages = []string{"rootfs", "initramfs", "fs", "boot", "network"}

// Now returns the steps of a boot that configs have and others, those of the
// running system, have not: those that can be applied to it, and the rest.
func Now(running, next *source.Collection, fill Fill) (*Plan, []Later) {
	known := map[string]bool{}
	for _, stage := range bootStages {
		for _, step := range NewPlan(running, stage, fill).Steps {
			known[step.fingerprint] = true
		}
	}
	plan := &Plan{Stage: NowStage, Problems: next.Problems, fill: fill}
	var later []Later
	for _, stage := range bootStages {
		all := NewPlan(next, stage, fill)
		for _, step := range all.Steps {
			if known[step.fingerprint] || step.KeysOnly {
				continue
			}
			if reason := step.needsReboot(stage); reason != "" {
				later = append(later, Later{step, reason})
				continue
			}
			plan.Steps = append(plan.Steps, step)
		}
	}
	return plan, later
}

// needsReboot returns why a step can't be applied to the running system.
func (s Step) needsReboot(stage string) string {
	switch {
	case stage == "rootfs":
		return "what the stage rootfs does comes before the root is mounted"
	case stage == "initramfs" && len(s.Spec.Commands) > 0:
		return "its commands are for a system that has not started yet"
	}
	return ""
}

// fingerprint is what a step is known by: its part and all that is in it.
func fingerprint(part string, n *tree.Node) string {
	text, err := n.MarshalJSON()
	if err != nil {
		return ""
	}
	return part + " " + string(text)
}
