package stage

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/fetch"
)

const alice = 1000

// home makes a node with a user alice who has logged in before: her home is
// hers, and she did in it what the function does.
func home(t *testing.T, config string, prepare func(dir, home string)) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for chown")
	}
	n := newNode(t, map[string]string{"1.yaml": "#cloud-config\nusers: [{name: alice, uid: 1000}]\n", "2.yaml": config})
	n.Get = fetch.Client{}
	h := filepath.Join(n.dir, "home/alice")
	for _, d := range []string{h, filepath.Join(n.dir, "etc/cron.d"), filepath.Join(n.dir, "etc/sudoers.d")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(h, alice, alice); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	prepare(n.dir, h)
	return n
}

// alices makes a link that is hers.
func alices(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(name, alice, alice); err != nil {
		t.Fatal(err)
	}
}

// system describes all files of a root but homes and records, with what a user
// gains by them: owner, mode, content.
func system(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		short := strings.TrimPrefix(name, dir)
		if short == "/home" || short == "/run" {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		text := fmt.Sprintf("%v %d:%d", info.Mode(), st.Uid, st.Gid)
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			text += " " + string(data)
		}
		all[short] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestLinksInHomes: whatever a user puts into his home, no key of a step touches
// anything beyond it, at this boot or the next one.
func TestLinksInHomes(t *testing.T) {
	server := site(t, map[string]string{"/tool": "tool\n"})
	up := "../../"
	step := func(text string) string { return "stages: {boot: [{name: s, " + text + "}]}" }
	for name, c := range map[string]struct {
		config string
		links  map[string]string // in her home: target
	}{
		"file":                     {step("files: [{path: /home/alice/.profile, content: evil, owner: alice, permissions: 0644}]"), map[string]string{".profile": "/etc/shadow"}},
		"file, relative":           {step("files: [{path: /home/alice/.profile, content: evil, owner: alice}]"), map[string]string{".profile": up + "etc/shadow"}},
		"file, two links":          {step("files: [{path: /home/alice/.profile, content: evil}]"), map[string]string{".profile": "next", "next": up + "etc/shadow"}},
		"file, directory above":    {step("files: [{path: /home/alice/.config/evil, content: evil, owner: alice}]"), map[string]string{".config": "/etc/cron.d"}},
		"file, made above":         {step("files: [{path: /home/alice/.config/a/b/evil, content: evil, owner: alice}]"), map[string]string{".config": up + "etc/cron.d"}},
		"file, to nothing":         {step("files: [{path: /home/alice/.profile, content: evil, owner: alice}]"), map[string]string{".profile": "/etc/cron.d/evil"}},
		"directory":                {step("directories: [{path: /home/alice/data, owner: alice, permissions: 0777}]"), map[string]string{"data": "/etc/sudoers.d"}},
		"directory, to the root":   {step("directories: [{path: /home/alice/data, owner: alice}]"), map[string]string{"data": "/"}},
		"directory, to the parent": {step("directories: [{path: /home/alice/data/x, owner: alice}]"), map[string]string{"data": ".."}},
		"write_files":              {"#cloud-config\nwrite_files: [{path: /home/alice/.profile, content: evil, owner: 'alice:alice'}]\n", map[string]string{".profile": "/etc/shadow"}},
		"append":                   {step("files: [{path: /home/alice/.profile, content: evil, append: true, owner: alice}]"), map[string]string{".profile": "/etc/shadow"}},
		"owner to come":            {"#cloud-config\nwrite_files: [{path: /home/alice/.profile, content: evil, owner: carol}]\nusers: [{name: carol, uid: 1000}]\n", map[string]string{".profile": "/etc/shadow"}},
		"download":                 {step("downloads: [{url: '" + server.URL + "/tool', path: /home/alice/tool, owner: alice}]"), map[string]string{"tool": "/etc/shadow"}},
		"download into":            {step("downloads: [{url: '" + server.URL + "/tool', path: /home/alice/bin/, owner: alice}]"), map[string]string{"bin": "/etc/cron.d"}},
		"environment":              {step("environment: {A: b}, environment_file: /home/alice/.env"), map[string]string{".env": "/etc/shadow"}},
		"dns":                      {step("dns: {nameservers: [192.0.2.1], path: /home/alice/resolv.conf}"), map[string]string{"resolv.conf": "/etc/shadow"}},
		"keys":                     {step("authorized_keys: {alice: [ssh-ed25519 AAAA]}"), map[string]string{".ssh": "/etc/cron.d"}},
		"keys, relative":           {step("authorized_keys: {alice: [ssh-ed25519 AAAA]}"), map[string]string{".ssh": up + "etc/cron.d"}},
		"keys, file":               {step("authorized_keys: {alice: [ssh-ed25519 AAAA]}, directories: [{path: /home/alice/.ssh, owner: alice}]"), map[string]string{".ssh/authorized_keys": "/etc/shadow"}},
		"home in the home":         {"#cloud-config\nusers: [{name: alice, uid: 1000}, {name: bob, uid: 1001, homedir: /home/alice/bob}]\n", map[string]string{"bob": "/etc/sudoers.d"}},
		"home is the root":         {"#cloud-config\nusers: [{name: bob, uid: 1001, homedir: /.}]\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			n := home(t, c.config, func(dir, h string) {
				for name, target := range c.links {
					if d := filepath.Dir(filepath.Join(h, name)); d != h {
						if err := os.Mkdir(d, 0o700); err != nil {
							t.Fatal(err)
						}
						_ = os.Chown(d, alice, alice)
					}
					alices(t, target, filepath.Join(h, name))
				}
			})
			first := n.run("boot") // makes the account
			before := system(t, n.dir)
			for range 2 {
				n.run("boot")
			}
			for file, now := range system(t, n.dir) {
				if was, there := before[file]; !there || was != now {
					t.Errorf("%s: was %q, is %q", file, was, now)
				}
			}
			for file, now := range before {
				for _, evil := range []string{"evil", "tool", "AAAA", " 1000:", "192.0.2.1"} {
					if strings.Contains(file+now, evil) && !strings.HasPrefix(file, "/oem") && !strings.HasPrefix(file, "/etc/passwd") && !strings.HasPrefix(file, "/etc/group") {
						t.Errorf("%s is %q: %+v", file, now, first.Steps)
					}
				}
			}
			if first.Outcome != Failed && len(c.links) > 0 {
				t.Errorf("nothing is said: %+v", first.Steps)
			}
		})
	}
}

