package stage

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	programs "github.com/kairos-io/toolkit/lib/run"
)

// What systemd owns is written in its own form to where it looks for it, so
// that a person finds it there. On a node that is /run, which a boot begins
// empty: what a config doesn't ask for any more is gone. /etc/systemd is
// persistent and would keep it. Elsewhere, as when an image is built, it is
// /etc.

// runtimeDir is the directory that systemd's native files go beneath.
func (r *run) runtimeDir() string {
	if r.Node {
		return "/run"
	}
	return "/etc"
}

// nativeHeader opens a file that the steps of all configs share.
const nativeHeader = "# Written by kairos-config(8) from the node's cloud-config.\n"

// setting is a line of a native file.
type setting struct{ key, value string }

// settings sets lines in a file that steps share and reports whether that
// changed it. section is that of an INI file, "" for a file without.
func (r *run) settings(file, section, separator string, list []setting) (changed bool) {
	if len(list) == 0 {
		return false
	}
	for _, s := range list {
		if strings.ContainsAny(s.key+s.value, "\n\x00") {
			r.fail(fmt.Errorf("%s: the value of %s has a line break", file, s.key))
			return false
		}
	}
	return r.edit(file, func(old string) string {
		if old == "" {
			old = nativeHeader
			if section != "" {
				old += "[" + section + "]\n"
			}
		}
		lines := strings.Split(strings.TrimSuffix(old, "\n"), "\n")
		for _, s := range list {
			text := s.key + separator + s.value
			at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, s.key+separator) })
			if at < 0 {
				lines = append(lines, text)
			} else {
				lines[at] = text
			}
		}
		return strings.Join(lines, "\n") + "\n"
	})
}

// restart makes a service read its files again, if it runs.
func (r *run) restart(ctx context.Context, unit string) {
	if r.Booted {
		r.fail(systemctl(ctx, "try-reload-or-restart", "--no-block", "--", unit))
	}
}

// dns tells systemd-resolved the name servers, or writes resolv.conf(5) where
// the image has none, or where the step names a file.
func (r *run) dns(ctx context.Context) {
	d := r.step.Spec.DNS
	if len(d.Nameservers)+len(d.Search)+len(d.Options) == 0 {
		return
	}
	for _, word := range slices.Concat(d.Nameservers, d.Search, d.Options) {
		if strings.ContainsAny(word, " \t\n\x00") {
			r.fail(fmt.Errorf("dns: %q is more than one word", word))
			return
		}
	}
	if d.Path == "" && r.Root.Exists("/usr/lib/systemd/systemd-resolved") {
		list := []setting{{"DNS", strings.Join(d.Nameservers, " ")}, {"Domains", strings.Join(d.Search, " ")}}
		if len(d.Options) > 0 {
			r.Log.Warn(r.step.Name + ": dns: options need path: systemd-resolved does not support them")
		}
		list = slices.DeleteFunc(list, func(s setting) bool { return s.value == "" })
		if r.settings(r.runtimeDir()+"/systemd/resolved.conf.d/60-kairos-config.conf", "Resolve", "=", list) {
			r.restart(ctx, "systemd-resolved.service")
		}
		return
	}
	file := d.Path
	if file == "" {
		file = "/etc/resolv.conf"
	}
	text := nativeHeader
	for _, server := range d.Nameservers {
		text += "nameserver " + server + "\n"
	}
	if len(d.Search) > 0 {
		text += "search " + strings.Join(d.Search, " ") + "\n"
	}
	if len(d.Options) > 0 {
		text += "options " + strings.Join(d.Options, " ") + "\n"
	}
	wrote, err := r.write(file, []byte(text), rootfs.KeepAll)
	r.fail(err)
	if wrote {
		r.changed(file)
	}
}

// sysctl writes sysctl.d(5), for systemd-sysctl and for people, and sets the
// values of the running kernel.
func (r *run) sysctl(context.Context) {
	var list []setting
	for _, e := range r.step.Spec.Sysctl {
		file, err := sysctlFile(e.Key)
		if err != nil {
			r.fail(err)
			continue
		}
		list = append(list, setting{e.Key, e.Value})
		if r.Node {
			r.fail(r.setKernel(file, e.Key, e.Value))
		}
	}
	if len(list) > 0 {
		r.settings(r.runtimeDir()+"/sysctl.d/99-kairos-config.conf", "", " = ", list)
	}
}

