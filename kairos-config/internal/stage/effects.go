package stage

import "context"

// effect is one kind of thing that a step does: how it is applied, and what it
// leaves on the node.
type effect struct {
	name    string // in kairos-config(8)
	apply   func(*run, context.Context)
	targets func(*targets)
}

// effects are all that a step can do, in the order in which they are applied,
// which is Kairos' order, whatever order they are written in.
var effects = []effect{
	{"name servers", (*run).dns, (*targets).dns},
	{"downloads", (*run).downloads, (*targets).downloads},
	{"git", (*run).git, (*targets).git},
	{"entities", (*run).ensureEntities, (*targets).ensureEntities},
	{"directories", (*run).directories, (*targets).directories},
	{"files", (*run).files, (*targets).files},
	{"commands", (*run).commands, (*targets).commands},
	{"entities to delete", (*run).deleteEntities, (*targets).deleteEntities},
	{"host name", (*run).hostname, (*targets).hostname},
	{"kernel parameters", (*run).sysctl, (*targets).sysctl},
	{"groups, users", (*run).accountsAndOwners, (*targets).accounts},
	{"ssh keys", (*run).keys, (*targets).keys},
	{"modules", (*run).modules, (*targets).modules},
	{"timesyncd", (*run).timesyncd, (*targets).timesyncd},
	{"units", (*run).units, (*targets).units},
	{"environment", (*run).environment, (*targets).environment},
	{"systemd-firstboot", (*run).firstboot, (*targets).firstboot},
	{"datasource", (*run).datasource, (*targets).datasource},
	{"layout", (*run).layout, (*targets).layout},
	{"package pins", (*run).packagePins, (*targets).packagePins},
	{"packages", (*run).packages, (*targets).packages},
	{"images", (*run).unpackImages, (*targets).unpackImages},
}
