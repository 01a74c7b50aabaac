package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
)

// User data is a config of root's. An installed node takes it from outside once,
// at its first boot: later a medium that somebody attaches, or whoever answers on
// the network, must not become root. What was asked is kept on COS_OEM.
const (
	doorRecord = "/oem/.datasource.json"
	liveMode   = "/run/cos/live_mode"
	bootID     = "/proc/sys/kernel/random/boot_id"
)

// door is who was asked for user data, and who gave it.
type door struct {
	Boot  string    `json:"boot"`            // the boot that asked, which may go on
	Taken string    `json:"taken,omitempty"` // the provider whose user data was taken
	Asked []string  `json:"asked"`
	Time  time.Time `json:"time"`
}

// readDoor returns what earlier boots asked. A record that can't be read closes
// the door: it can't be told whom it is closed to.
func readDoor(root *rootfs.Root, kept string) (door, error) {
	data, err := root.ReadFile(doorRecord, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		if root.Exists(kept) { // by a version that kept no record
			return door{Taken: "an earlier boot"}, nil
		}
		return door{}, nil
	}
	var d door
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err != nil {
		return d, fmt.Errorf("read %s: %w", doorRecord, err)
	}
	return d, nil
}

// open returns the providers that may be asked in this boot.
func (d door) open(providers []string, boot string) []string {
	if d.Boot == boot && boot != "" {
		return providers
	}
	return slices.DeleteFunc(slices.Clone(providers), func(name string) bool {
		// A file is the node's own, and not from outside.
		return name != "file" && (d.Taken != "" || slices.Contains(d.Asked, name))
	})
}

func (d door) String() string {
	when := ""
	if !d.Time.IsZero() {
		when = " on " + d.Time.Format("2006-01-02")
	}
	if d.Taken != "" {
		return "user data was taken from " + d.Taken + when
	}
	return "the first boot asked" + when + ", and there was no user data"
}

// close records who was asked, before anything of it counts.
func (d door) close(r *run, boot string, asked []string, taken string) error {
	for _, name := range asked {
		if name != "file" && !slices.Contains(d.Asked, name) {
			d.Asked = append(d.Asked, name)
		}
	}
	if taken != "file" && taken != "" {
		d.Taken = taken
	}
	d.Boot, d.Time = boot, time.Now().UTC().Truncate(time.Second)
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = r.write(doorRecord, append(data, '\n'), rootfs.Attr{Mode: 0o600, UID: rootfs.Keep, GID: rootfs.Keep})
	return err
}

// thisBoot returns the number of this boot, "" where there is none.
func (r *run) thisBoot() string {
	id, err := r.Root.ReadFile(bootID, maxSmall)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
