package provider

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/testroot"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// image is a root with a shell and files, executable when they are providers.
func image(t *testing.T, files map[string]string) *rootfs.Root {
	t.Helper()
	dir := testroot.New(t)
	testroot.WithShell(t, dir)
	for name, content := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func parse(t *testing.T, text string) *tree.Node {
	t.Helper()
	n, problems := tree.Parse("/oem/90.yaml", []byte(text))
	if problems.Failed() {
		t.Fatal(problems)
	}
	return n
}

func TestProviders(t *testing.T) {
	root := image(t, map[string]string{
		"usr/lib/kairos/providers.d/10-echo":    "#!/bin/sh\necho '{\"stages\":{\"'$1'\":[{\"name\":\"from 10\",\"commands\":['; tr -d '\\n' | tr '{}\":' '    ' | cat - ; echo ']}]}}'\n",
		"usr/lib/kairos/providers.d/20-hidden":  "#!/bin/sh\nexit 1\n",
		"etc/kairos/providers.d/20-hidden":      "#!/bin/sh\nexit 0\n",
		"usr/lib/kairos/providers.d/30-fails":   "#!/bin/sh\necho no cluster >&2; exit 7\n",
		"usr/lib/kairos/providers.d/40-other":   "#!/bin/sh\necho 'hostname: x'\n",
		"usr/lib/kairos/providers.d/50-broken":  "#!/bin/sh\necho 'a: ['\n",
		"usr/lib/kairos/providers.d/60-fork":    "#!/bin/sh\nsleep 100 & echo 'stages: {boot: [{name: forked}]}'\n",
		"usr/lib/kairos/providers.d/70-endless": "#!/bin/sh\nl=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; l=$l$l$l$l; i=0; while [ $i -lt 10000 ]; do echo \"$l\"; i=$((i+1)); done\n",
	})
	docs, problems := Steps(t.Context(), root, "boot", parse(t, "k0s: {enabled: true}\n"))
	var got []string
	for _, p := range problems {
		got = append(got, p.Error())
	}
	want := []string{
		"provider 30-fails: error: 30-fails: no cluster",
		"provider 40-other: error: its output is not a map with the key stages",
		"provider 50-broken:1:4: error: not valid YAML",
		"provider 70-endless: error: 70-endless prints more than 1 MiB",
	}
	if len(got) != len(want) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
	if len(docs) != 2 || docs[0].Source != "provider 10-echo" || docs[1].Source != "provider 60-fork" {
		t.Fatalf("got %+v", docs)
	}
	if text, _ := docs[0].Root.MarshalJSON(); !strings.Contains(string(text), "k0s") || !strings.Contains(string(text), `"boot":[{"name":"from 10"`) {
		t.Errorf("the provider did not get the config: %s", text)
	}
}

func TestNobodyProvides(t *testing.T) {
	_, problems := Steps(t.Context(), image(t, nil), "boot", parse(t, "p2p: {network_token: x}\nk3s: {enabled: true}\n"))
	if len(problems) != 2 || problems[0].Error() != "/oem/90.yaml:2:6: warning: k3s: this image has no K3s (searched: /usr/local/bin/k3s and /usr/bin/k3s)" ||
		!strings.HasPrefix(problems[1].Error(), "/oem/90.yaml:1:6: warning: no provider in this image reads the block p2p") {
		t.Errorf("got %v", problems)
	}
}

const cluster = `k3s:
  enabled: true
  args: [--disable=traefik, --disable, servicelb, --cluster-init, --tls-san=it\'s.example.org]
  env: {K3S_TOKEN: '${credential:k3s-token}', ODD: 'a "b"'}
  embedded_registry: true
`

func TestK3s(t *testing.T) {
	root := image(t, map[string]string{"usr/local/bin/k3s": ""})
	docs, problems := Steps(t.Context(), root, "boot", parse(t, cluster))
	if len(docs) != 1 || len(problems) > 0 {
		t.Fatalf("got %+v, %v", docs, problems)
	}
	head, problems := schema.DecodeHead(docs[0].Root)
	if len(problems) > 0 || len(head.Stages) != 1 || head.Stages[0].Name != "boot" {
		t.Fatalf("got %+v, %v", head, problems)
	}
	step, problems := schema.DecodeStep(head.Stages[0].Steps[0])
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := "# Written by kairos-config(8) from the block k3s of the node's cloud-config.\n" +
		"disable:\n- traefik\n- servicelb\ncluster-init: true\ntls-san: 'it''s.example.org'\nembedded-registry: true\n"
	if f := step.Files[0]; f.Path != k3sConfig || f.Content != want || f.Permissions.Bits != 0o600 {
		t.Errorf("got %+v", f)
	}
	if n, problems := tree.Parse("x", []byte(step.Files[0].Content)); problems.Failed() || n.Field("tls-san").Text != "it's.example.org" {
		t.Errorf("K3s could not read its config: %v", problems)
	}
	if f := step.Files[1]; f.Path != k3sEnv || !strings.HasSuffix(f.Content, "K3S_TOKEN=\"${credential:k3s-token}\"\nODD=\"a \\\"b\\\"\"\n") || f.Permissions.Bits != 0o600 {
		t.Errorf("got %+v", f)
	}
	if f := step.Files[2]; f.Path != "/run/systemd/system/k3s.service" || !strings.Contains(f.Content, "ExecStart=/usr/local/bin/k3s server\n") {
		t.Errorf("got %+v", f)
	}
	if s := step.Systemctl; strings.Join(s.Enable, " ") != "k3s.service" || strings.Join(s.Start, " ") != "k3s.service" || len(s.Overrides) != 1 {
		t.Errorf("got %+v", s)
	}
}

func TestK3sLeavesTheUnitOfTheImage(t *testing.T) {
	root := image(t, map[string]string{"usr/bin/k3s": "", "usr/lib/systemd/system/k3s-agent.service": ""})
	docs, _ := Steps(t.Context(), root, "boot", parse(t, "k3s-agent: {enabled: true}\n"))
	head, _ := schema.DecodeHead(docs[0].Root)
	if step, _ := schema.DecodeStep(head.Stages[0].Steps[0]); len(step.Files) != 2 || step.Systemctl.Enable[0] != "k3s-agent.service" {
		t.Errorf("got %+v", step)
	}
	for _, text := range []string{"k3s: {enabled: false}", "k3s: {args: [a]}", "hostname: x"} {
		if docs, problems := Steps(t.Context(), root, "boot", parse(t, text)); len(docs)+len(problems) > 0 {
			t.Errorf("%s: got %+v, %v", text, docs, problems)
		}
	}
	var problems diag.List
	if kubernetes(root, "network", parse(t, "k3s: {enabled: true}"), &problems) != nil {
		t.Error("K3s is started twice")
	}
	if kubernetes(root, "boot", parse(t, "k3s: {enabled: true, args: [agent]}"), &problems); len(problems) != 1 || !strings.Contains(problems[0].Message, `"agent" is not an option`) {
		t.Errorf("got %v", problems)
	}
}

// steps returns what the keys of a config make for a stage: the steps, whether
// their config is strict, and what is wrong.
func steps(t *testing.T, root *rootfs.Root, stage, config string) (list []schema.Step, strict []bool, problems diag.List) {
	t.Helper()
	docs, problems := Steps(t.Context(), root, stage, parse(t, config))
	for _, doc := range docs {
		head, found := schema.DecodeHead(doc.Root)
		problems = append(problems, found...)
		for _, s := range head.Stages {
			for _, n := range s.Steps {
				step, found := schema.DecodeStep(n)
				problems = append(problems, found...)
				list, strict = append(list, step), append(strict, head.Strict)
			}
		}
	}
	return list, strict, problems
}

// TestMountsThatTheImageLacks: as kairos-root(8) decides.
func TestMountsThatTheImageLacks(t *testing.T) {
	root := image(t, map[string]string{"usr/bin/sh": "", "data/x": ""})
	if err := os.Mkdir(filepath.Join(root.Path(), "mnt"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, addable := range map[string]bool{
		"/mnt": true, "/mnt/a": true, "/mnt/a/b": true, "/data": true, "/data/a": false, "/new": false, "/usr/bin/x": false, "/var/x": true,
	} {
		_, _, problems := steps(t, root, "rootfs", "install: {bind_mounts: ["+name+"]}")
		if addable != (len(problems) == 0) {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

// TestMounts: the paths of install reach kairos-root, beside those of a step.
func TestMounts(t *testing.T) {
	list, _, problems := steps(t, image(t, nil), "rootfs", "install: {bind_mounts: [/var/lib/app, relative, /var/lib/b], ephemeral_mounts: [/scratch]}")
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "/scratch can't be made writable: the image has no such directory") || len(list) != 1 {
		t.Fatalf("%+v, %v", list, problems)
	}
	f := list[0].Files[0]
	if f.Path != "/run/cos/custom-layout.env" || !f.Append || f.Content != "CUSTOM_BIND_MOUNTS=\"/var/lib/app /var/lib/b\"\nCUSTOM_EPHEMERAL_MOUNTS=\"/scratch\"\n" {
		t.Errorf("%+v", f)
	}
	if list, _, _ := steps(t, image(t, nil), "rootfs", "install: {auto: true}"); len(list) > 0 {
		t.Errorf("%+v", list)
	}
}

// TestHardening: the file comes and goes with the key.
func TestHardening(t *testing.T) {
	list, _, _ := steps(t, image(t, nil), "initramfs", "install: {ssh_hardening: true}")
	if len(list) != 1 || list[0].Files[0].Path != hardeningFile || !strings.Contains(list[0].Files[0].Content, "PermitEmptyPasswords no") {
		t.Fatalf("%+v", list)
	}
	if list, _, _ := steps(t, image(t, nil), "initramfs", "install: {ssh_hardening: false}"); len(list) > 0 {
		t.Errorf("%+v", list)
	}
	list, _, _ = steps(t, image(t, map[string]string{hardeningFile: "x"}), "initramfs", "hostname: a")
	if len(list) != 1 || list[0].Commands[0].Script != "rm -f "+hardeningFile {
		t.Errorf("%+v", list)
	}
}

// TestBundles: each target becomes steps of the stage network.
func TestBundles(t *testing.T) {
	const config = `bundles:
- {targets: ["run://quay.io/acme/bundle:1", "container:quay.io/acme/tools:1"], rootfs_path: /usr/local/tools}
- {targets: [package:utils/edgevpn], allow_failure: true, repository: quay.io/acme/packages}
- {targets: ["run:/oem/b.tar"], local_file: true}
install: {bundles: [{targets: ["container://quay.io/acme/more:1"]}]}
fail_on_bundles_errors: true
`
	list, strict, problems := steps(t, image(t, map[string]string{"usr/bin/luet": ""}), "network", config)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	for i, s := range list {
		line := s.Name
		for _, u := range s.UnpackImages {
			line += " | " + u.Source + " -> " + strings.TrimRight(u.Target, "0123456789abcdef")
		}
		for _, c := range s.Commands {
			line += " | " + c.Script[:4]
		}
		if strict[i] {
			line += " | strict"
		}
		got = append(got, line)
	}
	want := []string{
		"Bundle run://quay.io/acme/bundle:1 | quay.io/acme/bundle:1 -> /run/kairos/bundles/ | strict",
		"Run bundle run://quay.io/acme/bundle:1 | cd / | strict",
		"Bundle container:quay.io/acme/tools:1 | quay.io/acme/tools:1 -> /usr/local/tools | strict",
		"Bundle package:utils/edgevpn | luet",
		"Bundle run:/oem/b.tar | file:/oem/b.tar -> /run/kairos/bundles/ | strict",
		"Run bundle run:/oem/b.tar | cd / | strict",
		"Bundle container://quay.io/acme/more:1 | quay.io/acme/more:1 -> / | strict",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for config, want := range map[string]string{
		"bundles: [{targets: [package:x]}]":   "this image has no luet",
		"bundles: [{targets: [x]}]":           "targets must be container:IMAGE",
		"bundles: [{repository: x}]":          "targets is missing",
		"bundles: [{targets: ['run://']}]":    "targets must be container:IMAGE",
		"bundles: {targets: ['run://img:1']}": "bundles must be a list",
	} {
		if _, _, problems := steps(t, image(t, nil), "network", config); len(problems) == 0 || !strings.Contains(problems[0].Message, want) {
			t.Errorf("%s: %v, want %s", config, problems, want)
		}
	}
}
