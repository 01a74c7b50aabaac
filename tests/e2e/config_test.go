package e2e

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/tests/oci"
	"github.com/kairos-io/toolkit/tests/story"
)

// everyKey is a config with every step key, beside what the installation's own
// config has.
const everyKey = `#cloud-config
stages:
  initramfs:
    - name: Before the system starts
      sysctl: {vm.swappiness: 17}
      modules: [dummy]
      dns: {nameservers: [192.0.2.53], search: [initramfs.example.org]}
      timesyncd: {NTP: ntp.example.org}
      systemd_firstboot: {timezone: Europe/Berlin}
      groups: [apps]
      systemctl:
        enable: [systemd-timesyncd.service]
        mask: [ctrl-alt-del.target]
        overrides:
          - {service: systemd-timesyncd, name: 10-test, content: "[Unit]\nDescription=Clock of the test"}
  boot:
    - name: Last
      after: [First]
      commands: ['cat /run/order > /run/after-order']
    - name: First
      commands: ['echo first > /run/order']
      assess: required
    - name: Elsewhere
      only_os: fedora
      commands: [touch /run/wrong]
    - name: Here
      only_os: debian
      only_os_version: '^13'
      only_arch: amd64
      only_service_manager: systemd
      node: '^node-[19]$'
      if: '[ -e /run/cos/active_mode ]'
      if_files: {all: [/etc/passwd], any: [/nowhere, /etc], none: [/nowhere]}
      ensure_entities:
        - {entity: "kind: group\ngroup_name: entity\ngid: 950"}
      directories: [{path: /srv/data, permissions: 0750, group: 950}]
      files:
        - {path: /srv/data/b64, encoding: gz+b64, content: H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA==, permissions: 0640, ownerstring: "daemon:daemon"}
      hostname: node-9
      sysctl: {net.ipv4.ip_forward: 1}
      users:
        alice: {passwd: hunter2, groups: [sudo, apps], shell: /bin/bash, gecos: Alice}
      authorized_keys: {alice: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICSsNQFTQynRwicG8ua1o8Ejob+zSs0bRM1S7Do7ryaJ alice]}
      environment: {SITE: the lab}
      environment_file: /etc/default/site
      layout:
        device: {path: /dev/LOOP, init_disk: true}
        add_partitions: [{fsLabel: DATA, pLabel: data, size: 32}]
      systemctl: {start: [kairos-config-reconcile.timer]}
    - name: Delete
      after: [Here]
      delete_entities: [{entity: "kind: group\ngroup_name: entity"}]
    - name: Packages
      packages: {install: [nginx]}
  network:
    - name: From the network
      downloads: [{url: SERVER/tool, path: /usr/local/bin/tool, permissions: 0755}]
      git: {url: /srv/up, path: /srv/clone, branch: main}
      users: {alice: {ssh_authorized_keys: [SERVER/alice.keys]}}
      datasource: {providers: [file], path: /run/userdata}
    - name: Images
      unpack_images: [{source: IMAGE, target: /usr/local/unpacked}]
  reconcile:
    - name: Again
      commands: [touch /run/reconciled]
`

