package stage

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/credential"
	"github.com/kairos-io/toolkit/kairos-config/internal/fetch"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/testroot"
	"golang.org/x/sys/unix"
)

// site serves what configs fetch.
func site(t *testing.T, files map[string]string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, text)
	}))
	t.Cleanup(server.Close)
	return server
}

// TestEveryKeyTwice applies each key alone and looks at the result; the second
// run must change nothing.
func TestEveryKeyTwice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	server := site(t, map[string]string{"/tool": "#!/bin/true\n", "/alice.keys": "ssh-ed25519 CCCC alice@github\n<html>\n"})
	for _, c := range []struct {
		stage, step string
		files       map[string]string // what they hold afterwards; "+ " in front: among other lines
	}{
		{"boot", "dns: {nameservers: [192.0.2.1, '2001:db8::1'], search: [example.org]}", map[string]string{
			"etc/systemd/resolved.conf.d/60-kairos-config.conf": nativeHeader + "[Resolve]\nDNS=192.0.2.1 2001:db8::1\nDomains=example.org\n"}},
		{"boot", "dns: {nameservers: [192.0.2.1], search: [a, b], options: [edns0], path: /etc/resolv.conf}", map[string]string{
			"etc/resolv.conf": nativeHeader + "nameserver 192.0.2.1\nsearch a b\noptions edns0\n"}},
		{"boot", "downloads: [{url: 'SERVER/tool', path: /usr/local/bin/tool, permissions: 0755}]", map[string]string{"usr/local/bin/tool": "#!/bin/true\n"}},
		{"boot", "downloads: [{url: 'SERVER/tool', path: /usr/local, sha256: d10bd1b3b2a9b3a6f0e1a9a8a1dcbbf9bf8b4b9ec6f3ff3ec6cd3b9b8e4f5f3e}]", nil},
		{"boot", "ensure_entities: [{entity: 'kind: group\n\n  group_name: apps\n\n  gid: 950'}]", map[string]string{"etc/group": "+ apps:x:950:"}},
		{"boot", "ensure_entities: [{entity: \"kind: user\\nusername: svc\\nuid: -1\\nhomedir: /srv\"}, {entity: \"kind: shadow\\nusername: svc\\npassword: '!'\"}]",
			map[string]string{"etc/passwd": "+ svc:x:1000:1000::/srv:/bin/sh", "etc/shadow": "+ svc:!::0:99999:7:::"}},
		{"boot", "delete_entities: [{entity: 'kind: user\n\n  username: daemon'}]", map[string]string{"etc/passwd": "- daemon:"}},
		{"boot", "directories: [{path: /srv/a/b, permissions: 0700, owner: daemon}]", nil},
		{"boot", "files: [{path: /srv/f, content: x, owner: daemon, group: sudo, permissions: 0640}]", map[string]string{"srv/f": "x"}},
		{"boot", "hostname: node-7", map[string]string{"etc/hostname": "node-7\n"}},
		{"boot", "sysctl: {net.ipv4.ip_forward: 1, net/ipv4/conf/eth0.1/rp_filter: 0, kernel.core_pattern: core}", map[string]string{
			"etc/sysctl.d/99-kairos-config.conf": nativeHeader + "net.ipv4.ip_forward = 1\nnet/ipv4/conf/eth0.1/rp_filter = 0\nkernel.core_pattern = core\n"}},
		{"boot", "groups: [apps]", map[string]string{"etc/group": "+ apps:x:1000:"}},
		{"boot", "users: {alice: {passwd: hunter2, groups: [sudo]}}", map[string]string{"etc/passwd": "+ alice:x:1000:1000::/home/alice:/bin/bash", "etc/shadow": "+ alice:$y$j9T$"}},
		{"boot", "users: {alice: {passwd: hunter2, lock_passwd: true}}", map[string]string{"etc/shadow": "+ alice:!$y$j9T$"}},
		{"boot", "users: {alice: {groups: [admin, sudo]}}", map[string]string{
			"etc/sudoers.d/90-kairos-config-admin": nativeHeader + "%admin ALL=(ALL:ALL) NOPASSWD: ALL\n", "etc/sudoers": "%sudo ALL=(ALL:ALL) ALL\n"}},
		{"network", "authorized_keys: {root: ['github:alice']}", map[string]string{"root/.ssh/authorized_keys": "ssh-ed25519 CCCC alice@github\n"}},
		{"network", "authorized_keys: {root: ['SERVER/alice.keys']}", map[string]string{"root/.ssh/authorized_keys": "ssh-ed25519 CCCC alice@github\n"}},
		{"boot", "modules: [br_netfilter, dummy]", map[string]string{
			"etc/modules-load.d/kairos-config.conf": nativeHeader + "br_netfilter\ndummy\n"}},
		{"boot", "timesyncd: {NTP: 'a.example.org b.example.org', PollIntervalMinSec: 64}", map[string]string{
			"etc/systemd/timesyncd.conf.d/60-kairos-config.conf": nativeHeader + "[Time]\nNTP=a.example.org b.example.org\nPollIntervalMinSec=64\n"}},
		{"boot", "systemctl: {enable: [one.service], mask: [two.service]}", nil},
		{"boot", `systemctl: {overrides: [{service: one, name: 10-limits, content: "[Service]\nLimitNOFILE=4096"}]}`, map[string]string{
			"etc/systemd/system/one.service.d/10-limits.conf": "[Service]\nLimitNOFILE=4096\n"}},
		{"boot", "environment: {A: b c}", map[string]string{"etc/environment": "A=\"b c\"\n"}},
		{"boot", "{environment: {A: b}, environment_file: /etc/default/app}", map[string]string{"etc/default/app": "A=b\n"}},
		{"boot", "systemd_firstboot: {locale: C.UTF-8, timezone: Europe/Berlin}", nil},
		{"boot", "package_pins: {nginx: 1.26.3-3}", map[string]string{"etc/apt/preferences.d/kairos-config": nativeHeader + "\nPackage: nginx\nPin: version 1.26.3-3\nPin-Priority: 1001\n"}},
		{"boot", "commands: ['[ -e /tmp/x ] || echo once > /tmp/x']", map[string]string{"tmp/x": "once\n"}},
		{"boot", "{if_files: {all: [/etc/passwd]}, only_os: 'deb', only_os_version: '^13', only_arch: 'amd64|arm64', only_service_manager: systemd, files: [{path: /x, content: y}]}", map[string]string{"x": "y"}},
		{"boot", "{only_os: fedora, files: [{path: /x, content: y}]}", map[string]string{"x": "absent"}},
		{"boot", "{node: '^other-', files: [{path: /x, content: y}]}", map[string]string{"x": "absent"}},
	} {
		step := strings.ReplaceAll(c.step, "SERVER", server.URL)
		if !strings.HasPrefix(step, "{") {
			step = "{" + step + "}"
		}
		step = "{name: s, " + strings.TrimPrefix(step, "{")
		t.Run(c.step[:min(40, len(c.step))], func(t *testing.T) {
			n := newNode(t, map[string]string{"1.yaml": "stages: {" + c.stage + ": [" + step + "]}"})
			testroot.WithShell(t, n.dir)
			n.Get, n.KeyServers = fetch.Client{}, map[string]string{"github": server.URL}
			image(t, n.dir)
			first := n.run(c.stage)
			if strings.Contains(c.step, "sha256") { // the wrong one
				if len(first.Steps[0].Errors) != 1 || !strings.Contains(first.Steps[0].Errors[0], "the digest of the file is") {
					t.Errorf("got %+v", first.Steps[0])
				}
				return
			}
			if first.Outcome != Done || len(first.Steps[0].Errors) > 0 {
				t.Fatalf("got %+v\n%s", first.Steps[0], n.log)
			}
			if len(first.Steps[0].Changed) == 0 && first.Steps[0].Outcome == Done && !strings.Contains(c.step, "commands") {
				t.Error("the first run changed nothing")
			}
			for file, want := range c.files {
				got := n.read(file)
				switch {
				case strings.HasPrefix(want, "+ "):
					if !strings.Contains("\n"+got, "\n"+want[2:]) {
						t.Errorf("%s lacks %q: %s", file, want[2:], got)
					}
				case strings.HasPrefix(want, "- "):
					if strings.Contains("\n"+got, "\n"+want[2:]) {
						t.Errorf("%s has %q: %s", file, want[2:], got)
					}
				case want == "absent":
					if !strings.HasPrefix(got, "(") || first.Steps[0].Outcome != Skipped {
						t.Errorf("%s is there: %+v", file, first.Steps[0])
					}
				case got != want:
					t.Errorf("%s holds %q, want %q", file, got, want)
				}
			}
			if again := n.run(c.stage); len(again.Steps[0].Changed) > 0 || again.Outcome != Done {
				t.Errorf("the second run changed %q %q", again.Steps[0].Changed, again.Steps[0].Errors)
			}
		})
	}
}

