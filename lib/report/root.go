package report

import "github.com/kairos-io/toolkit/lib/deployment"

// RootFile is the file in which kairos-root(8) records its mounts.
const RootFile = Dir + "/root.json"

// Root is the content of RootFile, and the object that kairos-root status --json
// prints.
type Root struct {
	Booted     deployment.Booted `json:"booted"`
	Writable   bool              `json:"writable"`   // the writable paths are mounted
	Persistent string            `json:"persistent"` // device of COS_PERSISTENT, "" when it is not mounted
	Overlay    string            `json:"overlay"`    // size limit of the ephemeral overlays
	Added      []string          `json:"added"`      // mount points that the image lacks
	Mounts     []Mount           `json:"mounts"`
	Skipped    []Skip            `json:"skipped"`
	Degraded   []Degraded        `json:"degraded"`
}

// Mount is a mount of the running system.
type Mount struct {
	Path   string `json:"path"`             // path as configured
	Target string `json:"target"`           // path with symbolic links resolved
	Kind   string `json:"kind"`             // config, ephemeral, overlay, bind, volume
	Source string `json:"source,omitempty"` // device, or directory on COS_PERSISTENT
}

// Skip is a path that was not mounted, with the reason.
type Skip struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Degraded is a part of the system that is missing.
type Degraded struct {
	What   string `json:"what"`
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"`
}