// TestEveryKey stages a config with every step key, boots with it, and looks
// for each effect with the guest's own tools.
func TestEveryKey(t *testing.T) {
	turn(t, 120)
	n := booted(t)
	keys := keysFile(t)
	server := strings.TrimSuffix(serve(t, keys), "/alice.keys")
	// A config that the node fetches, and that asks for another one.
	for name, text := range map[string]string{
		"node.yaml": "#cloud-config\nconfig_url: " + server + "/more.yaml\nusers: [{name: carol, groups: [sudo]}]\nstages: {boot: [{name: Fetched, commands: [touch /run/fetched]}]}\n",
		"more.yaml": "#cloud-config\nstages: {network: [{name: Chained, commands: [touch /run/chained]}]}\n",
	} {
		must(t, os.WriteFile(filepath.Join(filepath.Dir(keys), name), []byte(text), 0o644))
	}
	config := strings.NewReplacer("SERVER", server, "IMAGE", smallImage(t, n.Dir), "/dev/LOOP", "/dev/loop7").Replace(everyKey)
	// What the steps of the boot need is there before them.
	config += `  fs:
    - name: What the others need
      commands:
        - readlink /proc/self/ns/mnt > /run/ns-of-stage
        - truncate -s 128M /run/disk && losetup -P /dev/loop7 /run/disk
        - |
          printf '#cloud-config\nsite: from a datasource\n' > /run/userdata
          git init -q -b main /srv/up && cd /srv/up && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one
  before-upgrade:
    - {name: Before, commands: ['echo before > /run/hooks']}
  after-upgrade-chroot:
    - name: In the new system
      files: [{path: /usr/local/of-the-new, content: new, permissions: 0644}]
      commands:
        - '. /etc/os-release && echo "$PRETTY_NAME" > /oem/new-system'
        - 'readlink /proc/self/ns/mnt > /oem/new-namespace; echo chroot >> /run/hooks'
        - mkdir /data && touch /etc/in-vain
  after-upgrade:
    - {name: After, commands: ['echo after >> /run/hooks']}
`
	config += strings.NewReplacer("SERVER", server, "IMAGE", smallImage(t, n.Dir)).Replace(`
config_url: "SERVER/node.yaml?host={{ .Values.node.hostname }}"
bundles: [{targets: ["container:IMAGE"], rootfs_path: /usr/local/bundle}]
install: {bind_mounts: [/var/lib/app], ephemeral_mounts: [/srv/scratch], ssh_hardening: true}
`)
	must(t, n.WriteFile(t.Context(), "/run/91_every.yaml", config))
	if said := output(t, n, "kairos-config diff /run/91_every.yaml"); !strings.Contains(said, "+ stages.boot.") || strings.Contains(said, "hunter2") {
		t.Errorf("diff says:\n%s", said)
	}
	fails(t, n, 1, "sed 's/modules:/moduls:/' /run/91_every.yaml > /run/51_typo.yaml; kairos-config stage /run/51_typo.yaml", `did you mean "modules"`, "nothing was staged")
	output(t, n, "kairos-config stage /run/91_every.yaml")
	fails(t, n, 3, "kairos-config stage /run/91_every.yaml", "the configs are unchanged")
	must(t, n.Reboot(t.Context()))

	if r := configStatus(t, n); len(r.Config.Generations) != 1 || r.Config.Booted != r.Config.Generations[0].ID || r.Config.Generations[0].State != "booted" {
		t.Errorf("the config's state is %+v", r.Config)
	}
	for _, c := range []struct{ script, want string }{
		{"sysctl -n vm.swappiness net.ipv4.ip_forward", "17\n1"},
		{"cat /run/sysctl.d/99-kairos-config.conf | grep -c =", "2"},
		{"lsmod | grep -cw dummy", "1"},
		{"resolvectl dns | grep -o 192.0.2.53 | head -1; resolvectl domain | grep -o initramfs.example.org | head -1", "192.0.2.53\ninitramfs.example.org"},
		{"timedatectl show -p Timezone --value; timedatectl show-timesync -p SystemNTPServers --value", "Europe/Berlin\nntp.example.org"},
		{"systemctl cat systemd-timesyncd | grep -c 'Clock of the test'; systemctl show -p Description --value systemd-timesyncd", "1\nClock of the test"},
		{"systemctl is-active systemd-timesyncd; systemctl is-enabled ctrl-alt-del.target || true", "active\nmasked-runtime"},
		{"ls /etc/systemd/system/systemd-timesyncd* 2>/dev/null | wc -l", "0"},
		{"cat /run/after-order; ls /run/wrong 2>&1 | grep -c 'No such'", "first\n1"},
		{"hostnamectl --static; hostname; getent hosts node-9 | grep -c 127.0.1.1", "node-9\nnode-9\n1"},
		{"stat -c '%a %g' /srv/data; cat /srv/data/b64; echo; stat -c '%a %U:%G' /srv/data/b64", "750 950\nhello\n640 daemon:daemon"},
		{"getent passwd alice | cut -d: -f5-; id -nG alice", "Alice:/home/alice:/bin/bash\nalice sudo apps"},
		{"getent shadow alice | cut -d: -f2 | cut -c1-7", "$y$j9T$"},
		{"cat /etc/default/site", `SITE="the lab"`},
		{"getent group entity || echo gone", "gone"},
		{"for tag in PART_ENTRY_NAME TYPE LABEL; do blkid -p -o value -s $tag /dev/loop7p1; done", "data\next4\nDATA"},
		{"systemctl is-enabled kairos-config-reconcile.timer; systemctl is-active kairos-config-reconcile.timer", "enabled\nactive"},
		{"systemctl start kairos-config-reconcile.service && ls /run/reconciled", "/run/reconciled"},
		{"findmnt -no TARGET /var/lib/app; touch /var/lib/app/kept; ls /usr/local/.state/var-lib-app.bind", "/var/lib/app\nkept"},
		{"mkdir -p /run/sshd; /usr/sbin/sshd -T | grep -E '^(maxauthtries|x11forwarding|permitemptypasswords) ' | sort", "maxauthtries 3\npermitemptypasswords no\nx11forwarding no"},
		{"cmp /run/ns-of-stage <(readlink /proc/1/ns/mnt) && echo same", "same"},
	} {
		if got := strings.TrimSpace(try(t, n, "%s", c.script).Stdout); got != c.want {
			t.Errorf("%s:\ngot  %q\nwant %q", c.script, got, c.want)
		}
	}
	output(t, n, "systemctl is-active --quiet kairos-config@network.service || systemctl start kairos-config@network.service")
	for _, c := range []struct{ script, want string }{
		{"tool", "a tool"},
		{"cat /usr/local/unpacked/etc/app.conf && grep -c manifest_digest /usr/local/unpacked/.kairos-unpacked.json", "app of the test\n1"},
		{"git -C /srv/clone log --format=%s", "one"},
		{"cat /usr/local/bundle/etc/app.conf", "app of the test"},
		{"ls /run/fetched /run/chained; id -nG carol; ls /oem/.config-url | wc -l", "/run/chained\n/run/fetched\ncarol sudo\n2"},
		{"grep -c alice@network /home/alice/.ssh/authorized_keys; grep -c AAAAC3NzaC1lZDI1NTE5AAAAICSsNQ /home/alice/.ssh/authorized_keys", "1\n1"},
		{"cat /oem/95_userdata.yaml | tail -1; kairos-config get site", "site: from a datasource\nfrom a datasource"},
		{"grep -rl hunter2 /run/kairos /run/log /var/log 2>/dev/null; journalctl -b -o export | grep -c hunter2", "0"},
	} {
		if got := strings.TrimSpace(try(t, n, "%s", c.script).Stdout); got != c.want {
			t.Errorf("%s:\ngot  %q\nwant %q", c.script, got, c.want)
		}
	}
	refused := map[string]string{"Packages": "the root is read-only"}
	for _, stage := range configStatus(t, n).Stages {
		for _, step := range stage.Steps {
			said := strings.Join(step.Errors, " ")
			if step.Outcome == "skipped" && step.Name != "Elsewhere" {
				t.Errorf("stage %s, step %s was skipped: %s", stage.Stage, step.Name, step.Reason)
			}
			if want := refused[step.Name]; step.Outcome == "failed" && (want == "" || !strings.Contains(said, want)) {
				t.Errorf("stage %s, step %s failed: %s", stage.Stage, step.Name, said)
			}
		}
	}
	// Once more: nothing changes, commands aside.
	for _, stage := range []string{"boot", "network"} {
		record := try(t, n, "kairos-config run-stage --quiet --json %s", stage).Stdout
		var again stageRecord
		must(t, json.Unmarshal([]byte(record), &again))
		for _, step := range again.Steps {
			switch step.Name {
			case "Here", "Delete", // one makes a group, the other takes it away
				"cloud-init": // has another host name, which Here replaces
				continue
			}
			if len(step.Changed) > 0 {
				t.Errorf("the second run of the stage %s, step %s, changed %q", stage, step.Name, step.Changed)
			}
		}
	}
	// An upgrade, with a stage in the new system.
	output(t, n, "kairos-upgrade stage %s", n.Ref("v2"))
	for _, c := range []struct{ script, want string }{
		{"cat /run/hooks; cat /usr/local/of-the-new", "before\nafter\nnew"},
		{"cmp /oem/new-namespace <(readlink /proc/1/ns/mnt) >/dev/null && echo same; ls -d /data /etc/in-vain 2>/dev/null; grep -c /run/kairos/hook /proc/mounts", "0"},
		{"grep -c . /oem/new-system; kairos-config status | grep -o 'thrown away.*says: .*in-vain'", "1\nthrown away, since an image is what its digest says: /data, /etc/in-vain"},
		{"kairos-upgrade verify --quiet >/dev/null && echo sound", "sound"},
	} {
		if got := strings.TrimSpace(try(t, n, "%s", c.script).Stdout); got != c.want {
			t.Errorf("%s:\ngot  %q\nwant %q", c.script, got, c.want)
		}
	}
}

