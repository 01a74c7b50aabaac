package provider

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// own returns the steps for keys at the top and in install that apply at each boot of
// the installed node: writable paths, sshd's settings, bundles.
func own(root *rootfs.Root, stage string, merged *tree.Node, problems *diag.List) []source.Document {
	switch stage {
	case "rootfs":
		return one(mounts(root, merged, problems))
	case "initramfs":
		return one(hardening(root, merged))
	case "network":
		return bundles(root, merged, problems)
	}
	return nil
}

func one(pos diag.Pos, step *tree.Node, stage string) []source.Document {
	if step == nil {
		return nil
	}
	return []source.Document{document(pos, stage, false, step)}
}

// document returns a config with steps of a stage.
func document(pos diag.Pos, stage string, strict bool, steps ...*tree.Node) source.Document {
	b := builder{pos: pos}
	top, stages := b.object(), b.object()
	if strict {
		b.set(top, "strict", &tree.Node{Kind: tree.Bool, Text: "true", Pos: pos})
	}
	b.set(stages, stage, b.list(steps...))
	b.set(top, "stages", stages)
	return source.Document{Source: pos.Source, Root: top}
}

// layoutFile is the file from which kairos-root(8) reads additional writable paths.
const layoutFile = "/run/cos/custom-layout.env"

// mounts adds the paths of install.bind_mounts and install.ephemeral_mounts to
// kairos-root(8)'s writable paths.
func mounts(root *rootfs.Root, merged *tree.Node, problems *diag.List) (diag.Pos, *tree.Node, string) {
	install := merged.Field("install")
	settings := schema.DecodeMounts(install)
	text := ""
	for _, v := range []struct {
		name  string
		paths []string
	}{{"CUSTOM_BIND_MOUNTS", settings.Bind}, {"CUSTOM_EPHEMERAL_MOUNTS", settings.Ephemeral}} {
		for _, p := range v.paths {
			if !addable(root, p) {
				problems.Add(diag.Warnf(install.Pos, "%s can't be made writable: the image has no such directory, and the root is read-only", p).
					WithHint("put the directory into the image, or use one beneath /mnt, /var or /srv"))
			}
		}
		if len(v.paths) > 0 {
			text += v.name + "=\"" + strings.Join(v.paths, " ") + "\"\n"
		}
	}
	if text == "" {
		return diag.Pos{}, nil, ""
	}
	b := builder{pos: install.Pos}
	step := b.object("name", "Writable paths")
	file := b.file(layoutFile, text, "0644")
	b.set(file, "append", b.text("true"))
	b.set(step, "files", b.list(file))
	return b.pos, step, "rootfs"
}

