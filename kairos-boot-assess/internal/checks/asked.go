package checks

import (
	"context"
	"path"
	"strings"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/pid1"
)

// byOthers says that a unit belongs to users, or runs because somebody asked
// for it, and not because the system booted: whoever may ask, over the network
// or without any right on this machine, may have made it fail. Then it says
// nothing about the image. What is part of the boot as well, because another
// unit pulls it in, counts.
func byOthers(ctx context.Context, manager ServiceManager, u pid1.Unit) bool {
	kind := path.Ext(u.Name)
	switch kind {
	case ".scope": // processes that a program started: a login, a container
		return true
	case ".socket", ".path":
		// Too many connections in too short a time end the unit that waits for
		// them: systemd.socket(5), "TriggerLimitIntervalSec=".
		return strings.HasSuffix(manager.Result(ctx, u), "-limit-hit")
	}
	o, err := manager.Origin(ctx, u)
	if err != nil { // gone meanwhile, or not known: it counts
		return false
	}
	switch {
	case o.Slice == "user.slice" || strings.HasPrefix(o.Slice, "user-"):
		return true
	case o.PulledIn:
		return false
	}
	return o.Transient || o.BusName != "" || len(o.Sockets) > 0
}