// TestStagedConfig stages a config that fails, and watches the node come back
// with the old one and the reason.
func TestStagedConfig(t *testing.T) {
	turn(t, 160)
	n := booted(t)
	must(t, n.WriteFile(t.Context(), "/run/60_killer.yaml", `#cloud-config
strict: true
hostname: killed
stages:
  boot:
    - name: The killer
      commands: [exit 7]
`))
	before := status(t, n)
	output(t, n, "kairos-config stage /run/60_killer.yaml")
	staged := status(t, n)
	if staged.Staged == "" || len(staged.Deployments) != 2 || staged.Find(staged.Staged).ImageDigest != before.Find(before.Booted).ImageDigest {
		t.Fatalf("staged is %+v", staged)
	}
	// It is taken back, and staged again.
	output(t, n, "kairos-config discard")
	if after := status(t, n); after.Staged != "" || len(after.Deployments) != 1 {
		t.Errorf("after discard there is %+v", after)
	}
	fails(t, n, 3, "kairos-config discard", "nothing to do")
	output(t, n, "kairos-config stage /run/60_killer.yaml")

	// The last of its tries: TestLife goes through all of them.
	entry := "/efi/loader/entries/kairos-" + status(t, n).Staged
	output(t, n, "mv %s+3.conf %s+1.conf", entry, entry)
	next := n.Machine.Boots() + 2 // that one and the way back
	output(t, n, "systemctl reboot")
	must(t, n.ReadyAt(t.Context(), next))
	if name := output(t, n, "hostname"); name != "node-1" {
		t.Errorf("the host is called %q: the config that failed is in use", name)
	}
	// The one that was discarded may stay until its deployment is collected.
	r := configStatus(t, n)
	if r.Config.Booted != "" || len(r.Config.Generations) == 0 {
		t.Fatalf("the config's state is %+v", r.Config)
	}
	for i, g := range r.Config.Generations {
		last := i == len(r.Config.Generations)-1
		if last != (g.State == "failed") || last != strings.Contains(g.Reason, "The killer") || last != strings.Contains(g.Reason, "exit status 7") {
			t.Errorf("of the generations %+v only the last one failed", r.Config.Generations)
		}
	}
	if after := status(t, n); len(after.Quarantined) != 0 {
		t.Errorf("the image was quarantined, and it was the config's fault: %+v", after.Quarantined)
	}
}

