package schema

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Verdict says what happens to a key of a config that was written for Kairos.
type Verdict string

const (
	Works   Verdict = "works"
	Differs Verdict = "differs"     // works in another way
	None    Verdict = "no_effect"   // accepted, without effect
	Change  Verdict = "must_change" // has to be changed
)

// Judged is a key with its verdict.
type Judged struct {
	Pos     diag.Pos
	Key     string // dotted, with the number of an item: stages.boot[0].files
	Verdict Verdict
	Text    string // explanation; "" for a key that works
}

// differs are keys with the same result in another way, by their names in the schema.
var differs = map[string]string{
	"Top.config_url":               "the last good copy is used where the network fails; what is fetched counts in the same boot, at the beginning of the stage network",
	"Top.bundles":                  "they are added in the stage network, after the signature policy of the node",
	"Top.grub_options":             "there is no GRUB: extra_cmdline is kernel arguments of the boot entries, other options have no effect",
	"Top.env":                      "it is for the commands of stages and hooks",
	"Top.growpart":                 "COS_PERSISTENT always grows by itself",
	"Top.p2p":                      "it takes a provider in the image: kairos-config(8)",
	"Top.kubevip":                  "it takes a provider in the image, or a manifest of its own",
	"Top.providers":                "providers are programs in the image: kairos-config(8)",
	"Top.k3s":                      "arguments become files in /etc/rancher/k3s/config.yaml.d; the image brings K3s and its unit",
	"Top.k3s-agent":                "arguments become files in /etc/rancher/k3s/config.yaml.d; the image brings K3s and its unit",
	"Install.device":               "auto takes the largest disk that is neither removable nor on USB; give a path of /dev/disk/by-id",
	"Install.encrypted_partitions": "keys are sealed to the TPM and to a policy, and there is always a recovery key, shown once: kairos-crypt(8)",
	"Install.grub_options":         "there is no GRUB: extra_cmdline is kernel arguments of the boot entries, other options have no effect",
	"Install.grub-entry-name":      "it is the title in the boot menu of systemd-boot",
	"Install.bundles":              "they are added at each boot of the node, in the stage network",
	"Install.bind_mounts":          "beneath /etc a file that the node never changed follows the new image; other directories are filled once",
	"Install.extra-partitions":     "they are made and formatted, and not mounted",
	"Install.ssh_hardening":        "it is a drop-in of sshd_config(5) that forbids nobody to log in",
	"InstallPartitions.state":      "it holds objects of images, shared between them, instead of image files: leave the size out",
	"InstallPartitions.recovery":   "it holds an image of its own: leave the size out",
	"Upgrade.entry":                "passive is what an upgrade leaves behind: active and recovery can be upgraded",
	"Reset.system":                 "a reset deploys the image of the recovery system, or this one",
	"Step.packages":                "the root of a node is read-only: only while an image is built",
	"Step.package_pins":            "the root of a node is read-only: only while an image is built",
	"Step.datasource":              "an installed node takes user data once, at its first boot: when: boot asks at each",
	"Step.layout":                  "partitions are made by systemd-repart; a table that is there is never replaced",
	"Step.unpack_images":           "the node's signature policy counts; what is there is known by its digest",
	"Step.timesyncd":               "it is a drop-in in /run: a boot begins without it",
	"Step.sysctl":                  "it is written to /run/sysctl.d as well",
}

// foreign maps Kairos' programs and files in commands to their replacements.
var foreign = []struct {
	word *regexp.Regexp
	is   string
}{
	{regexp.MustCompile(`\bkairos-agent\s+upgrade\b`), "kairos-agent upgrade: write kairos-upgrade stage IMAGE"},
	{regexp.MustCompile(`\bkairos-agent\s+(?:manual-|interactive-)?install\b`), "kairos-agent install: write kairos-install"},
	{regexp.MustCompile(`\bkairos-agent\s+reset\b`), "kairos-agent reset: write kairos-reset"},
	{regexp.MustCompile(`\bkairos-agent\s+run-stage\b`), "kairos-agent run-stage: write kairos-config run-stage"},
	{regexp.MustCompile(`\bkairos-agent\s+(?:config|state)\s+get\b`), "kairos-agent config get: write kairos-config get KEY"},
	{regexp.MustCompile(`\bkairos-agent\s+(?:sysext|confext)\b`), "kairos-agent sysext: put the extension into /var/lib/extensions: systemd-sysext(8)"},
	{regexp.MustCompile(`\bkairos-agent\s+bootentry\b`), "kairos-agent bootentry: write kairos-upgrade rollback, or bootctl set-oneshot"},
	{regexp.MustCompile(`\bkairos-agent\b`), "kairos-agent is not there: kairos(7) names the programs"},
	{regexp.MustCompile(`\b(?:elemental|cos-(?:upgrade|reset|installer|setup)|immucore)\b`), "this program is not there: kairos(7) names the programs"},
	{regexp.MustCompile(`\byip\b`), "yip is not there: write kairos-config run-stage"},
	{regexp.MustCompile(`\bgrub2?-(?:editenv|set-default|reboot|mkconfig|install)\b|\bgrub_oem_env\b|\bgrubenv\b`), "there is no GRUB: kernel arguments are install.grub_options.extra_cmdline, or kairos-upgrade stage --karg"},
	{regexp.MustCompile(`/cOS/(?:active|passive|recovery)\.img|/run/initramfs/cos-state`), "there are no image files: kairos-upgrade status tells of the deployments"},
	{regexp.MustCompile(`\bkcrypt(?:-challenger)?\s+[a-z]`), "kcrypt is not there: write kairos-crypt"},
	{regexp.MustCompile(`\bmount\b[^|;&]*\bremount,rw\b[^|;&]*\s/(?:\s|$)`), "the root can't be made writable: it is what its digest says"},
	{regexp.MustCompile(`\b(?:apt-get|apt|dnf|yum|zypper|apk)\s+(?:-\S+\s+)*(?:install|add|in)\b`), "the root is read-only: put packages into the image"},
	{regexp.MustCompile(`\b(?:rc-service|rc-update)\b`), "there is no OpenRC: write systemctl"},
}