// setKernel writes a value of /proc/sys unless the kernel has it already: it
// separates the words of a value in its own way.
func (r *run) setKernel(file, key, value string) error {
	old, err := r.Root.ReadFile(file, maxSmall)
	if err == nil && slices.Equal(strings.Fields(string(old)), strings.Fields(value)) {
		return nil
	}
	if !r.Root.Exists(file) {
		return fmt.Errorf("sysctl %s: the kernel has no such value (a module may bring it)", key)
	}
	if _, err := r.Root.WriteFile(file, []byte(value+"\n"), rootfs.KeepAll); err != nil {
		return fmt.Errorf("sysctl %s: %w", key, err)
	}
	r.changed("sysctl " + key)
	return nil
}

// sysctlFile returns the file of a key: of dots and slashes the one that
// stands first separates, as in sysctl.d(5).
func sysctlFile(key string) (string, error) {
	name := key
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		name = strings.NewReplacer(".", "/", "/", ".").Replace(key)
	}
	if name == "" || strings.ContainsAny(name, " \t\n=\x00") || path.Clean("/"+name) != "/"+name {
		return "", fmt.Errorf("sysctl: %q is not the name of a value", key)
	}
	return "/proc/sys/" + name, nil
}

// modules writes modules-load.d(5), and loads what the running kernel lacks. In
// the initrd the kernel's modules are not all there: systemd-modules-load does
// it in the system.
func (r *run) modules(ctx context.Context) {
	for _, module := range r.step.Spec.Modules {
		words := strings.Fields(module)
		if len(words) == 0 || !validModule(words[0]) {
			r.fail(fmt.Errorf("modules: %q is not the name of a module", module))
			continue
		}
		name, parameters := words[0], words[1:]
		if len(parameters) > 0 {
			r.settings(r.runtimeDir()+"/modprobe.d/kairos-config.conf", "", " ", []setting{{"options " + name, strings.Join(parameters, " ")}})
		}
		r.edit(r.runtimeDir()+"/modules-load.d/kairos-config.conf", func(old string) string { return withLine(old, name) })
		if !r.Booted || r.Root.Exists("/sys/module/"+strings.ReplaceAll(name, "-", "_")) {
			continue
		}
		if err := execute(ctx, "modprobe", append([]string{"--", name}, parameters...)...); err != nil {
			r.fail(fmt.Errorf("module %s: %w", name, err))
			continue
		}
		r.changed("module " + name)
	}
}

func validModule(name string) bool {
	return name != "" && name[0] != '-' && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}

// withLine adds a line to a file that doesn't have it.
func withLine(file, line string) string {
	if file == "" {
		file = nativeHeader
	}
	if slices.Contains(strings.Split(file, "\n"), line) {
		return file
	}
	return file + line + "\n"
}

// timesyncd writes a drop-in of timesyncd.conf(5).
func (r *run) timesyncd(ctx context.Context) {
	var list []setting
	for _, e := range r.step.Spec.Timesyncd {
		list = append(list, setting{e.Key, e.Value})
	}
	if len(list) > 0 && r.settings(r.runtimeDir()+"/systemd/timesyncd.conf.d/60-kairos-config.conf", "Time", "=", list) {
		r.restart(ctx, "systemd-timesyncd.service")
	}
}

// overrides writes drop-ins of units.
func (r *run) overrides(ctx context.Context) {
	list := r.step.Spec.Systemctl.Overrides
	wroteAny := false
	for _, o := range list {
		file, err := overrideFile(r.runtimeDir(), o)
		if err != nil {
			r.fail(err)
			continue
		}
		content := strings.TrimRight(o.Content, "\n")
		if content != "" {
			content += "\n"
		}
		wrote, err := r.write(file, []byte(content), rootfs.KeepAll)
		r.fail(err)
		if wrote {
			r.changed(file)
			wroteAny = true
		}
	}
	if wroteAny && r.Booted {
		r.fail(systemctl(ctx, "daemon-reload"))
	}
}

func overrideFile(dir string, o schema.Override) (string, error) {
	unit, name := o.Service, o.Name
	if unit != "" && path.Ext(unit) == "" {
		unit += ".service"
	}
	if name == "" {
		name = "override-kairos"
	}
	if !strings.HasSuffix(name, ".conf") {
		name += ".conf"
	}
	for _, part := range []string{unit, name} {
		if part == "" || part[0] == '.' || strings.ContainsAny(part, "/\n\x00") {
			return "", fmt.Errorf("systemctl overrides: %q can't be the name of a unit or drop-in", part)
		}
	}
	return path.Join(dir, "systemd/system", unit+".d", name), nil
}

// execute runs a program of the running system and puts what it says on
// stderr into the error.
func execute(ctx context.Context, name string, args ...string) error {
	if !programs.Has(name) {
		return fmt.Errorf("this system has no %s", name)
	}
	_, err := programs.Runner{}.Output(ctx, append([]string{name}, args...)...)
	return err
}
