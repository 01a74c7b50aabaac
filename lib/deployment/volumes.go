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

// Volumes maps the label of a partition to the node's encrypted volume on it, as
// disk.Volume identifies it: by UUID and digits, or by the UUID alone. The initrd opens
// the volumes that the boot entry names; anything else on such a partition is foreign.
type Volumes map[string]string

// maxVolumes is how many volumes a boot entry may name.
const maxVolumes = 32

// ParseVolumes parses LABEL:UUID[:DIGITS],LABEL:UUID…; "" is none.
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

// VolumesOf returns the volumes that a kernel command line names, nil where it names
// none or cannot be parsed.
func VolumesOf(cmdline string) Volumes {
	for word := range kernelargs.Words(cmdline) {
		if name, value, _ := kernelargs.Cut(word); name == VolumesArg {
			v, _ := ParseVolumes(value)
			return v
		}
	}
	return nil
}

// String returns the form that ParseVolumes parses, sorted by label.
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

// IsVolume reports whether a text has the form of disk.Volume's result.
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
