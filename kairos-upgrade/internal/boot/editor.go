package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/bounded"
)

// loaderConf is systemd-boot's configuration, loader.conf(5).
const loaderConf = "loader/loader.conf"

// maxLoaderConf bounds it, in bytes.
const maxLoaderConf = 64 << 10

// ForbidEditor turns the editor of the boot menu off, and reports whether it was
// on. The other settings stay.
func (l *SystemdBoot) ForbidEditor() (changed bool, err error) {
	have, err := l.readLoaderConf()
	if err != nil {
		return false, fmt.Errorf("read %s: %w", loaderConf, err)
	}
	text, off := "", false
	for line := range strings.Lines(have) {
		words := strings.Fields(line)
		if len(words) > 0 && words[0] == "editor" {
			if off = len(words) == 2 && isNo(words[1]); !off {
				continue
			}
		}
		text += line
	}
	if off && text == have {
		return false, nil
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if err := l.esp.Root.MkdirAll("loader", 0o755); err != nil {
		return false, err
	}
	return true, atomicfile.Write(l.esp.Root, loaderConf, []byte(text+"editor no\n"), 0o644)
}

// isNo reads a boolean as systemd-boot does.
func isNo(word string) bool {
	switch strings.ToLower(word) {
	case "0", "no", "n", "false", "f", "off":
		return true
	}
	return false
}

func (l *SystemdBoot) readLoaderConf() (string, error) {
	data, err := bounded.In(l.esp.Root, loaderConf, maxLoaderConf)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return string(data), err
}
