package stage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/account"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
)

// Target is an object on the node as the steps of a boot leave it, as far as the
// configs determine it: conditions and commands may change it.
type Target struct {
	Name   string // a path, or a description: user alice
	What   string // a file in the stage boot
	Origin string // file:line of the last step for it
	// Digest is a digest of all that is known about it: two targets with the same
	// digest are equal.
	Digest string
}

// Targets returns the objects that the steps of plans leave on the node, by name.
func Targets(plans []*Plan) map[string]Target {
	t := &targets{things: map[string]*thing{}}
	for _, p := range plans {
		for _, s := range p.Steps {
			t.add(s)
		}
	}
	list := make(map[string]Target, len(t.things))
	for name, th := range t.things {
		sum := sha256.New()
		for _, key := range slices.Sorted(maps.Keys(th.attributes)) {
			fmt.Fprintf(sum, "%q=%q\n", key, th.attributes[key])
		}
		list[name] = Target{name, th.what, th.origin, hex.EncodeToString(sum.Sum(nil))}
	}
	return list
}

// Scripts returns the commands of plans in the order of execution.
func Scripts(plans []*Plan) []string {
	var list []string
	for _, p := range plans {
		for _, s := range p.Steps {
			for _, c := range s.Spec.Commands {
				list = append(list, c.Script)
			}
		}
	}
	return list
}

// targets gathers what steps leave, one after the other: what a step leaves
// open stays as the steps before it had it.
type targets struct {
	things map[string]*thing
	step   Step
}

type thing struct {
	what, origin string
	attributes   map[string]string
}

// add adds what one step leaves. A step that can't be applied leaves nothing,
// and the keys that a step fetches later are those of another one.
func (t *targets) add(s Step) {
	if s.Problems.Failed() || s.KeysOnly {
		return
	}
	t.step = s
	if s.Assessed || s.Strict {
		t.set("step "+s.Name, "failures count", "assessed", fmt.Sprint(s.Assessed, s.Strict))
	}
	for _, e := range effects {
		e.targets(t)
	}
}

// set gives a thing an attribute. What a condition guards differs from what is
// there always.
func (t *targets) set(name, what, attribute string, value ...any) {
	th := t.things[name]
	if th == nil {
		th = &thing{attributes: map[string]string{}}
		t.things[name] = th
	}
	spec := t.step.Spec
	th.what, th.origin = what+" in the stage "+t.step.Part, spec.Pos.FileLine()
	th.attributes[attribute] = fmt.Sprintf("%q when %q", fmt.Sprint(value...),
		fmt.Sprint(spec.If, spec.IfFiles, spec.Node, spec.OnlyOS, spec.OnlyOSVersion, spec.OnlyArch, spec.OnlyServiceManager))
}

// owned gives a file or directory the attributes that a step names.
func (t *targets) owned(name, what string, mode schema.Mode, owner, group schema.Owner, text string) {
	if mode.Set {
		t.set(name, what, "mode", mode.Bits)
	}
	if owner.Set || group.Set || text != "" {
		t.set(name, what, "owner", owner, group, text)
	}
}

func (t *targets) dns() {
	d := t.step.Spec.DNS
	if d.Path != "" {
		t.set(path.Clean(d.Path), "file", "content", d.Nameservers, d.Search, d.Options)
		return
	}
	for name, list := range map[string][]string{"name servers": d.Nameservers, "search domains": d.Search, "resolver options": d.Options} {
		if len(list) > 0 {
			t.set(name, "setting", "value", list)
		}
	}
}

func (t *targets) downloads() {
	for _, d := range t.step.Spec.Downloads {
		name := d.Path
		if u, err := url.Parse(d.URL); err == nil && strings.HasSuffix(name, "/") {
			name = path.Join(name, path.Base(u.Path))
		}
		name = path.Clean(name)
		t.set(name, "download", "content", d.URL, strings.ToLower(d.SHA256))
		t.owned(name, "download", d.Permissions, d.Owner, d.Group, d.OwnerString)
	}
}

