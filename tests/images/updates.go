package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/tests/workspace"
)

// updatesName begins the names of the cache's entries that Updates makes.
const updatesName = "updates-"

// Debian 12 takes security updates for a long time after its last point
// release: the two differ by what a node has to fetch after some months.
const updatesSuite = "bookworm"

// initrdScript makes an initrd as a node would have it: it changes with most updates.
const initrdScript = `
kernel=$(ls /usr/lib/modules)
dracut --quiet --force --kver "$kernel" "/usr/lib/modules/$kernel/initramfs.img"
rm -rf /var/tmp/* /var/log/* /var/lib/dracut
`

// Updates returns the root file systems of one image, as directories: made from Debian's last point
// release alone, and made with all updates that came after it. Neither may be changed.
func Updates(ctx context.Context, report func(string)) (release, updated string, err error) {
	unlock, err := workspace.Lock(updatesName + "images")
	if err != nil {
		return "", "", err
	}
	defer unlock()
	packages := slices.DeleteFunc(packageNames(basePackages), func(name string) bool {
		return name == "systemd-repart" // a part of systemd there
	})
	packages = append(packages, "python3", "openssl")
	name := updatesName + hashOf(strings.Join(packages, " "), baseScript, dracutConf, initrdScript, updatesSuite)
	dir, err := cached(name, func(dir string) error {
		sources, err := mirror(ctx, updatesSuite)
		if err != nil {
			return err
		}
		if len(sources) < 2 {
			return fmt.Errorf("the mirror of this machine has no updates of %s", updatesSuite)
		}
		for variant, sources := range map[string][]string{"release": sources[:1], "updated": sources} {
			report("installing Debian, " + variant + " (mmdebstrap, dracut)")
			root := filepath.Join(dir, variant)
			if err := debian(ctx, dir, packages, updatesSuite, root, sources...); err != nil {
				return err
			}
			if err := chroot(ctx, root, initrdScript); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", "", fmt.Errorf("make the root file systems before and after updates: %w", err)
	}
	old, err := filepath.Glob(workspace.Cache("images", updatesName+"*"))
	if err != nil {
		return "", "", err
	}
	for _, other := range old {
		if other != dir {
			if err := os.RemoveAll(other); err != nil {
				return "", "", err
			}
		}
	}
	return filepath.Join(dir, "release"), filepath.Join(dir, "updated"), nil
}