// TestHomesAreWritten: what configs write into homes gets there, at each boot,
// and is its owner's.
func TestHomesAreWritten(t *testing.T) {
	const config = `#cloud-config
stages:
  boot:
  - name: s
    after: [cloud-init]
    directories: [{path: /home/alice/data, owner: alice, group: alice, permissions: 0700}, {path: /home/alice/roots}]
    files:
    - {path: /home/alice/.profile, content: p, owner: alice, group: alice}
    - {path: /home/alice/.config/app/conf, content: c, ownerstring: alice}
    - {path: /home/alice/roots/file, content: r}
    - {path: /home/alice/dot/vimrc, content: v, owner: alice}
    - {path: /home/alice/by-root, content: b}
    environment: {A: b}
    environment_file: /home/alice/.env
    authorized_keys: {alice: [ssh-ed25519 AAAA]}
`
	n := home(t, config, func(_, h string) {
		if err := os.MkdirAll(filepath.Join(h, "dotfiles"), 0o755); err != nil {
			t.Fatal(err)
		}
		_ = os.Chown(filepath.Join(h, "dotfiles"), alice, alice)
		alices(t, "dotfiles", filepath.Join(h, "dot")) // to what is hers
	})
	n.run("boot")
	for i := range 2 {
		r := n.run("boot")
		if r.Outcome != Done {
			t.Fatalf("boot %d: %+v\n%s", i, r.Steps, n.log)
		}
		for _, s := range r.Steps {
			if len(s.Changed) > 0 {
				t.Errorf("boot %d: changed %q", i, s.Changed)
			}
		}
	}
	for file, want := range map[string]string{
		"data": "1000 700", ".profile": "1000 644 p", ".config/app/conf": "1000 644 c", ".config/app": "1000 755", ".config": "1000 755",
		"roots": "0 755", "roots/file": "0 644 r", "dotfiles/vimrc": "1000 644 v", "by-root": "0 644 b",
		".env": "0 644 A=b\n", ".ssh": "1000 700", ".ssh/authorized_keys": "1000 600 ssh-ed25519 AAAA\n",
	} {
		name := filepath.Join(n.dir, "home/alice", file)
		info, err := os.Lstat(name)
		if err != nil {
			t.Error(err)
			continue
		}
		got := fmt.Sprintf("%d %o", info.Sys().(*syscall.Stat_t).Uid, info.Mode().Perm())
		if !info.IsDir() {
			got += " " + n.read("home/alice/"+file)
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
}

// kairos-upgrade resolves the target once more, as root: what a user could
// exchange in between is refused before it runs.
func TestNothingIsUnpackedInAHome(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "kairos-upgrade"), []byte("#!/bin/sh\ntouch \"$0.ran\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	n := home(t, `stages: {network: [{name: a, unpack_images: [{source: quay.io/x/y:1, target: /home/alice/y/z}]}]}`, func(string, string) {})
	n.Booted = true
	r := n.run("network")
	if last := r.Steps[len(r.Steps)-1]; last.Outcome != Failed || !strings.Contains(strings.Join(last.Errors, " "), "other users than root can change it") {
		t.Errorf("%+v", last)
	}
	if _, err := os.Stat(filepath.Join(bin, "kairos-upgrade.ran")); err == nil {
		t.Error("kairos-upgrade ran")
	}
}