// image gives a root what the keys of systemd expect in an image.
func image(t *testing.T, dir string) {
	t.Helper()
	for name, content := range map[string]string{
		"etc/os-release":                     "ID=debian\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"13\"\n",
		"usr/lib/systemd/systemd-resolved":   "",
		"usr/lib/systemd/system/one.service": "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
		"usr/lib/systemd/system/two.service": "[Service]\nExecStart=/bin/true\n",
		"usr/bin/apt-get":                    "",
		"etc/sudoers":                        "%sudo ALL=(ALL:ALL) ALL\n",
		"etc/sudoers.d/README":               "",
		"usr/share/zoneinfo/Europe/Berlin":   "TZif",
		"etc/localtime":                      "",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	n := newNode(t, nil)
	up, clone := t.TempDir(), filepath.Join(t.TempDir(), "a/clone")
	sh := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = up
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatal(string(out))
		}
	}
	sh("git init -q -b main; echo 1 > f; git add f; git commit -qm 1")
	// Beneath the root of this machine, whose git it is.
	root, err := rootfs.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	n.Root = root
	plan := func() *Plan {
		var c source.Collection
		c.Add("1.yaml", []byte("stages: {network: [{name: s, git: {url: '"+up+"', path: '"+clone+"', branch: main}}]}"))
		return NewPlan(&c, "network", Fill{})
	}
	apply := func(want string) {
		t.Helper()
		r := n.runStep(context.Background(), plan().Steps[0])
		if got := strings.Join(append(r.Changed, r.Errors...), " "); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	apply(clone)
	apply("")
	sh("echo 2 > f; git commit -qam 2")
	apply(clone)
	if data, _ := os.ReadFile(filepath.Join(clone, "f")); string(data) != "2\n" {
		t.Errorf("got %q", data)
	}
	if err := os.WriteFile(filepath.Join(clone, "f"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	apply(clone)
	apply("")
}

// TestGitInAHome: a clone in a user's directory is the user's, and root's git runs
// nothing that the user left there.
func TestGitInAHome(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs git and root")
	}
	n := newNode(t, nil)
	base := t.TempDir()
	up, home, ran := filepath.Join(base, "up"), filepath.Join(base, "home"), filepath.Join(base, "ran")
	sh := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = base
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b", "UP="+up, "H="+home, "RAN="+ran)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatal(string(out))
		}
	}
	sh("git init -q -b main $UP; cd $UP; echo 1 > f; ln -s /etc/passwd link; git add .; git commit -qm 1; mkdir $H; chown 1000:1000 $H")
	root, err := rootfs.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	n.Root = root
	records, _ := os.ReadDir(gitRecords)
	t.Cleanup(func() { // they are this machine's
		now, _ := os.ReadDir(gitRecords)
		for _, e := range now {
			if !slices.ContainsFunc(records, func(old os.DirEntry) bool { return old.Name() == e.Name() }) {
				os.Remove(filepath.Join(gitRecords, e.Name()))
			}
		}
	})
	apply := func(target string) string {
		t.Helper()
		var c source.Collection
		c.Add("1.yaml", []byte("stages: {network: [{name: s, git: {url: '"+up+"', path: '"+target+"', branch: main}}]}"))
		r := n.runStep(context.Background(), NewPlan(&c, "network", Fill{}).Steps[0])
		return strings.Join(append(r.Changed, r.Errors...), " ")
	}
	clone := home + "/clone"
	if got := apply(clone); got != clone {
		t.Fatal(got)
	}
	if got := apply(clone); got != "" {
		t.Errorf("a second time: %s", got)
	}
	for _, name := range []string{"clone", "clone/f", "clone/link", "clone/.git/HEAD"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(home, name), &st); err != nil || st.Uid != 1000 {
			t.Errorf("%s belongs to %d, %v", name, st.Uid, err)
		}
	}
	sh(`cd $H/clone; printf '#!/bin/sh\ntouch %s\n' $RAN > evil; chmod +x evil; for h in post-checkout post-merge reference-transaction; do cp evil .git/hooks/$h; done
		printf '[core]\nfsmonitor = %s\nsshCommand = %s\n' $H/clone/evil $H/clone/evil >> .git/config; chown -R 1000:1000 .; cd $UP; echo 2 > f; git commit -qam 2`)
	if got := apply(clone); got != clone {
		t.Error(got)
	}
	if data, _ := os.ReadFile(clone + "/f"); string(data) != "2\n" {
		t.Errorf("got %q", data)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("root ran what the user left in the clone")
	}
	sh("mkdir $RAN.d; ln -s $RAN.d $H/away; chown -h 1000:1000 $H/away")
	if got := apply(home + "/away"); !strings.Contains(got, "unsafe path") {
		t.Errorf("through a link: %s", got)
	}
	if names, _ := os.ReadDir(ran + ".d"); len(names) > 0 {
		t.Errorf("made there: %v", names)
	}
	if names, _ := filepath.Glob(home + "/.#*"); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// TestGitLogins: a login in an address is neither in argv nor in a file that