// TestApplyNow applies a part of a config without a reboot.
func TestApplyNow(t *testing.T) {
	turn(t, 10)
	n := booted(t)
	must(t, n.WriteFile(t.Context(), "/run/70_now.yaml", `#cloud-config
stages:
  rootfs: [{name: Too early, files: [{path: /run/x, content: x}]}]
  initramfs: [{name: Early, files: [{path: /etc/motd, content: now}]}]
  boot: [{name: Now, hostname: node-5, sysctl: {vm.swappiness: 23}}]
`))
	said := output(t, n, "kairos-config apply --now /run/70_now.yaml")
	for _, want := range []string{"applied: initramfs, Early (/oem/70_now.yaml:4)", "applied: boot, Now", "needs a reboot: rootfs, Too early"} {
		if !strings.Contains(said, want) {
			t.Errorf("apply doesn't say %q:\n%s", want, said)
		}
	}
	if got := output(t, n, "cat /etc/motd; echo; hostname; sysctl -n vm.swappiness"); got != "now\nnode-5\n23" {
		t.Errorf("got %q", got)
	}
	// A command that kills its parent ends the stage, and doesn't hang it.
	must(t, n.WriteFile(t.Context(), "/oem/80_kills.yaml", "#cloud-config\nstages: {kills: [{name: Patricide, commands: ['kill -9 $PPID; sleep 300']}]}\n"))
	if result := try(t, n, "kairos-config run-stage kills; kairos-config status"); !strings.Contains(result.Stdout, "Patricide") || !strings.Contains(result.Stdout, "running") {
		t.Errorf("the stage's record: %s", result.Output())
	}
}