func (t *targets) git() {
	if g := t.step.Spec.Git; g.URL != "" {
		t.set(path.Clean(g.Path), "clone", "content", g.URL, " ", g.Branch)
	}
}

func (t *targets) ensureEntities() {
	for _, text := range t.step.Spec.EnsureEntities {
		if e, err := account.ParseEntity(text.Entity); err == nil {
			for field, value := range e.Fields() {
				t.set(e.Account(), "entity", e.Kind()+" "+field, value)
			}
		}
	}
}

func (t *targets) deleteEntities() {
	for _, text := range t.step.Spec.DeleteEntities {
		if e, err := account.ParseEntity(text.Entity); err == nil {
			delete(t.things, e.Account())
			t.set(e.Account(), "deleted entity", e.Kind()+" deleted")
		}
	}
}

func (t *targets) directories() {
	for _, d := range t.step.Spec.Directories {
		t.set(path.Clean(d.Path), "directory", "kind", "directory")
		t.owned(path.Clean(d.Path), "directory", d.Permissions, d.Owner, d.Group, "")
	}
}

func (t *targets) files() {
	for _, f := range t.step.Spec.Files {
		t.set(path.Clean(f.Path), "file", "content", f.Content, f.Encoding, f.Append)
		t.owned(path.Clean(f.Path), "file", f.Permissions, f.Owner, f.Group, f.OwnerString)
	}
}

// commands can do anything: their text is all that is known of them.
func (t *targets) commands() {
	var scripts []string
	for _, c := range t.step.Spec.Commands {
		scripts = append(scripts, c.Script)
	}
	if len(scripts) > 0 {
		name := "commands of " + t.step.Spec.Name
		if t.step.Spec.Name == "" { // its number would change with other steps
			name = "commands of steps without a name in " + t.step.Source
		}
		before := ""
		if th := t.things[name]; th != nil { // of another step of this name
			before = th.attributes["scripts"]
		}
		t.set(name, "commands", "scripts", before, fmt.Sprintf("%q", scripts))
	}
}

func (t *targets) hostname() {
	if name := t.step.Spec.Hostname; name != "" {
		t.set("/etc/hostname", "host name", "content", name)
	}
}

func (t *targets) sysctl() {
	for _, e := range t.step.Spec.Sysctl {
		name := e.Key
		if file, err := sysctlFile(e.Key); err == nil {
			name = strings.TrimPrefix(file, "/proc/sys/")
		}
		t.set("sysctl "+name, "kernel parameter", "value", strings.Fields(e.Value))
	}
}

func (t *targets) accounts() {
	spec := t.step.Spec
	for _, g := range spec.Groups {
		t.group(g.Name, g.GID)
		for _, m := range g.Members {
			t.set("group "+g.Name, "group", "member "+m)
		}
	}
	for _, u := range spec.Users {
		name := "user " + u.Name
		t.set(name, "user", "there")
		for attribute, value := range map[string]string{
			"password": string(u.Passwd), "uid": u.UID, "group": u.PrimaryGroup, "shell": u.Shell, "home": u.Homedir, "gecos": u.GECOS,
		} {
			if value != "" {
				t.set(name, "user", attribute, value)
			}
		}
		for attribute, on := range map[string]bool{"locked": u.LockPasswd, "common group": u.NoUserGroup, "no home": u.NoCreateHome, "system": u.System} {
			if on {
				t.set(name, "user", attribute)
			}
		}
		for _, g := range u.Groups {
			t.group(g, "")
			t.set("group "+g, "group", "member "+u.Name)
		}
	}
}

func (t *targets) group(name, gid string) {
	t.set("group "+name, "group", "there")
	if gid != "" {
		t.set("group "+name, "group", "gid", gid)
	}
}

func (t *targets) keys() {
	spec := t.step.Spec
	for _, u := range spec.Users {
		t.sshKeys(u.Name, u.SSHAuthorizedKeys)
	}
	for _, e := range spec.AuthorizedKeys {
		t.sshKeys(e.Key, e.Value)
	}
}

