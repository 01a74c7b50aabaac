package initrd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kairos-io/toolkit/kairos-root/internal/plan"
	"github.com/kairos-io/toolkit/lib/bounded"
	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/report"
)

// The ESP is mounted on access, and unmounted soon afterwards, since FAT has no
// journal. Before the first mount of a boot it is checked, if the image has dosfstools:
// the kernel makes a file system read-only on errors, such as a power cut leaves.
// systemd-gpt-auto-generator does not find the ESP, because the root is no block
// device. The conditions disable the units in the initrd, which shares
// /run/systemd/system. Without default dependencies, an access to /efi early in the
// boot does not make local-fs.target wait for the disk.
const (
	efiMount = `[Unit]
Description=EFI System Partition
Documentation=man:kairos-root(8)
ConditionPathExists=!/etc/initrd-release
DefaultDependencies=no
Conflicts=umount.target
Before=umount.target
Wants=systemd-fsck@@FSCK@.service
After=systemd-fsck@@FSCK@.service

[Mount]
What=@DEVICE@
Where=/efi
Type=vfat
Options=umask=0077,nodev,nosuid,noexec,rw
`
	efiAutomount = `[Unit]
Description=EFI System Partition, mounted on demand
Documentation=man:kairos-root(8)
ConditionPathExists=!/etc/initrd-release
DefaultDependencies=no
Conflicts=umount.target
Before=umount.target local-fs.target

[Automount]
Where=/efi
DirectoryMode=0700
TimeoutIdleSec=2min
`
)

// writeUnits writes the units of the ESP with a partition UUID. It also enables
// systemd's tmp.mount where the image has that unit without enabling it: a read-only
// root needs it.
func (i *Initrd) writeUnits(esp string) error {
	var want []string
	dir := filepath.Join(i.Run, "systemd/system")
	wants := filepath.Join(dir, "local-fs.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	if isUUID(esp) {
		device := "/dev/disk/by-partuuid/" + esp
		mount := strings.NewReplacer("@DEVICE@", device, "@FSCK@", unitName(device)).Replace(efiMount)
		err := errors.Join(
			os.WriteFile(filepath.Join(dir, "efi.mount"), []byte(mount), 0o644),
			os.WriteFile(filepath.Join(dir, "efi.automount"), []byte(efiAutomount), 0o644),
		)
		if err != nil {
			return err
		}
		want = append(want, "../efi.automount")
	}
	if i.hasTmpMount() {
		want = append(want, "/"+tmpMount)
	}
	for _, target := range want {
		err := os.Symlink(target, filepath.Join(wants, filepath.Base(target)))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// nodeSettings is the directory with settings of systemd for nodes alone, in the layout
// of /run/systemd: they don't apply to a machine that has the toolkit installed and is
// no node.
var nodeSettings = buildinfo.Lib("node/systemd")

// Limits for the files in nodeSettings.
const (
	maxNodeFile  = 64 << 10 // bytes
	maxNodeFiles = 64
)

// writeNodeSettings copies the image's nodeSettings to /run/systemd, from which the
// system's service manager reads them. A site's files in /etc/systemd take precedence.
func (i *Initrd) writeNodeSettings() error {
	root, err := os.OpenRoot(i.Sysroot)
	if err != nil {
		return err
	}
	defer root.Close()
	files := 0
	return fs.WalkDir(root.FS(), nodeSettings, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case path == nodeSettings && errors.Is(err, fs.ErrNotExist):
			return fs.SkipAll // an image whose toolkit has none
		case err != nil:
			return err
		case !entry.Type().IsRegular():
			return nil
		}
		if files++; files > maxNodeFiles {
			return fmt.Errorf("%s has more than %d files", nodeSettings, maxNodeFiles)
		}
		content, err := bounded.In(root, path, maxNodeFile)
		if err != nil {
			return err
		}
		to := filepath.Join(i.Run, "systemd", strings.TrimPrefix(path, nodeSettings))
		return errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, content, 0o644))
	})
}

// keepUnit is a unit for a mount that systemd must not unmount before the end of a
// shutdown, since the system needs it like its root. A drop-in has no effect where
// another unit loaded the mount unit before the mount existed. The condition keeps the
// initrd from mounting it.
const keepUnit = `[Unit]
Description=@PATH@ (@KIND@)
Documentation=man:kairos-root(8)
ConditionPathExists=!/etc/initrd-release
DefaultDependencies=no

[Mount]
What=@WHAT@
Where=@PATH@
`

// keepMounted writes a keepUnit for each mount.
func (i *Initrd) keepMounted(mounts ...Mount) error {
	dir := filepath.Join(i.Run, "systemd/system")
	for _, m := range mounts {
		what := m.Source
		switch m.Kind {
		case string(plan.Ephemeral), string(plan.Overlay):
			what = "kairos"
		case string(plan.Bind):
			what = filepath.Join(report.Dir, persistentDir, m.Source)
		}
		escape := strings.NewReplacer("%", "%%")
		unit := strings.NewReplacer("@PATH@", escape.Replace(m.Target), "@KIND@", m.Kind, "@WHAT@", escape.Replace(what)).Replace(keepUnit)
		if err := os.WriteFile(filepath.Join(dir, unitName(m.Target)+".mount"), []byte(unit), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// unitName escapes a path as in systemd.unit(5).
func unitName(path string) string {
	var name strings.Builder
	for n, c := range []byte(strings.Trim(path, "/")) {
		switch {
		case c == '/':
			name.WriteByte('-')
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ':', c == '_', c == '.' && n > 0:
			name.WriteByte(c)
		default:
			fmt.Fprintf(&name, `\x%02x`, c)
		}
	}
	return name.String()
}

const tmpMount = "usr/lib/systemd/system/tmp.mount"

// hasTmpMount reports whether the image can mount a tmpfs on /tmp by itself.
func (i *Initrd) hasTmpMount() bool {
	info, err := os.Lstat(filepath.Join(i.Sysroot, tmpMount))
	return err == nil && info.Mode().IsRegular()
}

// isUUID validates a UUID from a firmware variable, which becomes part of a file.
func isUUID(s string) bool {
	return len(s) == 36 && strings.Trim(s, "0123456789abcdef-") == ""
}