// stageRecord is what kairos-config says of a stage.
type stageRecord struct {
	Stage string `json:"stage"`
	Steps []struct {
		Name    string   `json:"name"`
		Outcome string   `json:"outcome"`
		Reason  string   `json:"reason"`
		Errors  []string `json:"errors"`
		Changed []string `json:"changed"`
	} `json:"steps"`
}

type configState struct {
	Stages []stageRecord `json:"stages"`
	Config struct {
		Booted      string `json:"booted"`
		Staged      string `json:"staged"`
		Generations []struct {
			ID     string `json:"id"`
			State  string `json:"state"`
			Reason string `json:"reason"`
		} `json:"generations"`
	} `json:"config"`
}

func configStatus(t *testing.T, n *story.Node) configState {
	t.Helper()
	var s configState
	must(t, json.Unmarshal([]byte(output(t, n, "kairos-config status --json")), &s))
	return s
}

// keysFile is a folder to serve: keys, and a tool beside them.
func keysFile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"alice.keys": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDCl2rirI1pJ4ylvPjU8qoWfYM/AwL88aW/H1PEsqYa8 alice@network\n", "tool": "#!/bin/sh\necho a tool\n"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return filepath.Join(dir, "alice.keys")
}

// smallImage puts an image of one file into the registry, and returns its name there. It is made in a
// folder of dir.
func smallImage(t *testing.T, dir string) string {
	t.Helper()
	const content = "app of the test\n"
	layer, err := oci.CreateLayer(filepath.Join(dir, "app-layer"), "an app", func(w io.Writer) error {
		archive := tar.NewWriter(w)
		err := archive.WriteHeader(&tar.Header{Name: "etc/app.conf", Mode: 0o644, Size: int64(len(content))})
		if err == nil {
			_, err = io.WriteString(archive, content)
		}
		return errors.Join(err, archive.Close())
	})
	must(t, err)
	layout := filepath.Join(dir, "app")
	must(t, oci.WriteLayout(layout, []oci.Image{{Name: "1", Layers: []oci.Layer{layer}, Created: time.Unix(0, 0)}}))
	must(t, world.Registry.Push(t.Context(), "oci:"+layout+":1", "kairos/app:1"))
	return world.Registry.Host() + "/kairos/app:1"
}