func (t *targets) sshKeys(user string, keys []string) {
	for _, key := range keys {
		t.set("ssh keys of "+user, "ssh keys", strings.TrimSpace(key))
	}
}

func (t *targets) modules() {
	for _, name := range t.step.Spec.Modules {
		t.set("module "+strings.ReplaceAll(name, "-", "_"), "kernel module", "there")
	}
}

func (t *targets) timesyncd() {
	for _, e := range t.step.Spec.Timesyncd {
		t.set("timesyncd "+e.Key, "setting", "value", e.Value)
	}
}

func (t *targets) units() {
	s := t.step.Spec.Systemctl
	for _, o := range s.Overrides {
		if file, err := overrideFile("", o); err == nil {
			unit := strings.TrimSuffix(path.Base(path.Dir(file)), ".d")
			t.set("drop-in of "+unit+" "+path.Base(file), "drop-in", "content", strings.TrimRight(o.Content, "\n"))
		}
	}
	for _, verb := range []struct {
		attribute, value string
		units            []string
	}{{"enabled", "yes", s.Enable}, {"enabled", "no", s.Disable}, {"masked", "yes", s.Mask}, {"started", "yes", s.Start}} {
		for _, unit := range verb.units {
			if path.Ext(unit) == "" {
				unit += ".service"
			}
			t.set("unit "+unit, "unit", verb.attribute, verb.value)
		}
	}
}

func (t *targets) environment() {
	spec := t.step.Spec
	file := spec.EnvironmentFile
	if file == "" {
		file = defaultEnvironment
	}
	for _, e := range spec.Environment {
		t.set("variable "+e.Key+" in "+file, "variable", "value", e.Value)
	}
}

func (t *targets) firstboot() {
	for _, e := range t.step.Spec.SystemdFirstboot {
		t.set("firstboot "+strings.ReplaceAll(e.Key, "_", "-"), "setting", "value", e.Value)
	}
}

func (t *targets) datasource() {
	if d := t.step.Spec.Datasource; len(d.Providers) > 0 {
		t.set("user data", "user data", "from", d.Providers, d.Path, d.UserdataName, d.When, d.AnyPlatform)
	}
}

func (t *targets) layout() {
	l := t.step.Spec.Layout
	disk := "the system's disk"
	if l.Device != nil && l.Device.Path != "" {
		disk = l.Device.Path
	} else if l.Device != nil && l.Device.Label != "" {
		disk = "the disk of " + l.Device.Label
	}
	if l.Device != nil && l.Device.InitDisk {
		t.set("partition table of "+disk, "partition table", "name", l.Device.DiskName)
	}
	if l.Expand != nil {
		t.set("last partition of "+disk, "partition", "size", l.Expand.Size)
	}
	for _, p := range l.Parts {
		p.Pos = schema.Partition{}.Pos
		label := p.FSLabel
		if label == "" {
			label = p.PLabel
		}
		t.set("partition "+label+" of "+disk, "partition", "layout", fmt.Sprintf("%+v", p))
	}
}

func (t *targets) packagePins() {
	for _, e := range t.step.Spec.PackagePins {
		t.set("pin of "+e.Key, "package pin", "version", e.Value)
	}
}

func (t *targets) packages() {
	p := t.step.Spec.Packages
	for attribute, on := range map[string]bool{"refresh": p.Refresh, "upgrade": p.Upgrade} {
		if on {
			t.set("packages", "packages", attribute)
		}
	}
	for _, name := range p.Install {
		t.set("package "+name, "package", "installed", "yes")
	}
	for _, name := range p.Remove {
		t.set("package "+name, "package", "installed", "no")
	}
}

func (t *targets) unpackImages() {
	for _, u := range t.step.Spec.UnpackImages {
		t.set(path.Clean(u.Target), "unpacked image", "image "+u.Source, u.Platform)
	}
}
