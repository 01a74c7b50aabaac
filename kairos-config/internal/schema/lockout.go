package schema

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/spell"
)

// What locks people out of a node and can be known before: for those who check a
// config. A boot applies such values all the same, since it may be wrong of us.

// checkPeople checks the texts beneath a key for mistakes that lock people out.
func checkPeople(n *tree.Node, key string, problems *diag.List) {
	if n == nil || n.Spoiled {
		return
	}
	switch {
	case key == "ssh_authorized_keys" && n.Kind == tree.List:
		for _, item := range n.Items {
			checkKey(item, problems)
		}
		return
	case key == "authorized_keys" && n.Kind == tree.Map:
		for _, f := range n.Fields {
			checkPeople(f.Value, "ssh_authorized_keys", problems)
		}
		return
	case key == "files" || key == "write_files":
		for _, item := range n.Items {
			checkSecretFile(item, problems)
		}
	}
	for _, item := range n.Items {
		checkPeople(item, "", problems)
	}
	for _, f := range n.Fields {
		checkPeople(f.Value, f.Key, problems)
	}
	if n.Scalar() {
		checkCredentials(n, problems)
	}
}

var (
	keyKinds   = regexp.MustCompile(`(?:^|[ \t])((?:ssh|ecdsa|sk)-[a-z0-9@.-]+)[ \t]+(\S+)`)
	keySource  = regexp.MustCompile(`^([a-z]+):(?://)?\S+$`)
	sources    = []string{"github", "gitlab", "https", "http"}
	credNames  = regexp.MustCompile(`\$\{credential:([^}]*)\}?`)
	credForm   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,200}$`)
	partitions = regexp.MustCompile(`^/dev/(?:(?:sd|vd|hd|xvd)[a-z]+[0-9]+|(?:nvme[0-9]+n[0-9]+|mmcblk[0-9]+|md[0-9]+|nbd[0-9]+|loop[0-9]+)p[0-9]+|disk/by-(?:id|path)/.*-part[0-9]+|disk/by-(?:partuuid|partlabel)/.+)$`)
)

// checkKey adds a problem for a text that is neither an ssh key nor a reference to
// keys.
func checkKey(n *tree.Node, problems *diag.List) {
	text := strings.TrimSpace(n.Text)
	if !n.Scalar() || text == "" || text[0] == '#' || credential(text) {
		return
	}
	if m := keySource.FindStringSubmatch(text); m != nil {
		for _, known := range sources {
			if m[1] == known {
				if _, name, _ := strings.Cut(text, ":"); strings.ContainsAny(name, "<>[]{}$") {
					problems.Warnf(n.Pos, "%s is a placeholder: no key is fetched, and nobody can log in with it", text)
				}
				return
			}
		}
		p := diag.Mistakef(n.Pos, "no keys can be fetched from %s:", m[1])
		if meant := spell.Closest(m[1], sources); meant != "" {
			p = p.WithHint("did you mean %s:?", meant)
		} else {
			p = p.WithHint("there are github:NAME, gitlab:NAME and https URLs")
		}
		problems.Add(p)
		return
	}
	m := keyKinds.FindStringSubmatch(text)
	if m != nil {
		if _, err := base64.StdEncoding.DecodeString(m[2]); err == nil {
			return
		}
	}
	hint := "a key has a kind and then the key in base64: ssh-ed25519 AAAA…"
	if strings.Contains(text, "PRIVATE KEY") {
		hint = "it is a private key: the public one is in the file with the suffix .pub"
	}
	problems.Add(diag.Mistakef(n.Pos, "this is not an SSH key: nobody can log in with it").WithHint("%s", hint))
}

// checkCredentials adds a problem for an invalid name of a credential.
func checkCredentials(n *tree.Node, problems *diag.List) {
	for _, m := range credNames.FindAllStringSubmatch(n.Text, -1) {
		if !credForm.MatchString(m[1]) || !strings.HasSuffix(m[0], "}") {
			problems.Add(diag.Mistakef(n.Pos, "%q is not the name of a credential", m[1]))
		}
	}
}

// checkSecretFile adds a problem for a world-readable file with a credential, which is
// not written.
func checkSecretFile(n *tree.Node, problems *diag.List) {
	content, mode := n.Field("content"), n.Field("permissions")
	if content == nil || mode == nil || !content.Scalar() || !credential(content.Text) {
		return
	}
	if bits, ok := octal(mode.Text); ok && bits&0o007 != 0 {
		problems.Add(diag.Mistakef(mode.Pos, "this file contains a credential, and its permissions let everybody read it: it is not written").
			WithHint("write 0600 or 0640"))
	}
}

// checkInstall checks an installation as a whole.
func checkInstall(config *tree.Node, top *Top, problems *diag.List) {
	install := config.Field("install")
	if install == nil {
		return
	}
	if device := install.Field("device"); device != nil && partitions.MatchString(device.Text) {
		problems.Errorf(device.Pos, "%s is a partition: a system is installed on a disk", device.Text)
	}
	if top.Install.NoFormat {
		problems.Add(diag.Errorf(valueOf(install, "no-format").Pos, "no-format: installing on existing partitions is not supported").
			WithHint("the disk is erased: leave the key out"))
	}
	labels := map[string]bool{"COS_GRUB": true, "COS_OEM": true, "COS_RECOVERY": true, "COS_STATE": true, "COS_PERSISTENT": true}
	for i, p := range top.Install.Extra {
		own := map[string]bool{p.Name: true, p.Label: true}
		for label := range own {
			if label != "" && labels[label] {
				at := valueOf(install, "extra-partitions")
				if i < len(at.Items) {
					at = at.Items[i]
				}
				problems.Errorf(at.Pos, "another partition has the label %s", label)
			}
		}
		for label := range own {
			labels[label] = true
		}
	}
	checkMounts(install, "bind_mounts", top.Install.Bind, problems)
	checkMounts(install, "ephemeral_mounts", top.Install.Ephemeral, problems)
	if !top.Install.Auto || top.Install.NoUsers || len(top.Users)+len(top.SSHAuthorizedKeys)+len(top.Stages) > 0 || config.Field("config_url") != nil {
		return
	}
	problems.Add(diag.Warnf(install.Pos, "nobody could log in to the node: no users, no ssh_authorized_keys").
		WithHint("kairos-install(8) refuses that, unless another config has them, or install.nousers is true"))
}

// never are stages that nothing runs.
var never = map[string]string{
	"kairos-uki-install": "there is one way to install: write kairos-install",
	"kairos-uki-upgrade": "there is one way to upgrade: write before-upgrade or after-upgrade",
	"kairos-uki-reset":   "there is one way to reset: write before-reset or after-reset",
}

// checkMounts adds problems for paths that kairos-root(8) skips, or makes writable in
// some images only.
func checkMounts(install *tree.Node, key string, paths []string, problems *diag.List) {
	for _, p := range paths {
		first, beneath, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
		switch {
		case slices.Contains([]string{"dev", "proc", "sys", "run", "sysroot", "boot", "efi", "oem"}, first):
			problems.Warnf(valueOf(install, key).Pos, "%s is not made writable: it belongs to the system", p)
		case strings.Trim(beneath, "/") == "" && !slices.Contains([]string{"etc", "home", "media", "mnt", "opt", "root", "srv", "tmp", "var"}, first):
			problems.Add(diag.Warnf(valueOf(install, key).Pos, "%s can be made writable only where the image has this directory: the root is read-only", p).
				WithHint("otherwise use one beneath /mnt, /var or /srv"))
		}
	}
}

// inNew are stages that run in the system that was just written.
var inNew = []string{"after-install-chroot", "after-upgrade-chroot", "after-reset-chroot"}

// inImage is what becomes of what they write.
const inImage = "it runs in the new system, with a root that is thrown away, since an image is what its digest says: " +
	"what it writes beneath /oem stays, and beneath /usr/local after an upgrade; put programs into the image, and write files and settings in initramfs or boot"

// checkStages adds problems for stages that nothing runs, and for names in after: that
// no step of the stage has.
func checkStages(stages Stages, problems *diag.List) {
	for _, stage := range stages {
		for name, why := range never {
			if stage.Name == name || strings.HasPrefix(stage.Name, name+".") {
				problems.Warnf(stage.Pos, "the stage %s is accepted, without effect here, because %s", stage.Name, why)
			}
		}
		for _, name := range inNew {
			if stage.Name == name || strings.HasPrefix(stage.Name, name+".") {
				problems.Warnf(stage.Pos, "the stage %s works otherwise than in Kairos: %s", stage.Name, inImage)
			}
		}
		names := map[string]bool{}
		for _, step := range stage.Steps {
			if name := step.Field("name"); name != nil {
				names[name.Text] = true
			}
		}
		for _, node := range stage.Steps {
			step, _ := DecodeStep(node)
			for _, after := range step.After {
				if !names[after.Name] && !strings.Contains(after.Name, ".") {
					problems.Warnf(valueOf(node, "after").Pos, "after: no step of %s in this file has the name %q", stage.Name, after.Name)
				}
			}
		}
	}
}

// check returns an error for content that does not match its encoding.
func (f *File) check(n *tree.Node, problems *diag.List) bool {
	if !strings.HasSuffix(f.Encoding, "b64") && !strings.HasSuffix(f.Encoding, "base64") || credential(f.Content) || strings.Contains(f.Content, "{{") {
		return true
	}
	if _, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(f.Content), "")); err != nil {
		problems.Errorf(valueOf(n, "content").Pos, "content of %s is not base64: %v", f.Path, err)
		return false
	}
	return true
}

// check refuses settings with which a node would start without its key.
func (k *Kcrypt) check(n *tree.Node, problems *diag.List) bool {
	if c := n.Field("challenger"); c != nil && (k.Challenger.Server != "" || k.Challenger.MDNS) {
		problems.Add(diag.Errorf(c.Pos, "kcrypt.challenger: Kairos' key servers are not supported").
			WithHint("write kcrypt: {enroll: [tpm2], escrow: {url: https://…}}: kairos-install(8)"))
	}
	return true
}
