package schema

import (
	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Install holds the settings of kairos-install(8).
type Install struct {
	Auto     bool   `key:"auto" doc:"Install without being asked: consent to erase what is on the disk." def:"false" eg:"true"`
	Device   string `key:"device" doc:"The disk: auto for the largest, a device node, or script:///PROGRAM, which prints it." def:"auto" eg:"/dev/disk/by-id/nvme-example" is:"device"`
	Source   string `key:"source" doc:"The image to install." def:"that of the live system" eg:"quay.io/example/os:1" is:"word"`
	Image    string `key:"image" doc:"The image to install: the old name of source." eg:"quay.io/example/os:1" is:"word" old:"write source"`
	ISO      string `key:"iso" doc:"Media carry their image." eg:"https://example.org/os.iso" none:"media carry their image: write source"`
	Reboot   bool   `key:"reboot" doc:"Reboot when done." def:"false" eg:"true"`
	Poweroff bool   `key:"poweroff" doc:"Power off when done. With reboot as well, it reboots." def:"false" eg:"true"`
	Force    bool   `key:"force" doc:"Consent to erase an installation as well." def:"false" eg:"true"`
	NoFormat bool   `key:"no-format" doc:"Install on partitions that are there." def:"false" eg:"true"`
	NoUsers  bool   `key:"nousers" doc:"Install without any user who may log in and become root." def:"false" eg:"true"`

	SSHHardening bool              `key:"ssh_hardening" doc:"Give sshd strict settings." def:"false" eg:"true"`
	Encrypted    []string          `key:"encrypted_partitions" doc:"Labels of partitions to encrypt." eg:"[COS_PERSISTENT]" is:"label"`
	GrubOptions  Entries[string]   `key:"grub_options" doc:"Options of the boot loader; extra_cmdline is kernel arguments for all entries." eg:"{extra_cmdline: 'console=ttyS0'}" is:"oneline"`
	GrubEntry    string            `key:"grub-entry-name" doc:"The title of the boot entries." eg:"My OS" is:"oneline"`
	Bundles      []Bundle          `key:"bundles" doc:"Software to add to the node, at each boot."`
	Env          []string          `key:"env" doc:"Variables for the hooks of the installation." eg:"[SITE=berlin]" is:"assignment"`
	Ephemeral    []string          `key:"ephemeral_mounts" doc:"More paths that can be written until the next boot: directories of the image, or new ones beneath its empty directories, /var or /srv." eg:"[/mnt/scratch]" is:"path"`
	Bind         []string          `key:"bind_mounts" doc:"More paths that can be written and stay: directories of the image, or new ones beneath its empty directories, such as /mnt, or beneath /var or /srv." eg:"[/var/lib/app]" is:"path"`
	Partitions   InstallPartitions `key:"partitions" doc:"Sizes and file systems of the partitions."`
	Extra        []ExtraPartition  `key:"extra-partitions" doc:"More partitions, made and formatted, and not mounted."`
	ExtraDirs    []string          `key:"extra-dirs-rootfs" doc:"Directories to make in the root." eg:"[/data]" is:"path" none:"the root is what its digest says: put the directory into the image, or use one beneath /var, /srv or /usr/local"`
	System       InstallImage      `key:"system" doc:"The image, in Kairos' words." `
	Passive      InstallImage      `key:"passive" doc:"The store holds all images." none:"the store holds all images"`
	Recovery     InstallImage      `key:"recovery-system" doc:"The image for recovery." def:"that of the installation"`
	Firmware     string            `key:"firmware" doc:"What the machine has is found out." enum:"efi|bios" eg:"efi" none:"what the machine has is found out"`
	PartTable    string            `key:"part-table" doc:"It is always gpt." enum:"gpt|msdos" eg:"gpt" none:"it is always gpt"`
	TTY          string            `key:"tty" doc:"The console for messages." eg:"ttyS0" is:"word" none:"messages go to all consoles"`
	SkipEntries  []string          `key:"skip-entries" doc:"Boot entries not to write." eg:"[statereset]" is:"word" none:"there is one entry for each deployment"`
	SkipKcrypt   bool              `key:"skip_copy_kcrypt_plugin" doc:"Leave Kairos' plugin for encryption out." def:"false" eg:"true" none:"there are no plugins"`
	Insecure     bool              `key:"allow-insecure-registries" doc:"Registries.conf says which registries are insecure." def:"false" eg:"true" none:"registries.conf(5) of the live system says which registries are insecure: a file of a step of its stage fs can"`
	EjectCD      bool              `key:"eject-cd" doc:"Eject the medium when done." def:"false" eg:"true" none:"what is installed boots first"`
}

// check finds contradictions.
func (i *Install) check(n *tree.Node, problems *diag.List) bool {
	onlyOneEnd(n, i.Reboot, i.Poweroff, "install", problems)
	return true
}

// onlyOneEnd warns about reboot beside poweroff: Kairos reboots before it checks for
// poweroff.
func onlyOneEnd(n *tree.Node, reboot, poweroff bool, block string, problems *diag.List) {
	if reboot && poweroff {
		problems.Warnf(valueOf(n, "poweroff").Pos, "%s: reboot and poweroff: it reboots, as in Kairos", block)
	}
}

// InstallPartitions are the partitions that every node has.
type InstallPartitions struct {
	OEM        InstallPartition `key:"oem" doc:"COS_OEM: the node's config."`
	Recovery   InstallPartition `key:"recovery" doc:"COS_RECOVERY."`
	State      InstallPartition `key:"state" doc:"COS_STATE: the images."`
	Persistent InstallPartition `key:"persistent" doc:"COS_PERSISTENT: the node's data."`
}

// InstallPartition is the size and the file system of a partition.
type InstallPartition struct {
	Size MiB    `key:"size" doc:"In MiB; 0 takes the rest or the default." def:"0" eg:"4096"`
	FS   string `key:"fs" doc:"The file system to make in the partition." def:"ext4" enum:"ext2|ext3|ext4|xfs|btrfs|vfat|fat|swap" eg:"ext4"`
	Name string `key:"name" doc:"Names are fixed." eg:"oem" is:"label" none:"names are fixed"`
}

// ExtraPartition is one more partition.
type ExtraPartition struct {
	Name  string `key:"name" doc:"The label of the partition." eg:"data" is:"label"`
	Label string `key:"label" doc:"The label of the file system." def:"name" eg:"DATA" is:"label"`
	Size  MiB    `key:"size" doc:"In MiB; 0 takes the rest." def:"0" eg:"20480"`
	FS    string `key:"fs" doc:"The file system; without one it is not formatted." enum:"ext2|ext3|ext4|xfs|btrfs|vfat|fat|swap" eg:"ext4"`
}

// InstallImage is an image, in Kairos' words.
type InstallImage struct {
	Source string `key:"source" doc:"The image, as in kairos-upgrade(8): oci:REGISTRY/NAME:TAG is a reference too." eg:"oci:quay.io/example/os:1" is:"word"`
	URI    string `key:"uri" doc:"The image: the old name of source." eg:"oci:quay.io/example/os:1" is:"word"`
	Size   MiB    `key:"size" doc:"An image takes what it needs." eg:"4096" none:"an image takes what it needs"`
	FS     string `key:"fs" doc:"The file system of an image file." eg:"ext2" is:"word" none:"images are no file system of their own"`
}

// Bundle is software that is added to a node.
type Bundle struct {
	Pos        diag.Pos
	Targets    []string `key:"targets" doc:"container:IMAGE is unpacked, of run:IMAGE the program run.sh is run, package:NAME is installed with luet where the image has it." eg:"[run://quay.io/example/bundle:1]" is:"bundle" req:"y"`
	Repository string   `key:"repository" doc:"The repository for package:." eg:"quay.io/example/packages" is:"word"`
	Rootfs     string   `key:"rootfs_path" doc:"The root that it is added to." def:"/" eg:"/usr/local/lib/extensions/kubo" is:"path"`
	DB         string   `key:"db_path" doc:"The database for package:." eg:"/usr/local/.state/db" is:"path"`
	LocalFile  bool     `key:"local_file" doc:"The targets are files of this node." def:"false" eg:"true"`
	Platform   string   `key:"platform" doc:"Which image of an index to take." def:"that of the node" eg:"linux/arm64" is:"word"`
	AllowFail  bool     `key:"allow_failure" doc:"Go on when it can't be added." def:"false" eg:"true"`
}

// Upgrade holds the settings of kairos-upgrade(8).
type Upgrade struct {
	Entry     string       `key:"entry" doc:"What to upgrade." enum:"active|passive|recovery" eg:"active"`
	Recovery  bool         `key:"recovery" doc:"Upgrade the recovery system." def:"false" eg:"true" old:"write entry: recovery"`
	System    InstallImage `key:"system" doc:"The image to upgrade to."`
	RecSystem InstallImage `key:"recovery-system" doc:"The image for recovery."`
	Reboot    bool         `key:"reboot" doc:"Reboot when done." def:"false" eg:"true"`
	Poweroff  bool         `key:"poweroff" doc:"Power off when done. With reboot as well, it reboots." def:"false" eg:"true"`
	Excluded  []string     `key:"excluded-paths" doc:"Paths of the image to leave out." eg:"[/usr/share/doc]" is:"path" none:"an image is what its digest says"`
	Insecure  bool         `key:"allow-insecure-registries" doc:"Accept a registry without TLS, or with an unknown certificate: kairos-upgrade stage --insecure." def:"false" eg:"true"`
	GrubEntry string       `key:"grub-entry-name" doc:"The title of the boot entries." eg:"My OS" is:"oneline"`
	ExtraDirs []string     `key:"extra-dirs-rootfs" doc:"Directories to make in the root." eg:"[/data]" is:"path" none:"the root is what its digest says: put the directory into the image, or use one beneath /var, /srv or /usr/local"`
	Force     bool         `key:"force" doc:"Stage what is quarantined too." def:"false" eg:"true"`
}

func (u *Upgrade) check(n *tree.Node, problems *diag.List) bool {
	onlyOneEnd(n, u.Reboot, u.Poweroff, "upgrade", problems)
	return true
}

// Reset holds the settings of kairos-reset(8).
type Reset struct {
	Persistent bool         `key:"reset-persistent" doc:"Empty COS_PERSISTENT." def:"true" eg:"true"`
	OEM        bool         `key:"reset-oem" doc:"Empty COS_OEM." def:"false" eg:"true"`
	Reboot     bool         `key:"reboot" doc:"Reboot when done, as a reset does anyway." def:"true" eg:"true"`
	Poweroff   bool         `key:"poweroff" doc:"Power off when done, instead of a reboot. With reboot as well, it reboots." def:"false" eg:"true"`
	System     InstallImage `key:"system" doc:"The image to go back to." def:"that of the recovery system"`
	GrubEntry  string       `key:"grub-entry-name" doc:"The title of the boot entries." eg:"My OS" is:"oneline"`
	ExtraDirs  []string     `key:"extra-dirs-rootfs" doc:"Directories to make in the root." eg:"[/data]" is:"path" none:"the root is what its digest says: put the directory into the image, or use one beneath /var, /srv or /usr/local"`
}

func (r *Reset) check(n *tree.Node, problems *diag.List) bool {
	onlyOneEnd(n, r.Reboot, r.Poweroff, "reset", problems)
	return true
}
