package stage

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/account"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"golang.org/x/sys/unix"
)

const maxSmall = 1 << 20

// hostname sets the kernel's name, /etc/hostname, and the name's line in
// /etc/hosts, so that it resolves without any network.
func (r *run) hostname(context.Context) {
	name := r.step.Spec.Hostname
	if name == "" {
		return
	}
	if now, err := os.Hostname(); r.Node && (err != nil || now != name) {
		if err := unix.Sethostname([]byte(name)); err != nil {
			r.fail(fmt.Errorf("set host name: %w", err))
		} else {
			r.changed("hostname")
		}
	}
	r.edit("/etc/hostname", func(string) string { return name + "\n" })
	r.edit("/etc/hosts", func(old string) string { return hostsWith(old, name) })
}

// edit replaces a file's content by what a function makes of it, and reports
// whether that is a change.
func (r *run) edit(path string, change func(old string) string) bool {
	err := r.Root.MakeParents(path)
	wrote := false
	if err == nil {
		wrote, err = r.Root.Edit(path, maxSmall, rootfs.KeepAll, func(old []byte, attr *rootfs.Attr) ([]byte, error) {
			data := []byte(change(string(old)))
			return data, r.private(path, data, attr)
		})
	}
	r.fail(err)
	if wrote {
		r.changed(path)
	}
	return wrote
}

// hostsWith gives hosts(5) the line of the node's own name. 127.0.1.1 keeps it
// apart from localhost, as Debian does.
func hostsWith(hosts, name string) string {
	const address = "127.0.1.1"
	if hosts == "" {
		hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
	}
	names := name
	if short, _, dotted := strings.Cut(name, "."); dotted {
		names += " " + short
	}
	own := address + " " + names + "\n"
	var out strings.Builder
	found := false
	for line := range strings.Lines(hosts) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == address {
			if !found {
				out.WriteString(own)
			}
			found = true
			continue
		}
		out.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	if !found {
		out.WriteString(own)
	}
	return out.String()
}

// accounts makes groups, then users in the order of their names, so that they
// get the same numbers whatever order they are written in, then their homes.
func (r *run) accounts(context.Context) {
	spec := r.step.Spec
	if len(spec.Users)+len(spec.Groups) == 0 {
		return
	}
	db, err := account.Open(r.Root)
	if err != nil {
		r.fail(err)
		return
	}
	defer db.Close()
	for _, g := range spec.Groups {
		r.fail(db.EnsureGroup(g))
	}
	users := slices.SortedStableFunc(slices.Values(spec.Users), func(a, b schema.User) int { return strings.Compare(a.Name, b.Name) })
	var made []schema.User
	for _, u := range users {
		if err := db.EnsureUser(u); err != nil {
			r.fail(err)
			continue
		}
		made = append(made, u)
	}
	files, err := db.Save()
	r.changed(files...)
	if err != nil {
		r.fail(err)
		return
	}
	for _, u := range made {
		r.home(db, u)
		r.sudo(u)
	}
}

// sudoRules are what the members of these groups may do, where the image has
// no rule for them. Kairos' examples put people into admin, without passwords.
var sudoRules = map[string]string{
	"admin": "%admin ALL=(ALL:ALL) NOPASSWD: ALL\n",
	"sudo":  "%sudo ALL=(ALL:ALL) ALL\n",
	"wheel": "%wheel ALL=(ALL:ALL) ALL\n",
}

// sudo makes the groups of administrators mean something.
func (r *run) sudo(u schema.User) {
	const dir = "/etc/sudoers.d"
	for _, group := range u.Groups {
		rule := sudoRules[group]
		if rule == "" || !r.Root.Exists(dir) || r.sudoKnows(dir, group) {
			continue
		}
		file := dir + "/90-kairos-config-" + group
		wrote, err := r.write(file, []byte(nativeHeader+rule), rootfs.Attr{Mode: 0o440, UID: 0, GID: 0})
		r.fail(err)
		if wrote {
			r.changed(file)
		}
	}
}

// sudoKnows reports whether sudoers(5) has a rule for a group.
func (r *run) sudoKnows(dir, group string) bool {
	files, _ := r.Root.Files(dir, func(name string) bool { return !strings.ContainsAny(name, ".~") })
	for _, file := range append(files, "/etc/sudoers") {
		data, err := r.Root.ReadFile(file, maxSmall)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "%"+group {
				return true
			}
		}
	}
	return false
}

// home makes a user's home directory. System users get one only where the
// config names it.
func (r *run) home(db *account.Database, u schema.User) {
	a, ok := db.Lookup(u.Name)
	if !ok || u.NoCreateHome || (u.System && u.Homedir == "") {
		return
	}
	made, err := account.EnsureHome(r.Root, a)
	r.fail(err)
	if made != "" {
		r.changed(made)
	}
}

// keys adds the ssh keys of users and of authorized_keys.
func (r *run) keys(ctx context.Context) {
	wanted := slices.Clone(r.step.Spec.AuthorizedKeys)
	for _, u := range r.step.Spec.Users {
		if len(u.SSHAuthorizedKeys) > 0 {
			wanted = append(wanted, schema.Entry[[]string]{Key: u.Name, Pos: u.Pos, Value: u.SSHAuthorizedKeys})
		}
	}
	if len(wanted) == 0 {
		return
	}
	db, err := account.Read(r.Root)
	if err != nil {
		r.fail(err)
		return
	}
	for _, e := range wanted {
		a, ok := db.Lookup(e.Key)
		if !ok {
			if !r.step.KeysOnly { // its own step has made it, or has said why not
				r.fail(fmt.Errorf("keys of %s: there is no such user", e.Key))
			}
			continue
		}
		changed, err := account.AuthorizeKeys(r.Root, a, r.localKeys(ctx, e))
		r.fail(err)
		if changed != "" {
			r.changed(changed)
		}
	}
}

// defaultEnvironment is where variables go that name no file.
const defaultEnvironment = "/etc/environment"

// environment sets variables in a file of environment.d(5) form.
func (r *run) environment(context.Context) {
	spec := r.step.Spec
	if len(spec.Environment) == 0 {
		return
	}
	file := spec.EnvironmentFile
	if file == "" {
		file = defaultEnvironment
	}
	r.edit(file, func(old string) string { return setVariables(old, spec.Environment) })
}

func setVariables(file string, variables schema.Entries[string]) string {
	lines := strings.Split(strings.TrimSuffix(file, "\n"), "\n")
	if file == "" {
		lines = nil
	}
	for _, v := range variables {
		text := v.Key + "=" + quoteVariable(v.Value)
		at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, v.Key+"=") })
		if at < 0 {
			lines = append(lines, text)
			continue
		}
		lines[at] = text
	}
	return strings.Join(lines, "\n") + "\n"
}

// quoteVariable quotes a value so that shells, PAM and systemd read the same.
func quoteVariable(value string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:,@%+=", r)
	}
	if strings.IndexFunc(value, func(r rune) bool { return !plain(r) }) < 0 {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(value) + `"`
}
