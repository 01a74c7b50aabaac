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

// NowStage is the name in records of steps that were applied without a reboot.
const NowStage = "apply"

// Now compares the steps of a boot with two sets of configs, and returns the new steps:
// those that can be applied to the running system, and the others. A step in both sets
// is applied again where it restores an object that a removed step had changed; its
// commands are not.
func Now(running, next *source.Collection, fill Fill) (*Plan, []Later) {
	before, after := Pair(running, next, fill)
	known := map[string]bool{}
	for _, plan := range before {
		for _, step := range plan.Steps {
			known[step.fingerprint] = true
		}
	}
	was, will := Targets(before), Targets(after)
	plan := &Plan{Stage: NowStage, Problems: next.Problems, fill: fill}
	var later []Later
	for _, stage := range after {
		for _, step := range stage.Steps {
			if step.KeysOnly || step.Early {
				continue
			}
			if known[step.fingerprint] {
				if !restores(step, was, will) {
					continue
				}
				step.Spec.Commands = nil
			}
			if reason := step.needsReboot(stage.Stage); reason != "" {
				later = append(later, Later{step, reason})
				continue
			}
			plan.Steps = append(plan.Steps, step)
		}
	}
	return plan, later
}

// Pair collects the steps of a boot with two sets of configs. A step in both is filled
// once, since templates may render differently each time.
func Pair(running, next *source.Collection, fill Fill) (before, after []*Plan) {
	before, after = Boot(running, fill), Boot(next, fill)
	known := map[string]Step{}
	for _, plan := range before {
		for _, step := range plan.Steps {
			known[step.fingerprint] = step
		}
	}
	for _, plan := range after {
		for i, step := range plan.Steps {
			if same, ok := known[step.fingerprint]; ok && !step.KeysOnly {
				pos := step.Spec.Pos
				plan.Steps[i].Spec, plan.Steps[i].Secrets = same.Spec, same.Secrets
				plan.Steps[i].Spec.Pos = pos
			}
		}
	}
	return before, after
}

// restores reports whether a step is the last to touch something that is
// otherwise now.
func restores(step Step, was, will map[string]Target) bool {
	t := &targets{things: map[string]*thing{}}
	t.add(step)
	for name := range t.things {
		if w := will[name]; w.Digest != was[name].Digest && w.Origin == step.Spec.Pos.FileLine() {
			return true
		}
	}
	return false
}

// needsReboot returns why a step can't be applied to the running system.
func (s Step) needsReboot(stage string) string {
	switch {
	case stage == "rootfs":
		return "the stage rootfs runs before the root is mounted"
	case stage == "initramfs" && len(s.Spec.Commands) > 0:
		return "its commands expect a system that has not started yet"
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
