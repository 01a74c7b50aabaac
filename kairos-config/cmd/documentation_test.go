package cmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/rogpeppe/go-internal/txtar"
)

// documented are the kinds of examples that Kairos' documentation has, page by page,
// in words of our own. wrong is why validate refuses one: each is wrong in itself, or
// asks for what can't be here.
var documented = []struct{ page, config, wrong string }{
	// Stage modules.
	{"dns", "stages: {boot: [{name: d, dns: {nameservers: [192.0.2.1, 192.0.2.2], search: [a.example], options: [edns0], path: /etc/resolv.conf.bak}}]}", ""},
	{"downloads", "stages: {boot: [{downloads: [{path: /tmp/out, url: 'https://a.example/x', permissions: 0700, owner: 0, group: 0, timeout: 0, owner_string: root}]}]}", ""},
	{"git", "stages: {boot: [{git: {url: 'git@a.example:b/c.git', path: /oem/c, branch: main, auth: {insecure: true, private_key: x}}}]}", ""},
	{"entities", "stages: {boot: [{ensure_entities: [{path: /etc/passwd, entity: \"kind: user\\nusername: a\\npassword: x\\nuid: 0\\ngid: 0\\ninfo: A\\nhomedir: /home/a\\nshell: /bin/sh\\n\"}]}]}", ""},
	{"delete entities", "stages: {boot: [{delete_entities: [{path: /etc/passwd, entity: \"kind: user\\nusername: a\\n\"}]}]}", ""},
	{"directories", "stages: {boot: [{directories: [{path: /etc/a, permissions: 0600, owner: 0, group: 0}]}]}", ""},
	{"files", "stages: {boot: [{files: [{path: /tmp/a, encoding: b64, content: aGVsbG8K, permissions: 0777, owner: 1000, group: 100}]}]}", ""},
	{"files with both owners", "stages: {boot: [{files: [{path: /tmp/a, content: x, owner_string: 'a:b'}]}]}", ""},
	{"commands", "stages: {boot: [{commands: ['echo 1 > /bar', 'bash /path/to/script.sh']}]}", ""},
	{"host name of the machine id", "stages: {initramfs: [{hostname: 'node-{{ trunc 4 .MachineID }}'}]}", ""},
	{"host name of a random text", "stages: {initramfs: [{hostname: 'node-{{ trunc 4 .Random }}'}]}", ""},
	{"sysctl", "stages: {boot: [{sysctl: {debug.exception-trace: '0'}}]}", ""},
	{"sysctl, mistyped", "stages: {boot: [{systctl: {debug.exception-trace: '0'}}]}", `did you mean "sysctl"`},
	{"users of a step", "stages: {boot: [{users: {bastion: {passwd: strong, homedir: /home/a, shell: /bin/bash, groups: [admin]}}}]}", ""},
	{"users, a quote not closed", "stages:\n  boot:\n  - users:\n      a:\n        homedir: \"/home/a\n", "not valid YAML"},
	{"users with dashes", "stages: {boot: [{users: {a: {no-create-home: true, primary-group: users, no-user-group: true}}}]}", ""},
	{"authorized keys", "stages: {network: [{authorized_keys: {a: ['github:octocat', 'gitlab:octocat']}}]}", ""},
	{"authorized keys, a placeholder", "stages: {network: [{authorized_keys: {a: ['ssh-rsa: ...']}}]}", "this is not an SSH key"},
	{"modules", "stages: {boot: [{modules: [nvidia]}]}", ""},
	{"timesyncd", "stages: {boot: [{systemctl: {enable: [systemd-timesyncd]}, timesyncd: {NTP: 0.pool.example, FallbackNTP: us.pool.example}}, {commands: [systemctl restart systemd-timesyncd]}]}", ""},
	{"systemctl", "stages: {boot: [{systemctl: {enable: [a, b], mask: [c], disable: [d], start: [b]}}]}", ""},
	{"overrides", "stages: {initramfs: [{systemctl: {overrides: [{service: k3s.service, content: \"[Service]\\nExecStartPre=-/sbin/modprobe nfs\\n\"}]}}]}", ""},
	{"environment", "stages: {boot: [{environment_file: /home/user/.envrc, environment: {FOO: bar}}, {environment: {FOO: bar}}]}", ""},
	{"firstboot", "debug: true\nstages: {boot: [{systemd_firstboot: {hostname: myhostname}}]}", ""},
	{"datasource", "stages: {boot: [{datasource: {providers: [aws, digitalocean], path: /etc/cloud-data}}]}", ""},
	{"layout", "stages: {boot: [{layout: {device: {label: COS_RECOVERY, path: /dev/sda}, expand_partition: {size: 4096}, add_partitions: [{fsLabel: A, size: 8192, pLabel: a}, {fsLabel: B, filesystem: ext4}]}}]}", ""},
	{"layout before the installation", "stages: {kairos-install.pre.before: [{if: '[ -e /dev/vda ]', layout: {device: {path: /dev/vda}, expand_partition: {size: 0}, add_partitions: [{fsLabel: COS_OEM, size: 64, pLabel: oem}]}}]}", ""},
	{"layout, kept by the installer", "install: {no-format: true}", "installing on existing partitions is not supported"},
	{"layout with a program", "stages: {kairos-install.pre.before: [{layout: {device: {path: 'script:///usr/bin/pick big', init_disk: true}, add_partitions: [{fsLabel: A}]}}]}\ninstall: {device: 'script:///usr/bin/pick'}", ""},
	// Configuration.
	{"users", "users: [{name: a, passwd: a, lock_passwd: true, groups: [admin], ssh_authorized_keys: null}]", ""},
	{"user with a number as name", "users: [{name: 007}]", "must be"},
	{"logs, paths, strict", "debug: true\nlogs: {journal: [a], files: ['/var/log/a/*.log']}\ncloud-init-paths: [/some/path]\nstrict: false", ""},
	{"install", "install: {device: /dev/sda, reboot: true, auto: true, grub-entry-name: OS, no-format: false, force: false, extra-dirs-rootfs: [/data]}\nusers: [{name: a, groups: [admin], passwd: x}]", ""},
	{"install, both ends", "install: {reboot: true, poweroff: true}", ""},
	{"partitions", "install: {partitions: {oem: {size: 60, fs: ext4}, recovery: {size: 4096, fs: ext4}}}", ""},
	{"partitions with dots", "install:\n  partitions.oem.size: 60\n  partitions.recovery.fs: ext4\n  system.size: 4096\n  passive.size: 4096\n  recovery-system.size: 5000", ""},
	{"extra partitions", "install: {extra-partitions: [{name: a, size: 100, fs: ext4, label: ONE}, {name: b, size: 200, fs: ext2}]}", ""},
	{"the rest for an extra partition", "install: {partitions: {persistent: {size: 500}}, extra-partitions: [{name: big, size: 0, fs: ext3}]}", ""},
	{"images", "install: {system: {size: 4096, source: 'oci:quay.io/a/b:1'}, passive: {size: 4096}, recovery-system: {size: 5000, source: 'oci:quay.io/a/b:1'}}", ""},
	{"options of GRUB", "install: {grub_options: {extra_cmdline: panic=0, extra_active_cmdline: '', extra_passive_cmdline: '', default_menu_entry: ''}}", ""},
	{"variables and mounts", "install: {env: [foo=bar], bind_mounts: [/mnt/a, /mnt/b], ephemeral_mounts: null}", ""},
	{"reset", "reset: {reboot: true, system: {source: 'oci:quay.io/a/b:1'}, grub-entry-name: OS, reset-persistent: true, reset-oem: false, extra-dirs-rootfs: [/data]}", ""},
	{"upgrade", "upgrade: {reboot: true, recovery: false, system: {source: 'oci:quay.io/a/b:1', size: 4096}, recovery-system: {source: 'oci:quay.io/a/b:1'}, grub-entry-name: OS}", ""},
	{"keys of others", "fail_on_bundles_errors: true\neject-cd: true\ncosign: true\nverify: true\ncosign-key: x\narch: amd64\nsquash-no-compression: true\nbind-pcrs: ['7']\nbind-public-pcrs: ['11']", ""},
	{"the type in place of a value", "config_url: <string>", "must be"},
	{"k3s with empty values", "k3s: {enabled: true, env: {K3S_RESOLV_CONF: ''}, args: ['--node-label \"\"', '--data-dir \"\"']}", ""},
	{"k3s-agent", "k3s-agent: {enabled: true, env: {K3S_NODE_NAME: a}, args: ['--private-registry \"...\"'], replace_args: true, embedded_registry: true}", ""},
	{"k0s", "k0s: {enabled: true, args: [--single]}", ""},
	{"p2p", "p2p: {role: master, network_id: dev, dns: true, disable_dht: true, vpn: {create: false, use: false, env: {DHCP: 'true'}}, auto: {enable: true, ha: {enable: true, master_nodes: 2, external_db: x}}, network_token: x}", ""},
	{"kubevip", "kubevip: {eip: 192.0.2.110, manifest_url: '', enable: true, interface: ens18, static_pod: true, version: v0.8}", ""},
	{"a provider's block", "cluster: {cluster_token: x, control_plane_host: a, role: init, config: 'a: b'}", ""},
	{"cloud-init's keys", "growpart: {devices: [/]}\nruncmd: [foo]\nhostname: bar\nwrite_files: [{encoding: b64, content: aGVsbG8K, path: /foo/bar, permissions: '0644', owner: bar}]", ""},
	{"a template in a command", "stages: {foo: [{name: echo, commands: ['echo \"{{.Values.node.hostname}}\"']}]}", ""},
	{"a manifest", "stages: {boot: [{files: [{path: /var/lib/rancher/k3s/server/manifests/a.yaml, content: \"apiVersion: v1\\nkind: Namespace\\n---\\nkind: B\\n\"}]}]}", ""},
	{"conditions", "stages: {boot: [{commands: [a], if: '[ -e /foo ]'}, {commands: [b], node: bastion}]}\nname: yip", ""},
	{"a provider's stage", "stages: {'provider-kairos.bootstrap.after.k3s-ready': [{commands: [touch /tmp/a]}]}", ""},
	{"before a reset", "name: a\nstages: {before-reset: [{name: b, commands: ['echo c']}]}", ""},
	{"after the boot", "stages: {boot.after: [{if: \"grep -q a /sys/b && \\\\\\n( [ -e /c ] )\", commands: [systemctl stop d]}]}", ""},
	{"kdump", "install: {auto: true, grub_options: {extra_cmdline: 'crashkernel=512M,high crashkernel=72M,low'}}\nstages: {initramfs: [{users: {kairos: {passwd: kairos}}}]}", ""},
	{"a stage beside stages", "initramfs: [{commands: [mount /dev/disk/by-label/A /opt/a]}]", ""},
	// Automated installation.
	{"bundles without targets", "install: {bundles: [quay.io/a/b:c]}", "bundles must be a map"},
	{"bundles", "bundles: [{targets: ['run://quay.io/a/b:c', 'container://quay.io/a/d'], rootfs_path: /usr/local/lib/extensions/d}]\nmetallb: {version: 0.13.7, address_pool: 192.0.2.10-192.0.2.20}", ""},
	{"an address with facts", `config_url: "http://a.example/r?uuid={{ .Values.product.uuid }}&mac={{ (index .Values.network 0).macaddress }}&n={{ .Values.Random }}&p={{ .Values.ProtectedID }}"`, ""},
	{"an address with a fact that is required", `config_url: "http://a.example/r?uuid={{ required \"uuid\" .Values.product.uuid }}"`, ""},
	{"the only network", "p2p: {network_token: '....'}\ninstall: {device: auto, auto: true, reboot: true}", ""},
	// Encryption.
	{"encryption", "install: {encrypted_partitions: [COS_PERSISTENT]}", ""},
	{"a key server", "kcrypt: {challenger: {challenger_server: 'http://a.example', mdns: true}}", "Kairos' key servers are not supported"},
}

