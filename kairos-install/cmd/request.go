package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-install/internal/plan"
	"github.com/kairos-io/toolkit/kairos-install/internal/settings"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/progress"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/urfave/cli/v2"
)

// request holds the merged settings: the options override the node's config, which
// overrides the defaults.
type request struct {
	settings.Settings
	Started time.Time
	Image   string
	Live    bool     // the running system is a live system
	Configs []string // files of --config, with absolute paths
	Yes     bool
	DryRun  bool
	Dirs    []string // directories of --definitions
	// Encryption is nil where nothing is encrypted.
	Encryption *plan.Encryption
}

// readRequest merges the options and the config.
func readRequest(c *cli.Context, m Machine, report *progress.Reporter) (request, error) {
	// Times of files are not as fine as the clock.
	r := request{Started: time.Now().Add(-time.Second), Configs: c.StringSlice("config"), Yes: c.Bool("yes"), DryRun: c.Bool("dry-run"), Dirs: c.StringSlice("definitions")}
	if c.Bool("reboot") && c.Bool("poweroff") {
		return r, exit.Usagef("--reboot and --poweroff: only one of them can be done")
	}
	var err error
	for i, file := range r.Configs {
		if r.Configs[i], err = filepath.Abs(file); err != nil {
			return r, err
		}
	}
	if r.Settings, err = settings.Load(c.Context, run.Runner{Line: report.Line}, r.Configs); err != nil {
		return r, err
	}
	if len(r.Ignored) > 0 {
		report.Warn("the config has keys that are not used here: %s", strings.Join(r.Ignored, ", "))
	}
	if c.Bool("reboot") || c.Bool("poweroff") {
		r.Reboot, r.Poweroff = c.Bool("reboot"), c.Bool("poweroff")
	}
	if c.IsSet("device") {
		r.Device = c.String("device")
		if r.Device == "" {
			return r, exit.Usagef("--device: no device given")
		}
	}
	if r.Device == "" {
		r.Device = "auto"
	}
	if command, ok := strings.CutPrefix(r.Device, "script://"); ok {
		if r.Device, err = scriptDevice(c.Context, command); err != nil {
			return r, fmt.Errorf("install.device: %w", err)
		}
	}
	for _, k := range c.StringSlice("karg") {
		if strings.TrimSpace(k) == "" || strings.ContainsAny(k, "\n\r\x00") {
			return r, exit.Usagef("--karg %q: not a kernel argument", k)
		}
		r.Kargs = append(r.Kargs, k)
	}
	if r.Encryption, err = encryption(c, m, r.Encrypt, r.Configs, report); err != nil {
		return r, err
	}
	if err := r.chooseImage(c, m); err != nil {
		return r, err
	}
	r.policy(m, report)
	return r, nil
}

// scriptDevice runs a program of the live system, which prints the name of the disk on
// stdout.
func scriptDevice(ctx context.Context, command string) (string, error) {
	argv := strings.Fields(command)
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
		return "", fmt.Errorf("script://%s: not the absolute path of a program", command)
	}
	out, err := run.Runner{}.Output(ctx, argv...)
	if err != nil {
		return "", err
	}
	device := strings.TrimSpace(string(out))
	if !filepath.IsAbs(device) || strings.ContainsAny(device, "\n\x00") {
		return "", fmt.Errorf("%s printed no device: %q", argv[0], device)
	}
	return device, nil
}

// chooseImage chooses the image: the named one or, in a live system, its own, which
// needs no network.
func (r *request) chooseImage(c *cli.Context, m Machine) error {
	booted, err := deployment.ReadBooted(m.Booted)
	if err != nil && !errors.Is(err, deployment.ErrNotBooted) {
		return fmt.Errorf("read the booted deployment: %w", err)
	}
	r.Live = err == nil && booted.Mode == deployment.Live
	switch {
	case c.String("image") != "":
		r.Image = c.String("image")
	case r.Source != "":
		r.Image = r.Source
	case r.Live:
		r.Image = "store:" + m.Store
		if booted.ID != "" {
			r.Image += ":" + booted.ID
		}
	default:
		return exit.Hint(exit.Usagef("no image given, and this is not a live system"),
			"add --image SOURCE, for example --image quay.io/acme/os:1")
	}
	return nil
}

// needed are the programs that an installation executes, with the Debian packages that
// contain them.
var needed = []programOf{
	{"kairos-upgrade", "of this toolkit"},
	{"systemd-repart", "package systemd-repart"},
	{"bootctl", "package systemd-boot-tools"},
	{"wipefs", "package util-linux"},
	{"mount", "package mount"},
	{"umount", "package mount"},
	{"mkfs.vfat", "package dosfstools"},
	{"mkfs.ext4", "package e2fsprogs"},
	{"tune2fs", "package e2fsprogs"},
}

// neededToEncrypt are further programs for encryption.
var neededToEncrypt = []programOf{
	{"kairos-crypt", "of this toolkit"},
	{"cryptsetup", "package cryptsetup-bin"},
}

// programOf is a program and the package that contains it.
type programOf struct{ program, pkg string }

// checkTools returns an error about all missing programs at once.
func checkTools(m Machine, encrypted bool) error {
	var missing []string
	all := needed
	if encrypted {
		all = append(slices.Clone(needed), neededToEncrypt...)
	}
	for _, n := range all {
		if !run.Has(n.program) {
			missing = append(missing, fmt.Sprintf("%s (%s)", n.program, n.pkg))
		}
	}
	if found, _ := filepath.Glob(m.Loaders); len(found) == 0 {
		missing = append(missing, fmt.Sprintf("%s (package systemd-boot-efi)", m.Loaders))
	}
	if len(missing) > 0 {
		return exit.Hint(fmt.Errorf("this system cannot install: missing %s", strings.Join(missing, ", ")),
			"add the packages to the image of the live system")
	}
	return nil
}

// inspect gets the size of an image from kairos-upgrade.
func inspect(ctx context.Context, runner run.Runner, source string) (image imageInfo, err error) {
	out, err := runner.Output(ctx, "kairos-upgrade", "inspect", "--json", source)
	if err != nil {
		return image, fmt.Errorf("look at the image: %w", err)
	}
	return parseInspection(source, out)
}

// checkBoots checks that the image can boot, before anything is erased: a kernel, an
// initrd with kairos-root, systemd. It passes warnings on.
func checkBoots(ctx context.Context, runner run.Runner, log *progress.Reporter, source string) error {
	out, failed := runner.Output(ctx, "kairos-upgrade", "lint", "--json", "--quiet", source)
	answer, err := report.Parse[report.Lint]("kairos-upgrade lint", out)
	if err != nil {
		return fmt.Errorf("check that %s boots: %w", source, cmp.Or(failed, err))
	}
	var wrong []error
	hint := ""
	for _, f := range answer.Findings {
		if f.Level != report.Error {
			log.Warn("the image: %v", f)
			continue
		}
		wrong = append(wrong, errors.New(f.String()))
		hint = cmp.Or(hint, f.Hint)
	}
	if answer.Boots {
		return nil
	}
	return exit.Hint(fmt.Errorf("%s does not boot: %w", source, errors.Join(wrong...)), "%s", hint)
}
