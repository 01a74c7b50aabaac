package disk

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// LUKS returns the UUID in the header of a LUKS volume (LUKS2 On-Disk Format
// Specification, 2.1; LUKS1 has it at the same offset), "" where the device has no such
// header. Headers are not authenticated: anybody who could write to the disk may have
// chosen the UUID.
func LUKS(device string) (uuid string, err error) {
	f, err := os.Open(device)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const at, size = 168, 40
	head := make([]byte, at+size)
	if _, err := io.ReadFull(f, head); err == io.EOF || err == io.ErrUnexpectedEOF {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("read %s: %w", device, err)
	}
	if !bytes.HasPrefix(head, []byte(luksMagic)) {
		return "", nil
	}
	text, _, _ := bytes.Cut(head[at:], []byte{0})
	return strings.ToLower(string(text)), nil
}

// Unlocked returns the open encrypted volumes by the names of their mappings. The value
// is what Volume returns for the underlying device where its UUID is the one that the
// kernel knows, and otherwise the UUID alone.
func (s System) Unlocked() map[string]string {
	open := map[string]string{}
	// A machine without a device mapper has none.
	dirs, _ := filepath.Glob(filepath.Join(s.Sys, "class/block/*/dm"))
	for _, dir := range dirs {
		name, errName := os.ReadFile(filepath.Join(dir, "name"))
		id, errID := os.ReadFile(filepath.Join(dir, "uuid"))
		// CRYPT-LUKS2-<UUID without dashes>-<name>
		hex, luks := strings.CutPrefix(strings.TrimSpace(string(id)), "CRYPT-LUKS2-")
		if errName != nil || errID != nil || !luks || len(hex) < 32 {
			continue
		}
		uuid := strings.ToLower(strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:32]}, "-"))
		// One device is behind a volume.
		slaves, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "slaves/*"))
		if len(slaves) == 1 {
			volume, err := Volume(filepath.Join(s.Dev, filepath.Base(slaves[0])))
			if err == nil && SameVolume(volume, uuid) {
				uuid = volume
			}
		}
		open[strings.TrimSpace(string(name))] = uuid
	}
	return open
}
