package schema

import (
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

const intoImage = "the root is read-only: put it into the image"

// modules are keys of cloud-init that a node has nothing for, and what to write
// instead.
var modules = map[string]string{
	"packages":                   intoImage,
	"package_update":             intoImage,
	"package_upgrade":            intoImage,
	"package_reboot_if_required": "kairos-upgrade(8) upgrades the system",
	"apt":                        intoImage, "apt_sources": intoImage, "yum_repos": intoImage, "zypper": intoImage, "snap": intoImage, "apk_repos": intoImage,
	"power_state":               "write commands in a step of the stage network",
	"disk_setup":                "write layout in a step, or install.extra-partitions",
	"fs_setup":                  "write layout in a step, or install.extra-partitions",
	"mounts":                    "write VOLUMES into /run/cos/custom-layout.env: kairos-root(8)",
	"swap":                      "write layout in a step, with filesystem: swap",
	"network":                   "write files of systemd.network(5) or NetworkManager in the stage initramfs",
	"resolv_conf":               "write dns in a step",
	"manage_resolv_conf":        "write dns in a step",
	"manage_etc_hosts":          "the host name is always in /etc/hosts; write_files with append adds lines",
	"ca_certs":                  "write the certificate with write_files and run the image's program in runcmd",
	"ca-certs":                  "write the certificate with write_files and run the image's program in runcmd",
	"disable_root":              "root has no password and no keys unless the config gives it some",
	"ssh_pwauth":                "write a drop-in of sshd_config(5), or install.ssh_hardening",
	"ssh_keys":                  "write the host keys with write_files to /etc/ssh, which is persistent",
	"ssh_deletekeys":            "host keys are the node's own: an image should have none",
	"ssh_genkeytypes":           "write a drop-in of the unit that makes them",
	"ssh_import_id":             "write ssh_authorized_keys: [github:NAME]",
	"phone_home":                "write commands in a step of the stage network",
	"final_message":             "write commands in a step of the stage network",
	"preserve_hostname":         "leave hostname out",
	"create_hostname_file":      "leave hostname out",
	"prefer_fqdn_over_hostname": "write the name that counts as hostname",
	"random_seed":               "systemd keeps the seed",
	"rsyslog":                   "write its files with write_files",
	"ansible":                   "run it in commands of the stage network",
	"chef":                      intoImage, "puppet": intoImage, "salt_minion": intoImage, "mcollective": intoImage, "landscape": intoImage, "ubuntu_advantage": intoImage, "ubuntu_pro": intoImage, "rh_subscription": intoImage, "spacewalk": intoImage, "lxd": intoImage, "wireguard": "write its files with write_files and enable wg-quick@ by systemctl",
	"keyboard":           "write systemd_firstboot: {keymap: …} in a step",
	"byobu_by_default":   intoImage,
	"grub_dpkg":          "kairos-upgrade(8) keeps the boot loader",
	"vendor_data":        "it is read where the datasource has it",
	"cloud_init_modules": "there are no modules", "cloud_config_modules": "there are no modules", "cloud_final_modules": "there are no modules",
	"datasource_list": "write datasource in a step",
	"system_info":     "write users",
	"output":          "the journal has it",
	"bootcmd_early":   "write commands in a step of the stage initramfs",
	"autoinstall":     "write install",
	"resize_rootfs":   "COS_PERSISTENT always grows by itself",
	"merge_how":       "kairos-config(8) says how configs are merged", "merge_type": "kairos-config(8) says how configs are merged",
	"drivers": intoImage, "fan": intoImage, "apt_update": intoImage, "apt_upgrade": intoImage, "apt_mirror": intoImage,
	"apt_preserve_sources_list": intoImage, "yum_repo_dir": intoImage, "ubuntu_autoinstall": "write install", "rpi": intoImage,
	"password": "write users: [{name: …, passwd: …}]",
	"ssh":      "write a drop-in of sshd_config(5) with write_files", "ssh_quiet_keygen": "host keys are the node's own",
	"allow_public_ssh_keys": "the keys of a datasource count: leave it out", "ssh_publish_hostkeys": "host keys are the node's own",
	"no_ssh_fingerprints": "nothing prints them", "ssh_fp_console_blacklist": "nothing prints them", "ssh_key_console_blacklist": "nothing prints them",
	"disable_ec2_metadata": "write a datasource without aws in a step", "datasource": "write datasource in a step",
	"updates": "configs count at each boot", "reporting": "the journal and kairos-config status tell",
	"seed_random": "systemd keeps the seed", "mount_default_fields": "write VOLUMES into /run/cos/custom-layout.env: kairos-root(8)",
	"device_aliases": "write layout in a step", "syslog_fix_perms": "the journal has it", "def_log_file": "the journal has it", "log_cfgs": "the journal has it",
	"unverified_modules": "there are no modules", "cc_ready_cmd": "write commands in a step of the stage network",
}

// NTP is cloud-init's time servers.
type NTP struct {
	Enabled *bool    `key:"enabled" doc:"Use these time servers; false changes nothing." def:"true" eg:"true"`
	Servers []string `key:"servers" doc:"Names or addresses." eg:"[ntp.example.org]" is:"word"`
	Pools   []string `key:"pools" doc:"Names that stand for several servers; used like servers." eg:"[pool.ntp.org]" is:"word"`
}

func (ntp NTP) timesyncd() Entries[string] {
	var servers []string
	servers = append(append(servers, ntp.Servers...), ntp.Pools...)
	if len(servers) == 0 || ntp.Enabled != nil && !*ntp.Enabled {
		return nil
	}
	return Entries[string]{{Key: "NTP", Value: strings.Join(servers, " ")}}
}

// Chpasswd is cloud-init's passwords for users.
type Chpasswd struct {
	Expire bool       `key:"expire" doc:"Let the password end with the first login." def:"true" eg:"false" none:"a password that has ended would lock its user out of a node without a console"`
	Users  []Password `key:"users" doc:"Users and their passwords."`
	List   Pairs      `key:"list" doc:"Lines or items of NAME:PASSWORD." eg:"['alice:${credential:alice}']"`
}

// Password is that of a user.
type Password struct {
	Name     string `key:"name" doc:"The user." eg:"alice" is:"account" req:"y"`
	Password Secret `key:"password" doc:"A hash in the form of crypt(5), or plain text." eg:"${credential:alice}" req:"y"`
	Type     string `key:"type" doc:"What it is; found out by itself." enum:"hash|text" eg:"hash"`
}

// Pairs is lines of NAME:PASSWORD, as a text or as a list.
type Pairs []Password

func (p *Pairs) decode(n *tree.Node, _ *field, problems *diag.List) bool {
	items := []*tree.Node{n}
	if n.Kind == tree.List {
		items = n.Items
	}
	for _, item := range items {
		if item.Spoiled || !expect(item, item.Scalar(), "lines of NAME:PASSWORD", "password", problems) {
			continue
		}
		for line := range strings.SplitSeq(item.Text, "\n") {
			name, password, ok := strings.Cut(strings.TrimSpace(line), ":")
			if name == "" && !ok {
				continue
			}
			if expect(item, ok && account(name+"x"), "lines of NAME:PASSWORD", "password", problems) {
				*p = append(*p, Password{Name: name, Password: Secret(password)})
			}
		}
	}
	return true
}

func (*Pairs) jsonSchema(_ *generator, _ *field) object {
	return object{"type": []string{"string", "array", "null"}, "items": object{"type": "string"}}
}

// passwords gives users their passwords: those that the config makes, and those
// that the image has.
func (c Chpasswd) passwords(users Users) Users {
	for _, p := range append(c.Users, c.List...) {
		known := false
		for i := range users {
			if users[i].Name == p.Name {
				users[i].Passwd, known = p.Password, true
			}
		}
		if !known {
			users = append(users, User{Name: p.Name, Passwd: p.Password})
		}
	}
	return users
}