// stays.
func TestGitLogins(t *testing.T) {
	for in, want := range map[string]string{
		"https://tok@h/r":        "https://h/r tok ",
		"https://u:pw@h/r":       "https://h/r u pw",
		"https://h/r":            "https://h/r  ",
		"ssh://git@h/r":          "ssh://git@h/r  ",
		"git@h:r":                "git@h:r  ",
		"ssh://git:pw@h/r":       "error",
		"https://h/r?token=x":    "error",
		"https://h/r?access_x=1": "error",
	} {
		g, err := discreetGit(schema.Git{URL: in})
		got := g.URL + " " + g.Auth.Username + " " + string(g.Auth.Password)
		if err != nil {
			got = "error"
			if strings.Contains(err.Error(), "pw") || strings.Contains(err.Error(), "=x") {
				t.Errorf("%v", err)
			}
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

// TestCredentials: a secret gets where it is to go, and nowhere else.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "kairos.token"), []byte("hunter2 is it"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, map[string]string{"1.yaml": `#cloud-config
stages:
  boot:
  - name: s ${credential:token}
    files:
    - {path: /etc/private, content: 'x ${credential:token}'}
    - {path: /etc/public, content: '${credential:token}', permissions: 0644}
    environment: {A: '${credential:token}'}
    hostname: '${credential:token}'
    commands: ['echo "${credential:token}" | tee /tmp/out', 'tr "\0" " " < /proc/self/environ']
  - name: missing
    files: [{path: /etc/x, content: '${credential:none}'}]
  - name: right
    files: [{path: /etc/private, content: 'x ${credential:token}'}]
    commands: ['echo "${credential:token}"']
`})
	testroot.WithShell(t, n.dir)
	run := func() *Record {
		return n.Run(context.Background(), NewPlan(source.Collect(n.Root), "boot", Fill{Credentials: credential.In(dir)}))
	}
	r := run()
	if got := outcomes(r); got != "s (secret)=failed missing=failed right=done" {
		t.Errorf("got %s\n%s", got, n.log)
	}
	if n.read("etc/private") != "x hunter2 is it" || !strings.HasPrefix(n.read("etc/public"), "(") || !strings.HasPrefix(n.read("etc/x"), "(") {
		t.Error(n.read("etc/private"), n.read("etc/public"), n.read("etc/x"))
	}
	if info, err := os.Stat(filepath.Join(n.dir, "etc/private")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if !strings.Contains(n.log.String(), "right: (secret)") {
		t.Errorf("the output of the command is not there: %s", n.log)
	}
	for _, text := range []string{n.log.String(), n.read("run/kairos/config/boot.json")} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the secret is in %s", text)
		}
	}
	if again := run(); len(again.Steps[2].Changed) > 0 {
		t.Errorf("twice: %q", again.Steps[2].Changed)
	}
}

func TestAfter(t *testing.T) {
	for _, c := range [][2]string{
		{"{name: a, after: [c]}, {name: b}, {name: c, after: [{name: b}]}", "b=done c=done a=done"},
		{"{name: a, after: [b]}, {name: b, after: [a]}, {name: c, after: [a]}, {name: d}", "d=done a=failed b=failed c=failed"},
		{"{name: a, after: [none]}", "a=done"},
		{"{name: a, after: [2.z]}, {name: b}", "b=done z=done a=done"},
		{"{name: a, after: [a]}", "a=done"},
	} {
		n := newNode(t, map[string]string{"1.yaml": "stages: {boot: [" + c[0] + "]}", "2.yaml": "stages: {boot: [{name: z}]}"})
		got := outcomes(n.run("boot"))
		if !strings.Contains(c[1], "z=") {
			got = strings.TrimSpace(strings.Replace(got, "z=done", "", 1))
			got = strings.ReplaceAll(got, "  ", " ")
		}
		if got != c[1] {
			t.Errorf("%s:\ngot  %s\nwant %s", c[0], got, c[1])
		}
	}
}

// TestKeysOfEarlierStages: the stage network fetches what steps before it could
// not, keeps a copy, and uses that when the server is gone.
func TestKeysOfEarlierStages(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	keys := map[string]string{"/alice.keys": "ssh-ed25519 CCCC alice\n"}
	server := site(t, keys)
	n := newNode(t, map[string]string{"1.yaml": "#cloud-config\nssh_authorized_keys: ['github:alice', ssh-ed25519 AAAA local]\nstages: {initramfs: [{users: {bob: {ssh_authorized_keys: ['github:alice']}}}]}"})
	n.Get, n.KeyServers = fetch.Client{}, map[string]string{"github": server.URL}
	n.run("initramfs")
	if r := n.run("boot"); r.Outcome != Done || n.read("root/.ssh/authorized_keys") != "ssh-ed25519 AAAA local\n" {
		t.Errorf("without a network: %+v %s", r, n.read("root/.ssh/authorized_keys"))
	}
	r := n.run("network")
	if !strings.Contains(n.log.String(), "keys fetched without encryption") { // this server has none
		t.Errorf("not said: %s", n.log)
	}
	if got := outcomes(r); r.Outcome != Done || got != "ssh keys of initramfs.0=done ssh keys of cloud-init=done" {
		t.Errorf("got %s\n%s", got, n.log)
	}
	for _, file := range []string{"root/.ssh/authorized_keys", "home/bob/.ssh/authorized_keys"} {
		if !strings.Contains(n.read(file), "CCCC") {
			t.Errorf("%s: %s", file, n.read(file))
		}
	}
	// The next boot, /etc and the keys are as in the image, and the server is gone.
	server.Close()
	for _, file := range []string{"root/.ssh/authorized_keys", "home/bob/.ssh/authorized_keys"} {
		if err := os.Remove(filepath.Join(n.dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	if n.run("boot"); !strings.Contains(n.read("root/.ssh/authorized_keys"), "CCCC") {
		t.Error("the copy is not used before the network is up")
	}
	n.log.Reset()
	if r := n.run("network"); r.Outcome != Done || !strings.Contains(n.log.String(), "the last good copy is used") {
		t.Errorf("got %+v\n%s", r, n.log)
	}
}

func TestEntitiesAreChecked(t *testing.T) {
	n := newNode(t, map[string]string{"1.yaml": `stages: {boot: [{name: s, ensure_entities: [
  {entity: "kind: user\nusername: a:b"}, {entity: "kind: usr"}, {entity: "kind: group\ngroup_name: x\ngidd: 1"}, {entity: "kind: shadow\nusername: x\npassword: 'hunter2:'"}, {entity: "["}, {entity: "kind: user\nusername: x\nuid: 99999999999"}]}]}`})
	r := n.run("boot")
	if len(r.Steps[0].Errors) != 6 || len(r.Steps[0].Changed) > 0 || strings.Contains(strings.Join(r.Steps[0].Errors, ""), "hunter2") {
		t.Errorf("got %q, changed %q", r.Steps[0].Errors, r.Steps[0].Changed)
	}
}

// TestUnpackImages runs a program in the place of kairos-upgrade, which
// unpacks once.
func TestUnpackImages(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "kairos-upgrade"), []byte(`#!/bin/sh
echo "$@" >> "$0.args"
for dir; do :; done
case $* in *refused*) echo '{"message_type":"exit_error","code":4,"message":"the policy says no","hint":"sign it"}' >&2; exit 4 ;; esac
[ ! -e "$dir/there" ] || { echo '{"message_type":"exit_error","code":3,"message":"there"}' >&2; exit 3; }
touch "$dir/there"
`), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	n := newNode(t, map[string]string{"1.yaml": `stages: {network: [
  {name: a, unpack_images: [{source: quay.io/x/y:1, target: /srv/y}, {source: -x, target: /srv/z, platform: linux/arm64}]},
  {name: b, unpack_images: [{source: quay.io/x/refused:1, target: /srv/n}]}]}`})
	n.Booted = true
	r := n.run("network")
	if got := outcomes(r); got != "a=done b=failed" || !slices.Equal(r.Steps[0].Changed, []string{"/srv/y", "/srv/z"}) || r.Steps[1].Errors[0] != "unpack_images: kairos-upgrade: the policy says no" {
		t.Errorf("%s: %+v", got, r.Steps)
	}
	if r = n.run("network"); len(r.Steps[0].Changed) > 0 || r.Steps[0].Outcome != Done {
		t.Errorf("again: %+v", r.Steps[0])
	}
	args, _ := os.ReadFile(filepath.Join(bin, "kairos-upgrade.args"))
	if want := "unpack --json --quiet -- quay.io/x/y:1 " + n.dir + "/srv/y\nunpack --json --quiet --platform linux/arm64 -- -x " + n.dir + "/srv/z\n"; !strings.HasPrefix(string(args), want) {
		t.Errorf("it was run as\n%s", args)
	}
}

func TestRefusals(t *testing.T) {
	for step, want := range map[string]string{
		"layout: {add_partitions: [{fsLabel: X, size: 10}]}":                 "layout: works in the running system only",
		"unpack_images: [{source: quay.io/x/y:1, target: /srv/y}]":           "unpack_images: quay.io/x/y:1: works in the running system only",
		"packages: {install: [nginx]}":                                       "this root has no known package manager",
		"datasource: {providers: [aws]}":                                     "datasource: works in the running system only",
		"systemd_firstboot: {root-password: x}":                              "passwords are set by users",
		"systemd_firstboot: {timezon: x}":                                    `unknown setting "timezon" (did you mean "timezone"?)`,
		"sysctl: {'../../etc/passwd': 1}":                                    "is not the name of a value",
		"git: {url: 'ssh://u:hunter2@example.org/x', path: /srv/x}":          "could read a password in the URL",
		"git: {url: 'https://example.org/x?t=hunter2', path: /srv/x}":        "could read the query of the URL",
		"downloads: [{url: 'http://127.0.0.1:1/x', path: /srv/x}]":           "connection refused",
		"authorized_keys: {root: ['github:../x']}":                           `"../x" is not a name at github`,
		"systemctl: {overrides: [{service: a, name: ../x, content: '[x]'}]}": "x",
	} {
		n := newNode(t, map[string]string{"1.yaml": "stages: {network: [{name: s, " + step + "}]}"})
		n.Get = fetch.Client{}
		r := n.run("network")
		said := strings.Join(r.Steps[0].Errors, " ")
		if r.Outcome != Failed || !strings.Contains(said, want) && len(r.Steps[0].Problems) == 0 || strings.Contains(said, "hunter2") {
			t.Errorf("%s: got %q %v, want %s", step, said, r.Steps[0].Problems, want)
		}
	}
}
