package schema

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

func parse(t testing.TB, yaml string) *tree.Node {
	t.Helper()
	n, problems := tree.Parse("f", []byte(yaml))
	if n == nil || len(problems) > 0 {
		t.Fatalf("%v", problems)
	}
	return n
}

// stepKeys and topKeys are Kairos' inventory. Each key must be known here:
// working, or left to later with a warning that says so.
var (
	stepKeys = `name if if_files only_os only_os_version only_arch only_service_manager node after
		commands files directories downloads git unpack_images
		users authorized_keys ensure_entities delete_entities
		hostname dns sysctl modules timesyncd systemctl systemd_firstboot environment environment_file
		packages package_pins datasource layout`
	topKeys = `ssh_authorized_keys write_files hostname users runcmd growpart
		install upgrade reset stages config_url options bundles env debug strict kcrypt k3s k3s-agent k0s k0s-worker
		kubevip p2p providers phonehome bind-pcrs bind-public-pcrs`
	userKeys      = `passwd ssh_authorized_keys gecos homedir no_create_home primary_group groups no_user_group system no_log_init shell lock_passwd uid`
	fileKeys      = `path permissions owner group ownerstring content encoding`
	systemctlKeys = `enable disable start mask overrides`
)

func TestInventory(t *testing.T) {
	for _, c := range []struct {
		of   reflect.Type
		want string
	}{
		{reflect.TypeFor[Step](), stepKeys}, {reflect.TypeFor[Top](), topKeys}, {reflect.TypeFor[User](), userKeys},
		{reflect.TypeFor[File](), fileKeys}, {reflect.TypeFor[Systemctl](), systemctlKeys}, {reflect.TypeFor[IfFiles](), "any all none"},
	} {
		for key := range strings.FieldsSeq(c.want) {
			if fieldIndex(c.of, key) < 0 {
				t.Errorf("%v does not know %q", c.of, key)
			}
		}
	}
}

// TestManual: kairos-cloud-config(5) has every key that works, and its example
// is valid.
func TestManual(t *testing.T) {
	data, err := os.ReadFile("../../../man/kairos-cloud-config.5")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	words := map[string]bool{}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, ".It Cm ") || strings.HasPrefix(line, ".Cm ") {
			for word := range strings.FieldsSeq(line) {
				words[word] = true
			}
		}
	}
	for _, of := range []reflect.Type{
		reflect.TypeFor[Head](), reflect.TypeFor[Top](), reflect.TypeFor[Step](), reflect.TypeFor[User](), reflect.TypeFor[Group](),
		reflect.TypeFor[File](), reflect.TypeFor[Directory](), reflect.TypeFor[Systemctl](), reflect.TypeFor[IfFiles](),
	} {
		for i := range of.NumField() {
			f := of.Field(i)
			key, works := f.Tag.Get("key"), f.Type != laterType && f.Type != reflect.TypeFor[Opaque]()
			if key != "" && works && !words[key] {
				t.Errorf("the page lacks %s of %v", key, of)
			}
			if f.Type == laterType && words[key] && key != "overrides" {
				t.Errorf("the page has %s of %v, which does not work yet", key, of)
			}
		}
	}
	_, example, _ := strings.Cut(page, ".Bd -literal -offset indent\n")
	example, _, _ = strings.Cut(example, ".Ed")
	if problems := Check(parse(t, example)); len(problems) > 0 || !strings.Contains(example, "users:") {
		t.Errorf("the example: %v", problems)
	}
}

