package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/datasource"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
)

const (
	userDataDir    = "/oem"
	userDataName   = "95_userdata.yaml"
	metadataName   = "94_metadata.yaml" // before user data, which wins
	userDataScript = "/run/kairos/userdata"
)

// everyBoot is the value of when that leaves the door open.
const everyBoot = "boot"

// datasource asks who knows this machine for its user data. What comes is a
// config like any other, from the next stage on; a script is run now. The host
// name and the keys that came with it become a config of their own.
func (r *run) datasource(ctx context.Context) {
	d := r.step.Spec.Datasource
	if len(d.Providers) == 0 {
		return
	}
	if !r.Node {
		r.fail(errors.New("datasource: works in the running system only"))
		return
	}
	dir := cmp.Or(d.Path, userDataDir)
	if slices.Contains(d.Providers, "file") { // the path is then its file
		dir = userDataDir
	}
	name := cmp.Or(d.UserdataName, userDataName)
	options := datasource.Options{Root: r.Root, Path: d.Path, Log: r.Log, Base: r.MetadataServers, AnyPlatform: d.AnyPlatform}
	providers, shut := []string(d.Providers), func([]string, string) error { return nil }
	switch {
	case r.Root.Exists(liveMode): // a system to install from has nothing to lose yet
		options.AnyPlatform = true
	case d.When != everyBoot:
		before, err := readDoor(r.Root, path.Join(dir, name))
		if err != nil {
			r.fail(fmt.Errorf("datasource: %w", err))
			return
		}
		boot := r.thisBoot()
		if providers = before.open(providers, boot); len(providers) == 0 {
			r.Log.Info(fmt.Sprintf("%s: no datasource is asked: %v", r.step.Name, before))
			return
		}
		shut = func(asked []string, taken string) error { return before.close(r, boot, asked, taken) }
	}
	result, err := datasource.Fetch(ctx, providers, options)
	if err != nil {
		if !datasource.Again(err) && ctx.Err() == nil {
			err = errors.Join(err, shut(providers, ""))
		}
		r.fail(fmt.Errorf("datasource: %w", err))
		return
	}
	taken := ""
	if result.UserData.Kind != datasource.None {
		taken = result.Provider
	}
	if err := shut(providers, taken); err != nil {
		r.fail(fmt.Errorf("datasource: the user data of %s is rejected: %w", result.Provider, err))
		return
	}
	r.Log.Info(fmt.Sprintf("%s: user data of %s: %s", r.step.Name, result.Provider, result.UserData.Kind))
	if text := metadata(result); text != "" {
		r.keep(path.Join(dir, metadataName), []byte(text), 0o600)
	}
	if result.UserData.Kind == datasource.Config {
		r.keep(path.Join(dir, name), result.UserData.Text, 0o600)
	}
	for i, script := range result.UserData.Scripts {
		file := userDataScript
		if i > 0 {
			file += fmt.Sprintf("-%d", i+1)
		}
		if r.keep(file, script, 0o700) {
			if err := r.shell(ctx, file); err != nil {
				r.fail(fmt.Errorf("datasource: the script of %s: %w", result.Provider, err))
			}
		}
	}
}

// keep writes what came, for root's eyes, and reports whether it is there.
func (r *run) keep(file string, content []byte, mode int) bool {
	wrote, err := r.write(file, content, rootfs.Attr{Mode: mode, UID: rootfs.Keep, GID: rootfs.Keep})
	r.fail(err)
	if wrote {
		r.changed(file)
	}
	return err == nil
}

// metadata is a config of what a datasource knows besides user data.
func metadata(result datasource.Result) string {
	if result.Hostname == "" && len(result.SSHKeys) == 0 {
		return ""
	}
	text := "#cloud-config\n# What the datasource " + result.Provider + " says of this machine.\n"
	if result.Hostname != "" {
		text += "hostname: " + quoteYAML(result.Hostname) + "\n"
	}
	if len(result.SSHKeys) > 0 {
		text += "ssh_authorized_keys:\n"
		for _, key := range result.SSHKeys {
			text += "- " + quoteYAML(key) + "\n"
		}
	}
	return text
}

// quoteYAML quotes one line for YAML.
func quoteYAML(line string) string {
	line, _, _ = strings.Cut(line, "\n")
	return "'" + strings.ReplaceAll(line, "'", "''") + "'"
}
