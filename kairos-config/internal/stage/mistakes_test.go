package stage

import (
	"os"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/facts"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/template"
)

// mistakes are one mistake each, in a config that lets its owner in.
var mistakes = map[string]string{
	"an encoding that there is not":  "write_files: [{path: /etc/bad, encoding: rot13, content: x}]",
	"a relative path":                "write_files: [{path: etc/bad, content: x}]",
	"a file without a path":          "write_files: [{content: x}]",
	"permissions in words":           "write_files: [{path: /etc/bad, permissions: 'u=rw', content: x}]",
	"permissions of a list":          "write_files: [{path: /etc/bad, permissions: [6], content: x}]",
	"content of a map":               "write_files: [{path: /etc/bad, content: {a: b}}]",
	"files that are no list":         "write_files: {path: /etc/bad}",
	"content that is no base64":      "write_files: [{path: /etc/bad, encoding: b64, content: '*'}]",
	"an owner that there is not":     "write_files: [{path: /etc/owned, owner: nobody-knows, content: x}]",
	"a fact that there is not":       "write_files: [{path: /etc/bad, content: 'n-{{ .Values.product.serial }}'}]",
	"a fact in a command":            "runcmd: ['touch /tmp/bad-{{ .Values.product.serial }}']",
	"a fact of a fact in a command":  "runcmd: ['touch /tmp/bad-{{ .Values.nothing.at.all }}']",
	"a command with a colon":         "runcmd: [echo note: x]",
	"a command of a map in a list":   "runcmd: [[touch, {a: b}]]",
	"commands that are one":          "runcmd: touch /tmp/bad",
	"a host name with a blank":       "hostname: my node",
	"a host name with a fact":        "hostname: 'n-{{ .Values.product.serial }}'",
	"a host name of a list":          "hostname: [a]",
	"a growing device without /dev":  "growpart: {devices: [sdb]}",
	"a growpart of a list":           "growpart: [/dev/sdb]",
	"a group with a blank":           "groups: [my group]",
	"groups of numbers":              "groups: [{a: {b: c}}]",
	"a key of a map":                 "ssh_authorized_keys: [{a: b}]",
	"a credential that there is not": "write_files: [{path: /etc/bad, content: '${credential:nothing}'}]",
	"a key that there is not":        "hostnme: x",
	"a stage that is no list":        "stages: {boot: {name: x}}",
	"stages that are no map":         "stages: [x]",
	"another user, with a bad name":  "users: OPS, {name: 'a b', passwd: x}",
	"another user, without a name":   "users: OPS, {passwd: x}",
	"a user of a number":             "users: OPS, 17",
}

// ofUsers are mistakes in the only user.
var ofUsers = map[string]string{
	"a number that is none":        "uid: abc",
	"a group with a blank":         "groups: [my group, sudo]",
	"groups with a blank":          "groups: my group, sudo",
	"a shell without a slash":      "shell: bash",
	"a password that is none":      "passwd: $6$",
	"a password of a list":         "passwd: [x]",
	"a credential that is none":    "passwd: '${credential:nothing}'",
	"a primary group of a list":    "primary_group: [x]",
	"a home with a colon":          "homedir: 'a:b'",
	"a home that is no path":       "homedir: home",
	"lock_passwd that is no bool":  "lock_passwd: maybe",
	"a name with a colon in it":    "gecos: 'a:b'",
	"a key of two lines":           `ssh_authorized_keys: ["ssh-ed25519 AAAA ops", "a\nb"]`,
	"a key with a fact":            `ssh_authorized_keys: ["ssh-ed25519 AAAA ops", "ssh-rsa {{ .Values.x.y }}"]`,
	"a key of sudo":                "sudo: ALL=(ALL) NOPASSWD:ALL",
	"a system that is no bool":     "system: perhaps",
	"no_create_home that is a map": "no_create_home: {a: b}",
}

// nobodysFacts are those of a machine that tells nothing.
func nobodysFacts() facts.Facts {
	return facts.Facts{Values: map[string]any{"product": map[string]any{}}}
}

// TestOneMistakeCostsOneThing: whatever is wrong with one thing, the owner gets
// in, the rest is applied, and the mistake makes the stage a failed one.
func TestOneMistakeCostsOneThing(t *testing.T) {
	const ops = `{name: ops, ssh_authorized_keys: ["ssh-ed25519 AAAA ops"]`
	configs := map[string]string{}
	for what, text := range mistakes {
		if list, ok := strings.CutPrefix(text, "users: OPS"); ok {
			text = "users: [" + ops + "}" + list + "]"
		} else {
			text = "users: [" + ops + "}]\n" + text
		}
		configs[what] = text
	}
	for what, text := range ofUsers {
		user := ops
		if strings.HasPrefix(text, "ssh_authorized_keys") {
			user = "{name: ops"
		}
		configs[what] = "users: [" + user + ", " + text + "}]"
	}
	for what, text := range configs {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(text, "write_files") {
				text += "\nwrite_files: [{path: /etc/good, content: good}]"
			} else {
				text = strings.Replace(text, "write_files: [", "write_files: [{path: /etc/good, content: good}, ", 1)
			}
			n := newNode(t, map[string]string{"90.yaml": "#cloud-config\n" + text + "\n"})
			fill := Fill{Templates: template.New(nobodysFacts)}
			var failed, told bool
			for _, stage := range []string{"initramfs", "boot"} {
				r := n.Run(t.Context(), NewPlan(source.Collect(n.Root), stage, fill))
				failed = failed || r.Outcome == Failed
				told = told || len(r.Problems) > 0
				for _, s := range r.Steps {
					told = told || len(s.Problems)+len(s.Errors) > 0
				}
			}
			if !strings.Contains(n.read("etc/passwd"), "\nops:") || !strings.Contains(n.read("home/ops/.ssh/authorized_keys"), "ssh-ed25519 AAAA ops") {
				t.Errorf("locked out: %s", n.log)
			}
			if warned := strings.Contains(what, "that there is not") && strings.Contains(text, "hostnme") || what == "a key of sudo"; !told || !failed && !warned {
				t.Errorf("not told, or no failure: %v %v\n%s", told, failed, n.log)
			}
			if !strings.HasPrefix(text, "write_files: {") && !strings.Contains(text, "write_files: {") && n.read("etc/good") != "good" {
				t.Errorf("the file beside it is not there:\n%s", n.log)
			}
			for _, name := range []string{"etc/bad", "tmp/bad"} {
				if _, err := os.Lstat(n.dir + "/" + name); err == nil {
					t.Errorf("%s is there", name)
				}
			}
		})
	}
}