// TestSecretsAreNotInMessages: a value of the wrong type is quoted in the
// message, but never a password.
func TestSecretsAreNotInMessages(t *testing.T) {
	for _, yaml := range []string{
		"users: {a: {passwd: hunter2}}", "users: {a: {passwd: [hunter2]}}", "users: {a: {passwd: {x: hunter2}}}", "users: {a: {passwd: '$6$hunter2:x'}}",
	} {
		_, problems := DecodeStep(parse(t, yaml))
		if !problems.Failed() {
			t.Errorf("%s: no error", yaml)
		}
		for _, p := range problems {
			if strings.Contains(p.Error(), "hunter2") {
				t.Error(p.Error())
			}
		}
	}
	if got := Secret("hunter2").String(); strings.Contains(got, "hunter2") {
		t.Error(got)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"hostnam: x", `f:1:1: warning: unknown key "hostnam" (did you mean "hostname"?)`},
		{"my-provider: {x: 1}", ""},
		{"install: {anything: 1}", ""},
		{"growpart: {mode: auto}", "f:1:1: warning: growpart is not supported yet and left out"},
		{"hostname: [a]", "f:1:11: error: hostname must be a string, not a list"},
		{"hostname: a_b-c.d", ""},
		{"hostname: -a", `f:1:1: error: "-a" is no host name: letters, digits, dashes and dots, 64 at most`},
		{"hostname: 'x{{ trunc 4 .MachineID }}'", "templates are not supported yet"},
		{"strict: maybe", `f:1:9: error: strict must be true or false, not "maybe"`},
		{"users:\n- name: a\n  paswd: x", `f:3:3: warning: unknown key "paswd" (did you mean "passwd"?)`},
		{"users:\n- name: a\n  sudo: ALL", `f:3:3: warning: unknown key "sudo" in users`},
		{"users: [default]", "f:1:9: warning: there is no default user: left out"},
		{"users:\n- passwd: ''", `f:2:3: error: "" can't be the name of a user`},
		{"users: [{name: a, passwd: plain}]", "f:1:9: error: passwd of user a is not a crypt(5) hash; plain passwords are not supported yet (mkpasswd -m yescrypt makes a hash)"},
		{"users: [{name: a, passwd: $y$j9T$x$y}, {name: b, passwd: '!'}, {name: c, passwd: '!$6$a$b'}]", ""},
		{"users: [{name: a, shell: 'x:y'}]", `f:1:9: error: user a: "x:y" may hold neither colon nor line break`},
		{"runcmd: [ls, [echo, a b], {a: b}]", "f:1:27: error: runcmd must be a command, not a map"},
		{"runcmd: ls", `f:1:9: error: runcmd must be a list, not "ls" (write it as an item: - …)`},
		{"stages: [a]", "f:1:9: error: stages must be a map of stages, not a list"},
		{"stages: {boot: {a: b}}", "f:1:16: error: stage boot must be a list of steps, not a map"},
		{"stages: {initrmfs: []}", `f:1:10: warning: unknown stage "initrmfs" (did you mean "initramfs"?)`},
		{"stages: {boot.befor: []}", `did you mean "boot.before"?`},
		{"stages: {my-own-thing: []}", ""},
		{"stages: {boot: [text]}", `f:1:17: error: the step must be a map, not "text"`},
		{"stages:\n  boot:\n  - commnds: []", `f:3:5: warning: unknown key "commnds" (did you mean "commands"?)`},
		{"stages: {boot: [{xyzzy: 1}]}", `f:1:18: warning: unknown key "xyzzy" in the step`},
		{"stages: {boot: [{sysctl: {a: b}}]}", "f:1:18: warning: sysctl is not supported yet and left out"},
		{"stages: {boot: [{systemctl: {overrides: []}}]}", "f:1:30: warning: overrides is not supported yet and left out"},
		{"stages: {boot: [{files: [{content: x}]}]}", "error: a file without path"},
		{"stages: {boot: [{files: [{path: x}]}]}", `error: file "x" must be an absolute path`},
		{"stages: {boot: [{files: [{path: /x, permissions: rw}]}]}", `error: permissions must be permissions like 0644, not "rw"`},
		{"stages: {boot: [{files: [{path: /x, permissions: 0644}, {path: /x, permissions: '0644'}, {path: /x, permissions: 0o644}, {path: /x, permissions: 420}]}]}",
			"permissions 420 is a decimal number, 0644 in octal (write 0420 if octal is meant)"},
		{"stages: {boot: [{files: [{path: /x, permissions: 644}]}]}", "permissions 644 is a decimal number, 01204 in octal (write 0644 if octal is meant)"},
		{"stages: {boot: [{files: [{path: /x, encoding: rot13}]}]}", `error: file /x: unknown encoding "rot13" (base64, gzip or gzip+base64)`},
		{"stages: {boot: [{files: [{path: /x, content: '{{ .Values.node.hostname }}'}]}]}", "warning: templates are not supported yet"},
		{"stages: {boot: [{files: [{path: /x, content: \"{{ index .Items 0 }}\"}]}]}", ""},
		{"stages: {boot: [{files: [{path: /x, owner: root, group: 5}, {path: /x, owner: 'a:b'}]}]}", ""},
		{"stages: {boot: [{files: [{path: /x, owner: -1}]}]}", "error: owner must be a number of a user or group"},
		{"stages: {boot: [{directories: [{path: x}]}]}", `error: directory "x" must be an absolute path`},
		{"stages: {boot: [{environment: {a b: c}}]}", `error: "a b" can't be the name of a variable`},
		{"stages: {boot: [{environment: [a]}]}", "error: environment must be a map, not a list"},
		{"stages: {boot: [{commands: [null, ls]}]}", "warning: commands has an empty item"},
		{"stages: {boot: null, fs: []}", ""},
		{"stages: {boot: [{commands: null, files: null, hostname: null, users: null}]}", ""},
		{"stages: {boot: [{groups: [a, {b: [x, y]}, {name: c, gid: 5}]}]}", ""},
		{"stages: {boot: [{users: {a: {name: b}}}]}", `error: user a has another name inside: "b"`},
	} {
		var got []string
		for _, p := range Check(parse(t, c.yaml)) {
			got = append(got, p.Error())
		}
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s\ngot  %q\nwant %q", c.yaml, got, c.want)
		}
	}
}

