package deploy

import (
	"maps"
	"strings"

	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/disk"
)

// NoVolume is the UUID of a partition that isn't encrypted any more.
const NoVolume = "none"

// volumes returns the encrypted volumes that a new deployment expects: those that
// the last one did, and those that the running system has opened beside them.
// What is expected already is not replaced by what lies on the disk now: an
// exchanged volume would be blessed. Only a person says otherwise.
func (n *Node) volumes(list []Deployment, asked deployment.Volumes) deployment.Volumes {
	v := deployment.Volumes{}
	if last := last(list); last != nil {
		maps.Copy(v, deployment.VolumesOf(last.Options))
	}
	maps.Copy(v, asked)
	for _, label := range []string{disk.LabelOEM, disk.LabelPersistent} {
		// One that is expected by its UUID alone gains what can't be copied.
		open := n.Unlocked[label]
		if deployment.IsVolume(open) && (v[label] == "" || disk.SameVolume(open, v[label])) {
			v[label] = open
		}
	}
	maps.DeleteFunc(v, func(label, uuid string) bool {
		// The recovery system mounts nothing else, and a reset makes the others anew.
		other := n.Label == disk.LabelRecovery && label != disk.LabelOEM
		return uuid == NoVolume || other || n.Label == disk.LabelLive
	})
	return v
}

// withVolumes returns a kernel command line that expects other volumes.
func withVolumes(options string, v deployment.Volumes) string {
	const arg = " " + deployment.VolumesArg + "="
	if before, rest, ok := strings.Cut(options, arg); ok {
		_, after, more := strings.Cut(rest, " ")
		if options = before; more {
			options += " " + after
		}
	}
	if len(v) == 0 {
		return options
	}
	return options + arg + v.String()
}

// last returns what boots next, or else the newest deployment.
func last(list []Deployment) *Deployment {
	if next := RolesOf(list).Next; next != nil {
		return next
	}
	if len(list) > 0 {
		return &list[0]
	}
	return nil
}

// closeEditor takes the editor out of the boot menu where it would open what is
// closed otherwise: somebody at the console could have any program as init, and
// a TPM that knows the firmware's state only would open the volumes for it.
func (n *Node) closeEditor(v deployment.Volumes) {
	menu, ok := n.Loader.(interface{ ForbidEditor() (bool, error) })
	if !ok || n.Label == disk.LabelLive || len(v) == 0 && !n.SecureBoot {
		return
	}
	changed, err := menu.ForbidEditor()
	switch {
	case err != nil:
		n.Log.Warn("the editor of the boot menu is still on", "error", err)
	case changed:
		n.Log.Info("the editor of the boot menu is off now: something is encrypted, or Secure Boot is on")
	}
}
