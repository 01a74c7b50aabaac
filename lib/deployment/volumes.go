package deployment

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/lib/kernelargs"
)

// VolumesArg is the kernel argument that names the encrypted volumes of a node.
const VolumesArg = "kairos.crypt"

// Volumes are the encrypted volumes that belong to a node by the label of the
// partition, as disk.Volume tells them: by UUID and digits, or by the UUID alone. What stands in the boot entry is what the
// initrd takes; anything else on such a partition is somebody else's.
type Volumes map[string]string

// maxVolumes bounds how many volumes are named.
const maxVolumes = 32

// ParseVolumes reads LABEL:UUID[:DIGITS],LABEL:UUID…; "" is none.
func ParseVolumes(text string) (Volumes, error) {
	v := Volumes{}
	if text == "" {
		return v, nil
	}
	for one := range strings.SplitSeq(text, ",") {
		label, uuid, ok := strings.Cut(one, ":")
		switch {
		case !ok || !isLabel(label) || !IsVolume(uuid):
			return nil, fmt.Errorf("%.80q: want LABEL:UUID, with the UUID of a LUKS header", one)
		case v[label] != "":
			return nil, fmt.Errorf("%s is named twice", label)
		}
		v[label] = uuid
		if len(v) > maxVolumes {
			return nil, errors.New("too many volumes")
		}
	}
	return v, nil
}

// VolumesOf returns the volumes that a kernel command line names, nil where it
// says nothing, or nothing that can be read.
func VolumesOf(cmdline string) Volumes {
	for word := range kernelargs.Words(cmdline) {
		if name, value, _ := kernelargs.Cut(word); name == VolumesArg {
			v, _ := ParseVolumes(value)
			return v
		}
	}
	return nil
}

func (v Volumes) String() string {
	var all []string
	for _, label := range slices.Sorted(maps.Keys(v)) {
		all = append(all, label+":"+v[label])
	}
	return strings.Join(all, ",")
}

func isLabel(s string) bool {
	const chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
	return s != "" && len(s) <= 36 && strings.Trim(s, chars) == ""
}

// IsVolume reports whether a text has the form in which disk.Volume tells a volume.
func IsVolume(s string) bool {
	uuid, digits, more := strings.Cut(s, ":")
	return IsUUID(uuid) && (!more || len(digits) == 32 && strings.Trim(digits, "0123456789abcdef") == "")
}

// IsUUID reports whether a text has the form of a UUID, in lower case.
func IsUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", rune(c)) {
			return false
		}
	}
	return true
}
