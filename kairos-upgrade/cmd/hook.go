package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/chroot"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/mountns"
	"github.com/kairos-io/toolkit/lib/nodeconfig"
	"github.com/kairos-io/toolkit/lib/run"
	"github.com/kairos-io/toolkit/lib/terminal"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// hookDir is where the root of a stage is mounted, for its own process.
const hookDir = "/run/kairos/hook"

// runHookCommand runs a stage of the node's config, such as after-upgrade-chroot, in the
// root of the newest deployment. For stage, kairos-install and kairos-reset.
func runHookCommand(m machine) *cli.Command {
	return &cli.Command{
		Name: "run-hook", Hidden: true, Usage: "run a stage of the config in the root of the newest deployment", ArgsUsage: "STAGE",
		Flags: append(storeFlags(),
			&cli.StringFlag{Name: "oem", Value: "/oem", Usage: "show `DIRECTORY` as /oem"},
			&cli.StringFlag{Name: "local", Value: "/usr/local", Usage: "show `DIRECTORY` as /usr/local, \"\" for none"}),
		Action: func(c *cli.Context) error { return runHook(c, m) },
	}
}

func runHook(c *cli.Context, m machine) error {
	args, err := cmdline.Arguments(c, "STAGE")
	if err != nil {
		return err
	}
	w, err := m.where(c)
	if err != nil {
		return err
	}
	if err := mountns.Enter(hookDir); err != nil {
		return exit.Hint(fmt.Errorf("the stage %s is not run: %w", args[0], err), "it takes root, and a kernel with mount namespaces")
	}
	o := chroot.Options{Work: hookDir, Binds: map[string]string{}}
	for target, from := range map[string]string{"/oem": c.String("oem"), "/usr/local": c.String("local")} {
		if st, err := os.Stat(from); from != "" && err == nil && st.IsDir() {
			o.Binds[target] = from
		}
	}
	if o.Store, err = m.storeDir(w); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if o.Record, err = newest(o.Store); err != nil {
		return err
	}
	root, err := chroot.Mount(c.Context, o)
	if err != nil {
		return fmt.Errorf("the stage %s is not run: %w", args[0], err)
	}
	r := run.Runner{Line: func(_, line string) { terminal.Fprintf(c.App.ErrWriter, "%s\n", line) }}
	_, err = r.Output(c.Context, nodeconfig.Program, "run-stage", "--root="+root, "--overlay="+hookDir, args[0])
	return err
}

// storeDir returns the directory of the store that the options name: the other one of
// this node is mounted beneath hookDir.
func (m machine) storeDir(w where) (string, error) {
	if w.given {
		return w.store, nil
	}
	booted, err := deployment.ReadBooted(m.booted)
	if err != nil {
		return "", err
	}
	if booted.Store == w.label {
		return m.store, nil
	}
	p, err := m.disks.FindOn(booted.Disk, w.label)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(hookDir, "other")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	const flags = unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NOATIME
	for _, kind := range []string{"ext4", "btrfs"} {
		if err = unix.Mount(p.Path, dir, kind, flags, ""); err == nil || !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("mount %s: %w", p.Path, err)
	}
	return dir, nil
}

// newest returns the record of the deployment that was staged last.
func newest(store string) (deployment.Record, error) {
	root, err := os.OpenRoot(store)
	if err != nil {
		return deployment.Record{}, err
	}
	defer root.Close()
	records := deployment.ReadAll(root)
	if n := len(records.Readable); n > 0 && records.Unreadable == nil {
		return records.Readable[n-1], nil
	}
	if records.Unreadable != nil {
		return deployment.Record{}, records.Unreadable
	}
	return deployment.Record{}, exit.WithCode(fmt.Errorf("the store %s has no deployment", store), exit.Nothing)
}

// chroot runs a stage in the system that was just staged, if the node's configs have
// steps for it. Like hook, it leaves the sandbox of the one that stages.
func (a asked) chroot(ctx context.Context, stage string, recovery bool, label string) error {
	if !a.has(stage) {
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	command := []string{program, "run-hook"}
	if recovery {
		command = append(command, "--recovery")
	} else if label != "" {
		command = append(command, "--store-label="+label)
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		command = append([]string{"systemd-run", "--quiet", "--wait", "--collect", "--unit=kairos-config-" + stage,
			"--description=Cloud-config Stage " + stage, "--property=SyslogIdentifier=kairos-config",
			"--property=ImportCredential=kairos.*", "--"}, command...)
	}
	if _, err := (run.Runner{}).Output(ctx, append(command, stage)...); err != nil {
		return fmt.Errorf("run the stage %s: %w", stage, err)
	}
	return nil
}