// TestDocumentation: each is accepted, or refused for the reason that stands here.
func TestDocumentation(t *testing.T) {
	accepted := 0
	for _, d := range documented {
		if refused(t, d.page, "#cloud-config\n"+d.config+"\n", d.wrong) == "" {
			accepted++
		}
	}
	if len(documented) < 60 || accepted*109 < 92*len(documented) {
		t.Errorf("%d of %d accepted", accepted, len(documented))
	}
	t.Logf("%d of %d accepted", accepted, len(documented))
}

// TestDocumentationPages is TestDocumentation with the examples as a whole. 92 of 109
// is what issue 15 asks for; the others are wrong in themselves.
func TestDocumentationPages(t *testing.T) {
	archive, err := txtar.ParseFile("../testdata/documentation.txtar")
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for _, f := range archive.Files {
		page, wrong, _ := strings.Cut(f.Name, " wrong: ")
		if said := refused(t, page, string(f.Data), wrong); said == "" {
			accepted++
		} else {
			t.Logf("refused: %s: %s", page, strings.TrimSpace(said))
		}
	}
	if len(archive.Files) < 109 || accepted*109 < 92*len(archive.Files) {
		t.Errorf("%d of %d accepted", accepted, len(archive.Files))
	}
	t.Logf("%d of %d accepted", accepted, len(archive.Files))
}

// refused returns why validate refuses an example of a page, "" if it does not. It must
// do so for the reason that is wrong, and use every example: one that is skipped counts
// as refused.
func refused(t *testing.T, page, config, wrong string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	documents, problems := checked(file)
	said := ""
	for _, p := range problems {
		if p.Severity == diag.Error || len(documents) == 0 {
			said += p.Error() + "\n"
		}
	}
	switch {
	case wrong == "" && said != "":
		t.Errorf("%s: %s", page, said)
	case wrong != "" && !strings.Contains(said, wrong):
		t.Errorf("%s: accepted, or for another reason: %s", page, said)
	}
	return said
}
