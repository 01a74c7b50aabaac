package schema

import (
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// DNS is what names are resolved with.
type DNS struct {
	Pos         diag.Pos
	Nameservers []string `key:"nameservers" doc:"Addresses of servers." eg:"[192.0.2.53, '2001:db8::53']" is:"nameserver"`
	Search      []string `key:"search" doc:"Domains for names without dots." eg:"[example.org]" is:"word"`
	Options     []string `key:"options" doc:"Options of resolv.conf(5)." eg:"[edns0]" is:"word"`
	Path        string   `key:"path" doc:"Write a file in the form of resolv.conf(5) instead of telling systemd-resolved." eg:"/etc/resolv.conf" is:"path"`
}

// Firstboot holds the settings of systemd-firstboot(1), and force, which is always set.
// Passwords are left out: they would be in argv.
var Firstboot = []string{"force", "hostname", "keymap", "locale", "locale-messages", "machine-id", "root-shell", "timezone"}

// FirstbootKey returns a setting as systemd-firstboot(1) spells it.
func FirstbootKey(key string) string {
	return strings.ReplaceAll(strings.ToLower(key), "_", "-")
}

// Datasource is where to ask for user data.
type Datasource struct {
	Pos          diag.Pos
	Providers    Names  `key:"providers" doc:"Who to ask, see PROVIDERS: media first, then all others at once; the first in the list that answers counts." eg:"[cdrom, aws]" is:"provider" req:"y"`
	Path         string `key:"path" doc:"For file: the file with the user data. Otherwise the directory for the result." def:"/oem" eg:"/oem" is:"path"`
	When         string `key:"when" doc:"When to ask: an installed node takes user data once, at its first boot. boot asks at each, and gives root to everybody who attaches a medium or answers on the network." def:"first-boot" enum:"first-boot|boot" eg:"first-boot"`
	AnyPlatform  bool   `key:"any_platform" doc:"Ask the metadata services of clouds too that the firmware does not say the machine runs at. A live system always does." def:"false" eg:"true"`
	UserdataName string `key:"userdata_name" doc:"The name of the file for the result." def:"95_userdata.yaml" eg:"95_userdata.yaml" is:"filename"`
}

// Providers are the names of datasources.
var Providers = []string{
	"aws", "azure", "cdrom", "cmdline", "config-drive", "credential", "digitalocean", "file", "gcp", "hetzner",
	"maas", "metaldata", "nocloud", "openstack", "packet", "scaleway", "smbios", "vmware", "vultr",
}

// Layout is partitions to add to a disk, or to grow.
type Layout struct {
	Pos    diag.Pos
	Device *Device     `key:"device" doc:"The disk that is changed." def:"the one with COS_STATE"`
	Expand *Expand     `key:"expand_partition" doc:"Grow the last partition and its file system."`
	Parts  []Partition `key:"add_partitions" doc:"Partitions to add where none has their label."`
}

// Device is a disk.
type Device struct {
	Label    string `key:"label" doc:"The disk with the file system of this label." eg:"COS_STATE" is:"label"`
	Path     string `key:"path" doc:"The device node, or script:///PROGRAM, which prints it." eg:"/dev/disk/by-id/virtio-data" is:"devicepath"`
	InitDisk bool   `key:"init_disk" doc:"Write an empty partition table first where there is none. Never where there is one." def:"false" eg:"true"`
	DiskName string `key:"disk_name" doc:"What init_disk calls the disk." eg:"data" is:"word" none:"systemd-repart names no disks"`
}

// Expand is how far a partition grows.
type Expand struct {
	Size MiB `key:"size" doc:"The new size in MiB; 0 takes all there is." def:"0" eg:"0"`
}

// Partition is one to add.
type Partition struct {
	Pos        diag.Pos
	FSLabel    string `key:"fsLabel" doc:"The label of the file system." eg:"DATA" is:"label"`
	PLabel     string `key:"pLabel" doc:"The label of the partition." def:"fsLabel" eg:"data" is:"label"`
	Size       MiB    `key:"size" doc:"In MiB; 0 takes all there is." def:"0" eg:"20480"`
	Filesystem string `key:"filesystem" doc:"The file system to make." def:"ext4" enum:"ext2|ext3|ext4|xfs|btrfs|vfat|fat|swap" eg:"ext4"`
	Bootable   bool   `key:"bootable" doc:"Mark it as bootable by old firmware." def:"false" eg:"false"`
}

// Packages is what the package manager does.
type Packages struct {
	Pos     diag.Pos
	Install []string `key:"install" doc:"Packages to install." eg:"[nginx]" is:"word"`
	Remove  []string `key:"remove" doc:"Packages to remove." eg:"[nano]" is:"word"`
	Refresh bool     `key:"refresh" doc:"Fetch the package lists first." def:"false" eg:"true"`
	Upgrade bool     `key:"upgrade" doc:"Upgrade all packages." def:"false" eg:"false"`
}

// UnpackImage is a container image to unpack.
type UnpackImage struct {
	Pos      diag.Pos
	Source   string `key:"source" doc:"The image, as in kairos-upgrade(8): a reference, with a transport where it isn't a registry. Its signature policy, mirrors and credentials count." eg:"quay.io/example/tools:1" is:"word" req:"y"`
	Target   string `key:"target" doc:"The directory for it, made where it is missing. What is there stays, unless the image has it too." eg:"/usr/local/tools" is:"path" req:"y"`
	Platform string `key:"platform" doc:"Which image of an index to take." def:"that of the node" eg:"linux/arm64" is:"word"`
}

// MiB is a size in mebibytes.
type MiB int64

// maxMiB is larger than any disk.
const maxMiB = 1 << 40

func (m *MiB) decode(n *tree.Node, f *field, problems *diag.List) bool {
	size, ok := n.Int()
	if !expect(n, ok && size >= 0 && size <= maxMiB, "a size in MiB", f.key, problems) {
		return false
	}
	*m = MiB(size)
	return true
}