func TestCloudInitStep(t *testing.T) {
	step, problems, wanted := CloudInitStep(parse(t, `
hostname: h
ssh_authorized_keys: [all]
users:
- {name: a, groups: "x, y", ssh_authorized_keys: [own], uid: 1000}
- {name: b}
write_files: [{path: /f, content: c, owner: "a:a", permissions: "0600"}]
runcmd: [ls, [echo, "it's"]]
`))
	if !wanted || len(problems) > 0 {
		t.Fatal(wanted, problems)
	}
	if step.Hostname != "h" || len(step.Users) != 2 || step.Users[0].UID != "1000" || strings.Join(step.Users[0].Groups, "|") != "x|y" {
		t.Errorf("got %+v", step)
	}
	if f := step.Files[0]; !f.Permissions.Set || f.Permissions.Bits != 0o600 || f.Owner.Name != "a:a" {
		t.Errorf("got %+v", f)
	}
	if c := step.Commands[1]; c.Script != `'echo' 'it'\''s'` || c.Pos.Line != 8 {
		t.Errorf("got %+v", c)
	}
	if k := step.AuthorizedKeys; len(k) != 2 || k[0].Key != "a" || k[1].Key != "b" || k[1].Value[0] != "all" {
		t.Errorf("got %+v", k)
	}
	step, _, _ = CloudInitStep(parse(t, "ssh_authorized_keys: [k]"))
	if k := step.AuthorizedKeys; len(k) != 1 || k[0].Key != "root" {
		t.Errorf("keys without users are root's: %+v", k)
	}
	if _, _, wanted := CloudInitStep(parse(t, "install: {}\nstages: {}")); wanted {
		t.Error("a step of nothing")
	}
}

// FuzzDecode: no tree makes the decoder fall over.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"../../testdata/200-lines.yaml"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("users: {a: [b], c: {d: e}}\ngroups: {x: y}\nstages: {boot: [{if_files: {any: x}, systemctl: [], after: 1}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, _ := tree.Parse("f", data); n != nil {
			Check(n)
		}
	})
}
