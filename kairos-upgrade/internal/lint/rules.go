package lint

import (
	"path"
	"strconv"
	"strings"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/boot"
	"github.com/kairos-io/toolkit/lib/buildinfo"
	"github.com/kairos-io/toolkit/lib/report"
)

// minSystemd is the first version of systemd whose counted boots are understood.
const minSystemd = 252

// systemd looks for systemd, and its version by the name of its library.
func (r *collector) systemd() {
	if r.file("usr/lib/systemd/systemd") == nil && r.file("lib/systemd/systemd") == nil {
		r.add(Error, "no_systemd", "/usr/lib/systemd/systemd", "install systemd into the image", "the image has no systemd")
		return
	}
	for _, dir := range []string{"usr/lib/systemd", "usr/lib/x86_64-linux-gnu/systemd", "usr/lib/aarch64-linux-gnu/systemd", "usr/lib64/systemd"} {
		d := boot.Resolve(r.image.Root, dir)
		if d == nil {
			continue
		}
		for name := range d.Children() {
			text, ok := strings.CutPrefix(name, "libsystemd-shared-")
			digits := text[:len(text)-len(strings.TrimLeft(text, "0123456789"))]
			version, err := strconv.Atoi(digits)
			if ok && err == nil && version < minSystemd {
				r.add(Error, "old_systemd", "/"+path.Join(dir, name), "build the image from a newer release of the distribution",
					"systemd %d is too old: %d or later is needed", version, minSystemd)
			}
		}
	}
}

// programs that a node executes: which are needed, and what for.
var programs = []struct {
	name          string
	level         report.Severity
	without, hint string
}{
	{"kairos-upgrade", Warning, "the node cannot be upgraded", "install the toolkit: make install, or the package kairos-node"},
	{"kairos-boot-assess", Warning, "no boot is assessed", "install the toolkit: make install, or the package kairos-node"},
	{"kairos-config", Warning, "no cloud-config is applied", "install the toolkit: make install, or the package kairos-node"},
	{"e2fsck", Warning, "damaged file systems are not repaired", "install e2fsprogs"},
	{"fsck.fat", Warning, "the ESP is not checked after a power cut", "install dosfstools"},
}

func (r *collector) programs() {
	for _, p := range programs {
		found := false
		for _, dir := range []string{"usr/bin", "usr/sbin", "bin", "sbin"} {
			found = found || r.file(path.Join(dir, p.name)) != nil
		}
		if !found {
			r.add(p.level, "no_program", "/usr/bin/"+p.name, p.hint, "%s is missing: %s", p.name, p.without)
		}
	}
}

// checks looks for health checks that nobody can execute.
func (r *collector) checks() {
	for _, dir := range []string{buildinfo.Lib("checks/required.d"), buildinfo.Lib("checks/wanted.d"),
		"etc/kairos/checks/required.d", "etc/kairos/checks/wanted.d",
		"usr/lib/greenboot/check/required.d", "usr/lib/greenboot/check/wanted.d",
		"etc/greenboot/check/required.d", "etc/greenboot/check/wanted.d"} {
		d := boot.Resolve(r.image.Root, dir)
		if d == nil || !d.IsDir() {
			continue
		}
		for name := range d.Children() {
			if f := r.file(path.Join(dir, name)); f != nil && f.Mode&0o111 == 0 {
				r.add(Warning, "check_not_executable", "/"+path.Join(dir, name), "chmod +x it, or remove it", "the health check cannot be executed and is not run")
			}
		}
	}
}

// presets looks for the units without which a node is not assessed.
func (r *collector) presets() {
	if r.file("usr/lib/systemd/system/kairos-boot-assess.service") == nil {
		return
	}
	wants := boot.Resolve(r.image.Root, "etc/systemd/system/multi-user.target.wants")
	if wants == nil || wants.Lookup("kairos-boot-assess.service") == nil {
		r.add(Warning, "presets_not_applied", "/etc/systemd/system", "run systemctl preset-all in the image build",
			"kairos-boot-assess.service is not enabled: no boot is found good")
	}
}

// hidden looks for files where the running system mounts something else.
func (r *collector) hidden() {
	for _, dir := range []string{"run", "tmp", "efi", "oem", "sysroot", "var/tmp"} {
		d := r.image.Root.Find(dir)
		if d == nil || !d.IsDir() || d.Len() == 0 {
			continue
		}
		r.add(Warning, "hidden", "/"+dir, "put them elsewhere, or have systemd-tmpfiles create them",
			"%d files or directories here are hidden on a node", d.Len())
	}
}

// secrets are files that one node has for itself: in an image all nodes share them.
var secrets = []string{
	"etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_ecdsa_key", "etc/ssh/ssh_host_ed25519_key",
	"root/.ssh/id_rsa", "root/.ssh/id_ed25519", "root/.ssh/id_ecdsa", "root/.netrc", "root/.docker/config.json",
	"root/.config/containers/auth.json", "etc/containers/auth.json", "var/lib/systemd/random-seed",
}

// identity looks for what all nodes of this image would share.
func (r *collector) identity() {
	if text, ok := r.text("etc/machine-id"); ok {
		if id := strings.TrimSpace(text); id != "" && id != "uninitialized" {
			r.add(Warning, "machine_id", "/etc/machine-id", "truncate it at the end of the image build", "the image has a machine id, which a node ignores")
		}
	}
	for _, name := range secrets {
		if r.file(name) != nil {
			r.add(Warning, "secret", "/"+name, "remove it at the end of the image build", "the image contains a secret, which all nodes share and everybody who can pull the image can read")
		}
	}
}
