package initrd

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/kairos-io/toolkit/lib/atomicfile"

	"github.com/kairos-io/toolkit/kairos-root/internal/sysroot"
)

// machineIDFile is the path of the node's machine id on COS_PERSISTENT:
// /usr/local/etc/machine-id, as in Kairos.
const machineIDFile = "etc/machine-id"

// machineID writes /etc/machine-id, machine-id(5), before the system starts, so that
// systemd treats a node's first boot like every other. It uses the node's own id, or
// creates one and stores it where possible. It ignores an id in the image, which many
// nodes share.
func (i *Initrd) machineID(r *Report) error {
	id, err := i.keptMachineID(r)
	if err != nil {
		i.degraded(r, "machine-id", fmt.Errorf("a new machine id is used for this boot: %w", err))
	}
	if id == "" {
		id = newMachineID()
	}
	root, err := sysroot.Open(i.Sysroot)
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := root.Dir("/etc")
	if err != nil {
		return err
	}
	defer dir.Close()
	etc, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return err
	}
	defer etc.Close()
	return atomicfile.Write(etc, "machine-id", []byte(id+"\n"), 0o444)
}

// keptMachineID returns the machine id on COS_PERSISTENT, which it creates on a node's
// first boot; "" when there is no COS_PERSISTENT.
func (i *Initrd) keptMachineID(r *Report) (string, error) {
	if r.Persistent == "" {
		return "", nil
	}
	persistent, err := os.OpenRoot(i.path(persistentDir))
	if err != nil {
		return "", err
	}
	defer persistent.Close()
	data, err := persistent.ReadFile(machineIDFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if id := strings.TrimSpace(string(data)); isMachineID(id) {
		return id, nil
	}
	if err == nil {
		i.Log.Warn("the stored machine id is damaged, making a new one")
	}
	id := newMachineID()
	if err := persistent.MkdirAll("etc", 0o755); err != nil {
		return id, err
	}
	return id, atomicfile.Write(persistent, machineIDFile, []byte(id+"\n"), 0o444)
}

func isMachineID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == "" && strings.Trim(s, "0") != ""
}

// newMachineID returns a random version 4 UUID without dashes.
func newMachineID() string {
	var id [16]byte
	rand.Read(id[:])
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return hex.EncodeToString(id[:])
}