// addable reports whether a path can be mounted by the rules of kairos-root(8): the
// image has it, or a directory above it is writable or an empty directory of the image.
func addable(root *rootfs.Root, name string) bool {
	for _, dir := range []string{"/etc", "/var", "/srv", "/home", "/opt", "/root", "/usr/local", "/tmp"} {
		if strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	dir := path.Clean(name)
	for dir != "/" && !root.Exists(dir) {
		dir = path.Dir(dir)
	}
	entries, err := root.ReadDir(dir)
	return dir == path.Clean(name) || err == nil && len(entries) == 0 && dir != "/" && !strings.HasPrefix(dir, "/usr/")
}

// hardeningFile is a drop-in of sshd_config(5).
const hardeningFile = "/etc/ssh/sshd_config.d/10-kairos-hardening.conf"

// hardeningText disables weak algorithms and options. It has no setting that an older
// sshd does not know, which would then not start, and locks nobody out.
const hardeningText = `# Written by kairos-config(8): install.ssh_hardening of the node's cloud-config.
Ciphers -*-cbc,arcfour*
MACs -*md5*,*sha1*,*-96*,umac-64*
KexAlgorithms -*-sha1,diffie-hellman-group1-*
HostKeyAlgorithms -ssh-dss*,ssh-rsa,ssh-rsa-cert*
PermitRootLogin prohibit-password
PermitEmptyPasswords no
MaxAuthTries 3
LoginGraceTime 30
X11Forwarding no
AllowAgentForwarding no
ClientAliveInterval 300
ClientAliveCountMax 2
`

// hardening writes sshd's settings, or removes them again, since the directory is
// persistent.
func hardening(root *rootfs.Root, merged *tree.Node) (diag.Pos, *tree.Node, string) {
	wanted := merged.Field("install").Field("ssh_hardening")
	b := builder{pos: diag.Pos{Source: "install.ssh_hardening"}}
	switch {
	case wanted.Truth():
		b.pos = wanted.Pos
		step := b.object("name", "SSH hardening")
		b.set(step, "files", b.list(b.file(hardeningFile, hardeningText, "0600")))
		return b.pos, step, "initramfs"
	case root.Exists(hardeningFile):
		step := b.object("name", "SSH hardening, removed")
		b.set(step, "commands", b.list(b.text("rm -f "+hardeningFile)))
		return b.pos, step, "initramfs"
	}
	return b.pos, nil, ""
}

// bundleDir is where images of run: are unpacked, until the next boot.
const bundleDir = "/run/kairos/bundles"

// bundles adds the software of bundles and install.bundles. With fail_on_bundles_errors
// a failure fails the stage.
func bundles(root *rootfs.Root, merged *tree.Node, problems *diag.List) []source.Document {
	settings, found := schema.DecodeBundles(merged)
	*problems = append(*problems, found...)
	var docs []source.Document
	for _, bundle := range settings.Bundles {
		for _, target := range bundle.Targets {
			steps := bundleSteps(root, bundle, target, problems)
			if steps != nil {
				docs = append(docs, document(bundle.Pos, "network", settings.Fail && !bundle.AllowFail, steps...))
			}
		}
	}
	return docs
}

// bundleSteps returns the steps for one target.
func bundleSteps(root *rootfs.Root, bundle schema.Bundle, target string, problems *diag.List) []*tree.Node {
	b := builder{pos: bundle.Pos}
	kind, image, _ := strings.Cut(target, ":")
	image = strings.TrimPrefix(image, "//")
	if bundle.LocalFile {
		image = "file:" + image
	}
	unpack := func(name, into string) *tree.Node {
		step, what := b.object("name", name), b.object("source", image, "target", into)
		if bundle.Platform != "" {
			b.set(what, "platform", b.text(bundle.Platform))
		}
		b.set(step, "unpack_images", b.list(what))
		return step
	}
	switch kind {
	case "container", "docker", "oci":
		into := bundle.Rootfs
		if into == "" {
			into = "/"
		}
		return []*tree.Node{unpack("Bundle "+target, into)}
	case "run":
		sum := sha256.Sum256([]byte(target))
		dir := bundleDir + "/" + hex.EncodeToString(sum[:8])
		start := b.object("name", "Run bundle "+target)
		b.set(start, "commands", b.list(b.text("cd "+dir+" && if [ -x run.sh ]; then ./run.sh; else sh ./run.sh; fi")))
		return []*tree.Node{unpack("Bundle "+target, dir), start}
	case "package":
		return packageSteps(root, b, bundle, image, problems)
	}
	return nil // the schema has told
}

// packageSteps installs a package with luet, Kairos' package manager.
func packageSteps(root *rootfs.Root, b builder, bundle schema.Bundle, name string, problems *diag.List) []*tree.Node {
	if !root.Exists("/usr/bin/luet") && !root.Exists("/usr/local/bin/luet") {
		problems.Add(diag.Errorf(b.pos, "bundle package:%s: this image has no luet, which installs such packages", name).
			WithHint("container:IMAGE and run:IMAGE need no package manager"))
		return nil
	}
	const config = bundleDir + "/luet.yaml"
	step, command := b.object("name", "Bundle package:"+name), "luet"
	if bundle.Repository != "" {
		text := "repositories:\n- {name: bundles, type: docker, enable: true, cached: true, urls: [" + quote(bundle.Repository) + "]}\n"
		b.set(step, "files", b.list(b.file(config, text, "0600")))
		command += " --config " + config
	}
	into, db := bundle.Rootfs, bundle.DB
	if into == "" {
		into = "/"
	}
	if db == "" {
		db = "/usr/local/.kairos/db"
	}
	for _, word := range []string{"install", "-y", "--system-dbpath", db, "--system-target", into, "--", name} {
		command += " '" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	b.set(step, "commands", b.list(b.text(command)))
	return []*tree.Node{step}
}
