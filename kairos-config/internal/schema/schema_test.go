package schema

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
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

// stepKeys and topKeys are Kairos' inventory. Each key must be known here.
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
			if !slices.Contains(keysOf(c.of), key) {
				t.Errorf("%v does not know %q", c.of, key)
			}
		}
	}
}

// TestSecretsAreNotInMessages: a value of the wrong type is quoted in the
// message, but never a password.
func TestSecretsAreNotInMessages(t *testing.T) {
	for _, yaml := range []string{
		"users: {a: {passwd: \"hunter2\\nx\"}}", "users: {a: {passwd: [hunter2]}}", "users: {a: {passwd: {x: hunter2}}}", "users: {a: {passwd: '$6$hunter2:x'}}",
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

// TestOtherSpellings: what is said of a key's value is said however the key is written.
func TestOtherSpellings(t *testing.T) {
	for yaml, want := range map[string]string{
		"install: {no_format: true}":                                           "no-format: installing on existing partitions is not supported",
		"install: {reboot: true, powerOff: true}":                              "it reboots, as in Kairos",
		"install: {extra_partitions: [{name: COS_OEM, size: 1}]}":              "another partition has the label COS_OEM",
		"stages: {boot: [{After: [{name: x}]}]}":                               "no step of boot in this file has the name",
		"stages: {boot: [{files: [{path: /a, Content: '*', encoding: b64}]}]}": "is not base64",
		"install: {bind-mounts: [/data]}":                                      "can be made writable only where",
	} {
		if problems := Check(parse(t, yaml)); len(problems) != 2 || !strings.Contains(problems[0].Message+problems[1].Message, want) {
			t.Errorf("%s: %v", yaml, problems)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"hostnam: x", `f:1:1: error: unknown key "hostnam": did you mean "hostname"?`},
		{"my-provider: {x: 1}", `f:1:1: warning: unknown block "my-provider": left to other programs`},
		{"instal: {x: 1}", `f:1:1: warning: unknown key "instal": did you mean "install"?`},
		{"install: {anything: 1}", `f:1:11: error: unknown key "anything" in install`},
		{"stage: {boot: []}", `f:1:1: error: unknown key "stage": did you mean "stages"?`},
		{"resize_rootfs: true", "f:1:1: error: resize_rootfs is not supported here: COS_PERSISTENT always grows by itself"},
		{"install: {reboot: true, poweroff: true}", "f:1:35: warning: install: reboot and poweroff: it reboots, as in Kairos"},
		{"install: {bind_mounts: [/mnt/a, /var/lib/a, /opt]}", ""},
		{"install: {bind_mounts: [/data]}", "f:1:24: warning: /data can be made writable only where the image has this directory: the root is read-only"},
		{"install: {ephemeral_mounts: [/run/a]}", "f:1:29: warning: /run/a is not made writable: it belongs to the system"},
		{"install: {extra-partitions: [{Name: x, size: 10}]}", `f:1:31: warning: key "Name" is deprecated: write "name"`},
		{"install: {image: x}", "f:1:11: warning: image is deprecated: write source"},
		{"install: {device: sda}", `f:1:19: error: device must be auto, a device like /dev/sda, or script:///PROGRAM, not "sda"`},
		{"upgrade: {entry: activ}", `f:1:18: error: entry must be one of the known words, not "activ" (did you mean "active"?)`},
		{"config_url: ftp://x", `f:1:13: error: config_url must be a URL with https:// or http://, not "ftp://x"`},
		{"config_url: https://h/x#sha256=12", `f:1:13: error: the digest behind # of config_url must be a SHA-256 digest: 64 hex digits, not "12"`},
		{"config_url: {sha256: ''}", "f:1:13: error: config_url: url is missing"},
		{"config_url: https://h/x", ""},
		{"k3s: {env: {A: [x]}}", "f:1:16: error: env.A must be a string, not a list"},
		{"kubevip: {eip: x}", `f:1:16: error: eip must be an IP address, not "x"`},
		{"growpart: {mode: auto, devices: [/]}", ""},
		{"growpart: {mode: on}", `mode must be one of the known words, not "on"`},
		{"hostname: [a]", "f:1:11: error: hostname must be a string, not a list"},
		{"hostname: a_b-c.d", ""},
		{"hostname: -a", `f:1:11: error: hostname must be a host name: letters, digits, dashes and dots, 64 at most, not "-a"`},
		{"strict: maybe", `f:1:9: error: strict must be true or false, not "maybe"`},
		{"users:\n- name: a\n  paswd: x", `f:3:3: error: unknown key "paswd": did you mean "passwd"?`},
		{"users:\n- name: a\n  sudo: ALL", `f:3:3: error: unknown key "sudo" in users: use groups for privileges, such as groups: [admin]`},
		{"users: [default]", "f:1:9: warning: there is no default user: skipped"},
		{"users:\n- passwd: ''", "f:2:3: error: users: name is missing"},
		{"users: [{name: a, passwd: plain}]", "f:1:27: warning: passwd of user a is plain text, which everybody who can read this file learns (mkpasswd -m yescrypt makes a hash)"},
		{"users: [{name: a, passwd: $y$j9T$x$y}, {name: b, passwd: '!'}, {name: c, passwd: '!$6$a$b'}]", ""},
		{"users: [{name: a, shell: 'x:y'}]", `f:1:26: error: shell must be an absolute path without colons, not "x:y"`},
		{"runcmd: [ls, [echo, a b], {a: b}]", "f:1:27: error: runcmd must be a command, not a map"},
		{"runcmd: ls", `f:1:9: error: runcmd must be a list, not "ls": taken as its only item (write it as an item: - …)`},
		{"stages: [a]", "f:1:9: error: stages must be a map of stages, not a list"},
		{"stages: {boot: {a: b}}", "f:1:16: error: stage boot must be a list of steps, not a map"},
		{"stages: {initrmfs: []}", `f:1:10: error: unknown stage "initrmfs": did you mean "initramfs"?`},
		{"stages: {boot.befor: []}", `did you mean "boot.before"?`},
		{"stages: {my-own-thing: []}", ""},
		{"stages: {boot: [text]}", `f:1:17: error: the step must be a map, not "text"`},
		{"stages:\n  boot:\n  - commnds: []", `f:3:5: error: unknown key "commnds": did you mean "commands"?`},
		{"stages: {boot: [{xyzzy: 1}]}", `f:1:18: error: unknown key "xyzzy" in the step`},
		{"stages: {boot: [{sysctl: {a: b}, modules: [-a b]}]}", `f:1:44: error: modules must be the name of a module, with its parameters behind it, not "-a b"`},
		{"stages: {boot: [{only_os: '(', after: [a.x, {name: a.y}]}]}", `f:1:27: error: only_os must be a regular expression, not "("`},
		{"stages: {boot: [{dns: {nameservers: [1.1.1.1, '[2001:db8::1]:53', '9.9.9.9#dns.quad9.net', x]}}]}", `error: nameservers must be an IP address, not "x"`},
		{"stages: {boot: [{layout: {device: {label: x}, expand_partition: {size: 0}, add_partitions: [{fsLabel: a, size: many}]}}]}", `error: size must be a size in MiB, not "many"`},
		{"stages: {boot: [{datasource: {providers: [aws, azuer]}}]}", `error: providers must be a datasource, not "azuer" (did you mean "azure"?)`},
		{"stages: {boot: [{downloads: [{url: x, path: /x}]}]}", `error: url must be a URL with https:// or http://, not "x"`},
		{"stages: {boot: [{systemctl: {overrides: [{service: x, content: y, name: a/b}]}}]}", `error: name must be the name of a file, without slashes, not "a/b"`},
		{"stages: {boot: [{files: [{content: x}]}]}", "f:1:26: error: files: path is missing"},
		{"stages: {boot: [{files: [{path: x}]}]}", `f:1:33: error: path must be an absolute path, not "x"`},
		{"stages: {boot: [{files: [{path: /x, permissions: rw}]}]}", `error: permissions must be an octal number like 0644, not "rw"`},
		{"stages: {boot: [{files: [{path: /x, permissions: 0644}, {path: /x, permissions: '0644'}, {path: /x, permissions: 0o644}, {path: /x, permissions: 420}]}]}",
			"permissions 420 is a decimal number, 0644 in octal (write 0420 if octal is meant)"},
		{"stages: {boot: [{files: [{path: /x, permissions: 644}]}]}", "permissions 644 is a decimal number, 01204 in octal (write 0644 if octal is meant)"},
		{"stages: {boot: [{files: [{path: /x, encoding: rot13}]}]}", `error: encoding must be one of the known words, not "rot13" (one of b64, base64, gz, gzip, gz+b64, gz+base64, gzip+b64, gzip+base64, text/plain)`},
		{"stages: {boot: [{files: [{path: /x, content: \"{{ index .Items 0 }}\"}]}]}", ""},
		{"stages: {boot: [{files: [{path: /x, owner: root, group: 5}, {path: /x, owner: 'a:b'}]}]}", ""},
		{"stages: {boot: [{files: [{path: /x, owner: -1}]}]}", "error: owner must be a number of a user or group"},
		{"stages: {boot: [{directories: [{path: x}]}]}", `error: path must be an absolute path, not "x"`},
		{"stages: {boot: [{environment: {a b: c}}]}", `error: a key of environment must be a name of a variable: letters, digits and underscores, not "a b"`},
		{"stages: {boot: [{environment: [a]}]}", "error: environment must be a map, not a list"},
		{"stages: {boot: [{commands: [null, ls]}]}", "warning: commands has an empty item"},
		{"stages: {boot: null, fs: []}", ""},
		{"stages: {boot: [{commands: null, files: null, hostname: null, users: null}]}", ""},
		{"stages: {boot: [{groups: [a, {b: [x, y]}, {name: c, gid: 5}]}]}", ""},
		{"stages: {boot: [{users: {a: {name: b}}}]}", `error: user a has another name in it: "b"`},
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

// blocks are the types of all maps that the format has.
func blocks() []reflect.Type {
	var list []reflect.Type
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Slice, reflect.Pointer:
			visit(t.Elem())
		case reflect.Struct:
			if value, free := t.FieldByName("Value"); free && strings.HasPrefix(t.Name(), "Entry[") {
				visit(value.Type)
				return
			}
			if len(fieldsOf(t)) == 0 || slices.Contains(list, t) {
				return
			}
			list = append(list, t)
			for _, f := range fieldsOf(t) {
				visit(f.typ)
			}
		}
	}
	visit(topType)
	visit(reflect.TypeFor[Step]())
	return list
}

// TestTags: every key says what it does and has an example, which is valid, or
// keys of its own.
func TestTags(t *testing.T) {
	if len(blocks()) < 30 {
		t.Errorf("only %d blocks", len(blocks()))
	}
	for _, block := range blocks() {
		for _, f := range fieldsOf(block) {
			if f.doc == "" || f.doc[len(f.doc)-1] != '.' {
				t.Errorf("%v: %s has no doc, or no sentence", block, f.key)
			}
			if f.is != "" {
				ruleFor(f.is)
			}
			if f.example == "" {
				inner := f.typ
				for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
					inner = inner.Elem()
				}
				if inner.Kind() != reflect.Struct || inner.Kind() == reflect.Struct && len(fieldsOf(inner)) == 0 {
					t.Errorf("%v: %s has no example", block, f.key)
				}
				continue
			}
			n := parse(t, f.key+": "+f.example)
			var problems diag.List
			decode(n, reflect.New(block).Interface(), "the block", &problems)
			for _, p := range problems {
				if !strings.HasSuffix(p.Message, " is missing") && f.old == "" && !(f.none != "" && strings.Contains(p.Message, "without effect here")) && block != reflect.TypeFor[Kcrypt]() {
					t.Errorf("%v: example of %s: %v", block, f.key, p)
				}
			}
		}
	}
}

// FuzzDecode: no tree makes the decoder fall over.
func FuzzDecode(f *testing.F) {
	names, err := filepath.Glob("../../testdata/*/*.yaml")
	if err != nil || len(names) < 80 {
		f.Fatal(len(names), err)
	}
	for _, name := range append(names, "../../testdata/200-lines.yaml") {
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