// TestUnknownConditions: what nobody can tell when to run does not run.
func TestUnknownConditions(t *testing.T) {
	for _, condition := range []string{
		"only_distro: debian", "only_os: '('", "only_arch: [amd64]", "only_service_manager: upstart", "if_file: {all: [/x]}", "if_files: {all: [x]}",
		"if_files: [/x]", "if: [a]", "if: 'test {{ .Values.product.serial }} = x'", "unless: 'true'", "only_os_versio: '12'", "node: '*'", "when: never", "if_not: x",
		"only_if: 'false'", "skip_if: x", "onlyos: debian", "not_on: x",
	} {
		n := newNode(t, map[string]string{"1.yaml": "stages: {boot: [{" + condition + ", files: [{path: /etc/f, content: x}]}, {files: [{path: /etc/g, content: x}]}]}"})
		r := n.Run(t.Context(), NewPlan(source.Collect(n.Root), "boot", Fill{Templates: template.New(nobodysFacts)}))
		if got := outcomes(r); got != "boot.0=failed boot.1=done" || n.read("etc/f") == "x" || n.read("etc/g") != "x" {
			t.Errorf("%s: %s", condition, got)
		}
	}
}

// TestKindsOfKeys: what Kairos' users write comes to what they mean.
func TestKindsOfKeys(t *testing.T) {
	for _, c := range []struct{ name, config, stage, file, want string }{
		{"host name before the services", "#cloud-config\nhostname: node-1\n", "initramfs", "etc/hostname", "node-1\n"},
		{"PRETTY_NAME", "stages: {boot: [{only_os: 'Ubuntu 24.04.*', files: [{path: /etc/f, content: x}]}]}", "boot", "etc/f", "x"},
		{"append", "#cloud-config\nwrite_files: [{path: /etc/hosts, append: true, content: \"192.0.2.1 reg\\n\"}]", "boot", "etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n192.0.2.1 reg\n"},
		{"append to nothing", "#cloud-config\nwrite_files: [{path: /etc/new, append: yes, content: \"a\\n\"}]", "boot", "etc/new", "a\n"},
		{"plain encoding", "#cloud-config\nwrite_files: [{path: /etc/f, encoding: text/plain, content: hello}]", "boot", "etc/f", "hello"},
	} {
		n := newNode(t, map[string]string{"1.yaml": c.config})
		n.write("etc/os-release", "ID=ubuntu\nNAME=Ubuntu\nPRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\n")
		for range 2 {
			if r := n.run(c.stage); r.Outcome != Done || n.read(c.file) != c.want {
				t.Errorf("%s: %s: %q\n%s", c.name, r.Outcome, n.read(c.file), n.log)
			}
		}
	}
}

// TestOwnersOfTheSameFile: users are made behind files, and files become theirs.
func TestOwnersOfTheSameFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	n := newNode(t, map[string]string{"1.yaml": "#cloud-config\nusers: [{name: app, uid: 1234}]\nwrite_files:\n" +
		"- {path: /etc/app/token, owner: 'app:app', permissions: 0640, content: x}\n- {path: /etc/app/mode, permissions: 755, content: x}\n"})
	if r := n.run("boot"); r.Outcome != Done {
		t.Fatal(n.log)
	}
	st, err := n.Root.Stat("/etc/app/token")
	if err != nil || st.Uid != 1234 || st.Mode&0o7777 != 0o640 || n.read("etc/app/token") != "x" {
		t.Errorf("%+v, %v", st, err)
	}
	if st, err := n.Root.Stat("/etc/app/mode"); err != nil || st.Mode&0o7777 != 0o755 {
		t.Errorf("%o, %v", st.Mode, err)
	}
}

// TestAfterWithTheNameOfAConfig is yip's "in sequence with after".
func TestAfterWithTheNameOfAConfig(t *testing.T) {
	for _, name := range []string{"test.test", "02_second.test", "/oem/02_second.yaml.test"} {
		n := newNode(t, map[string]string{
			"01_first.yaml":  "stages: {test: [{name: a, after: [{name: " + name + "}]}]}",
			"02_second.yaml": "name: test\nstages: {test: [{name: test}]}",
		})
		if got := outcomes(n.run("test")); got != "test=done a=done" {
			t.Errorf("%s: %s", name, got)
		}
	}
}