// Migrate returns a verdict for every key of a config, in the order of the file.
// problems are all problems of the config.
func Migrate(n *tree.Node, problems diag.List) []Judged {
	m := &migration{}
	m.inside(n, topType, "")
	slices.SortStableFunc(m.keys, func(a, b Judged) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	for _, p := range problems {
		m.problem(p)
	}
	// What is wrong in a key takes the place of what is right with it.
	wrong := map[string]bool{}
	for _, k := range m.keys {
		wrong[k.Key] = wrong[k.Key] || k.Verdict == Change
	}
	return slices.DeleteFunc(m.keys, func(k Judged) bool {
		for key := k.Key; k.Verdict == Works && key != ""; key = key[:max(strings.LastIndexByte(key, '.'), 0)] {
			if wrong[key] {
				return true
			}
		}
		return k.Verdict == block
	})
}

// block is that of a key of which the keys in it are judged.
const block Verdict = ""

type migration struct{ keys []Judged }

func (m *migration) add(f tree.Field, key string, v Verdict, text string) {
	m.keys = append(m.keys, Judged{f.Pos, key, v, text})
}

// problem is the verdict on the key that it stands in.
func (m *migration) problem(p diag.Problem) {
	at := -1
	for i, k := range m.keys {
		if k.Pos.Line > p.Pos.Line || k.Pos.Line == p.Pos.Line && k.Pos.Column > p.Pos.Column && p.Pos.Column > 0 {
			break
		}
		at = i
	}
	if at < 0 {
		m.keys = slices.Insert(m.keys, 0, Judged{p.Pos, "", Change, told(p)})
		return
	}
	k := &m.keys[at]
	switch {
	case p.Severity == diag.Error && k.Verdict == Change && k.Text != "":
		if !strings.Contains(k.Text, told(p)) {
			k.Text += "; " + told(p)
		}
	case p.Severity == diag.Error:
		k.Verdict, k.Text = Change, told(p)
	case k.Verdict == Works, k.Verdict == block:
		k.Verdict, k.Text = Differs, told(p)
	}
}

func told(p diag.Problem) string {
	if p.Hint != "" {
		return p.Message + ": " + p.Hint
	}
	return p.Message
}

// inside judges the keys of a map.
func (m *migration) inside(n *tree.Node, t reflect.Type, prefix string) {
	for _, f := range n.Fields {
		key := prefix + f.Key
		known := slices.IndexFunc(fieldsOf(t), func(k *field) bool { return alike(k.key, f.Key) })
		if known < 0 {
			if t == topType && modules[f.Key] == "" {
				m.add(f, key, None, "no key of the format: left to other programs")
			} else {
				m.add(f, key, Change, "")
			}
			continue
		}
		k := fieldsOf(t)[known]
		text := differs[t.Name()+"."+k.key]
		switch {
		case k.none != "":
			m.add(f, key, None, k.none)
		case text != "":
			m.add(f, key, Differs, text)
			m.commands(f, key)
		case m.inner(f, k.typ, key):
		default:
			m.add(f, key, Works, "")
			m.commands(f, key)
		}
	}
}

// inner judges what is in a block, and reports whether the value is one.
func (m *migration) inner(f tree.Field, t reflect.Type, key string) bool {
	n := f.Value
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[Stages]() && n.Kind == tree.Map:
		for _, stage := range n.Fields {
			m.stage(stage)
		}
		return true
	case t == reflect.TypeFor[Users]():
		return false // a user's keys are those of cloud-init
	case t.Kind() == reflect.Struct && n.Kind == tree.Map && len(fieldsOf(t)) > 0:
		m.add(f, key, block, "")
		m.inside(n, t, key+".")
		return true
	}
	return false
}

func (m *migration) stage(stage tree.Field) {
	name := "stages." + stage.Key
	for prefix, why := range never {
		if stage.Key == prefix || strings.HasPrefix(stage.Key, prefix+".") {
			m.add(stage, name, Change, why)
			return
		}
	}
	for _, prefix := range inNew {
		if stage.Key == prefix || strings.HasPrefix(stage.Key, prefix+".") {
			m.add(stage, name, Differs, inImage)
		}
	}
	if stage.Value.Kind != tree.List {
		m.add(stage, name, Works, "")
		return
	}
	if stage.Key == "rootfs" {
		m.add(stage, name, Differs, "the root is read-only then, and only /run can be written")
	}
	for i, step := range stage.Value.Items {
		m.inside(step, reflect.TypeFor[Step](), fmt.Sprintf("%s[%d].", name, i))
	}
}

// commands says what of Kairos' is not there that the texts of a key speak of.
func (m *migration) commands(at tree.Field, key string) {
	var walk func(n *tree.Node, name string)
	walk = func(n *tree.Node, name string) {
		for _, item := range n.Items {
			walk(item, name)
		}
		for _, f := range n.Fields {
			walk(f.Value, f.Key)
		}
		if n.Kind != tree.String || !slices.Contains([]string{"commands", "runcmd", "bootcmd", "if", "content"}, name) {
			return
		}
		for _, f := range foreign {
			if f.word.MatchString(n.Text) {
				m.keys = append(m.keys, Judged{n.Pos, key, Change, f.is})
				return
			}
		}
	}
	walk(at.Value, at.Key)
}
