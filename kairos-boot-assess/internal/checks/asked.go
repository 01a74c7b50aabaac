package checks

import (
	"context"
	"path"
	"strings"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/pid1"
)

// byOthers reports whether a unit belongs to users, or was started by a request instead
// of by the boot: an unprivileged user or a remote person may have made it fail, so its
// failure does not count against the image. A unit that another unit of the boot pulls
// in as well does count.
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
