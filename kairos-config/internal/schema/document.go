package schema

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/spell"
)

// Head holds the keys at the top of a config that every stage needs.
type Head struct {
	Name   string `key:"name"`
	Strict bool   `key:"strict"`
	Assess string `key:"assess"`
	Stages Stages `key:"stages"`
}

// CloudInit holds cloud-init's keys at the top of a config; they become a step of the
// stage boot, before the other steps of the file.
type CloudInit struct {
	Hostname          string      `key:"hostname" doc:"The host name of the node, set before the services start. Of several configs, the last one counts." eg:"node-1" is:"hostname"`
	Users             Users       `key:"users" doc:"A list of users, each with name and the keys of a user in a step."`
	Groups            Groups      `key:"groups" doc:"Groups to make sure of: names, maps of a name to its members, or maps with details." eg:"[docker, {admins: [alice]}]"`
	SSHAuthorizedKeys []string    `key:"ssh_authorized_keys" doc:"Keys for all users of this file, or for root when it has none." eg:"[github:octocat]" is:"oneline"`
	WriteFiles        []WriteFile `key:"write_files" doc:"Files to write, in the words of cloud-init."`
	RunCmd            []Command   `key:"runcmd" doc:"Commands for the shell, or lists of words, run one by one in the stage boot of every boot." eg:"[systemctl daemon-reload]"`
	FQDN              string      `key:"fqdn" doc:"The host name, where hostname is not given." eg:"node-1.example.org" is:"hostname"`
	BootCmd           []Command   `key:"bootcmd" doc:"Commands before those of runcmd." eg:"[echo hello]"`
	Timezone          string      `key:"timezone" doc:"The time zone of the node, as in timedatectl(1)." eg:"Europe/Berlin" is:"word"`
	Locale            string      `key:"locale" doc:"The locale of the system, as in locale.conf(5)." eg:"en_GB.UTF-8" is:"word"`
	NTP               NTP         `key:"ntp" doc:"Time servers for systemd-timesyncd."`
	Chpasswd          Chpasswd    `key:"chpasswd" doc:"Passwords of users."`
	Growpart          Growpart    `key:"growpart" doc:"Partitions to grow. COS_PERSISTENT always grows by itself."`
}

// Growpart selects the partitions to grow.
type Growpart struct {
	Mode    string   `key:"mode" doc:"How; off grows nothing." def:"auto" enum:"auto|growpart|gpart|off|false" eg:"auto"`
	Devices []string `key:"devices" doc:"Disks whose last partition grows, with its file system. / stands for the disk of the system, which needs nothing." eg:"[/dev/vdb]" is:"path"`
	Ignore  bool     `key:"ignore_growroot_disabled" doc:"Growing the root file system anyway." def:"false" eg:"false" none:"COS_PERSISTENT always grows"`
}

// Top holds all keys at the top of a config.
type Top struct {
	Name   string `key:"name" doc:"A name for the file." eg:"my node"`
	Strict bool   `key:"strict" doc:"A failing step ends the steps of this config and fails the stage." def:"false" eg:"true"`
	Assess string `key:"assess" doc:"required: a failing step of this config counts as a failed health check of the boot." enum:"required|wanted" def:"wanted" eg:"required"`

	CloudInit

	Stages Stages `key:"stages" doc:"A map of stages to lists of steps." eg:"{boot: [{name: Greet, commands: [echo hello]}]}"`

	ConfigURL      ConfigURL       `key:"config_url" doc:"A config to fetch, which counts after all files: a URL, which may have facts in braces and end in #sha256=DIGEST, or a map." eg:"https://example.org/node.yaml"`
	Install        Install         `key:"install" doc:"What kairos-install(8) does."`
	Upgrade        Upgrade         `key:"upgrade" doc:"What kairos-upgrade(8) does."`
	Reset          Reset           `key:"reset" doc:"What kairos-reset(8) does."`
	Bundles        []Bundle        `key:"bundles" doc:"Software to add at boot."`
	FailOnBundles  bool            `key:"fail_on_bundles_errors" doc:"A bundle that can't be added is a failure." def:"false" eg:"true"`
	Env            []string        `key:"env" doc:"Variables for the programs of the toolkit." eg:"[SITE=berlin]" is:"assignment"`
	Options        Opaque          `key:"options" doc:"Free settings for the programs of others." eg:"{site: berlin}"`
	GrubOptions    Entries[string] `key:"grub_options" doc:"As in install: extra_cmdline is kernel arguments for all boot entries." eg:"{extra_cmdline: 'console=ttyS0'}" is:"oneline"`
	Debug          bool            `key:"debug" doc:"Log more of what Kairos' programs do." def:"false" eg:"true" none:"programs log all that matters; a command says more with set -x"`
	Logs           Opaque          `key:"logs" doc:"What belongs to a report for others: files and journal." eg:"{journal: [k3s], files: [/var/log/app/*.log]}" none:"support archives are made by other programs"`
	CloudInitPaths []string        `key:"cloud-init-paths" doc:"Configs are where kairos-config(8) says." eg:"[/some/path]" is:"path" none:"configs are where kairos-config(8) says"`
	EjectCD        bool            `key:"eject-cd" doc:"Eject the medium after the installation." def:"false" eg:"true" none:"what is installed boots first"`

	Kcrypt    Kcrypt     `key:"kcrypt" doc:"Where the keys of encrypted volumes come from."`
	K3s       Kubernetes `key:"k3s" doc:"A K3s server."`
	K3sAgent  Kubernetes `key:"k3s-agent" doc:"A K3s agent."`
	K0s       Kubernetes `key:"k0s" doc:"A k0s controller."`
	K0sWorker Kubernetes `key:"k0s-worker" doc:"A k0s worker."`
	Kubevip   KubeVIP    `key:"kubevip" doc:"An address that the servers of a cluster share."`
	P2P       P2P        `key:"p2p" doc:"The mesh of Kairos' provider."`
	Providers Opaque     `key:"providers" doc:"Settings of providers." eg:"{example: {url: 'https://example.org'}}"`
	Phonehome Opaque     `key:"phonehome" doc:"Settings of the phone-home client." eg:"{url: 'https://example.org'}" none:"this toolkit has no such client"`

	BindPCRs       Names  `key:"bind-pcrs" doc:"PCRs that keys of encrypted volumes are bound to." eg:"['7']" none:"kairos-crypt.conf(5) says what keys are bound to"`
	BindPublicPCRs Names  `key:"bind-public-pcrs" doc:"The same, by a signed policy." eg:"['11']" none:"a signed policy is used where the image has one: kairos-crypt(8)"`
	Arch           string `key:"arch" doc:"The architecture of the image." eg:"amd64" is:"word" none:"the image says it"`
	Cosign         bool   `key:"cosign" doc:"Containers-policy.json(5) says whose images are accepted." def:"false" eg:"true" none:"containers-policy.json(5) says whose images are accepted"`
	CosignKey      string `key:"cosign-key" doc:"The key that images are signed with." eg:"https://example.org/cosign.pub" none:"containers-policy.json(5) names keys"`
	Verify         bool   `key:"verify" doc:"Images are always verified." def:"false" eg:"true" none:"images are always verified"`
	NoSquash       bool   `key:"squash-no-compression" doc:"Leave the images of a build without compression." def:"false" eg:"true" none:"images are made by other programs"`
	UKIMaxEntries  int    `key:"uki-max-entries" doc:"How many boot entries of unified kernel images to keep." eg:"3" none:"old deployments are collected by themselves"`
}

var topType = reflect.TypeFor[Top]()

// StageNames are Kairos' stages; programs of a site may use others.
var StageNames = []string{
	"rootfs", "initramfs", "fs", "boot", "network", "reconcile",
	"kairos-install.pre", "kairos-install.after",
	"kairos-uki-install.pre", "kairos-uki-install.after",
	"kairos-uki-upgrade.pre", "kairos-uki-upgrade.after",
	"kairos-uki-reset.pre", "kairos-uki-reset.after",
	"before-install", "after-install", "after-install-chroot",
	"before-upgrade", "after-upgrade", "after-upgrade-chroot",
	"before-reset", "after-reset", "after-reset-chroot",
}

// Parts are the parts of a stage in their order.
func Parts(stage string) []string { return []string{stage + ".before", stage, stage + ".after"} }

// KnownStage reports whether a name is one of Kairos' stages or a part of one.
func KnownStage(name string) bool { return slices.Contains(stageKeys(StageNames), name) }

func stageKeys(stages []string) []string {
	var list []string
	for _, stage := range stages {
		list = append(list, Parts(stage)...)
	}
	return list
}

// Stages holds the undecoded steps of all stages: a boot decodes only the stage that it
// runs.
type Stages []StageSteps

// StageSteps is the steps under one key of stages.
type StageSteps struct {
	Name  string
	Pos   diag.Pos
	Steps []*tree.Node
}

func (s *Stages) decode(n *tree.Node, f *field, problems *diag.List) bool {
	if !expect(n, n.Kind == tree.Map, "a map of stages", f.key, problems) {
		return false
	}
	for _, at := range n.Fields {
		if at.Value.Kind == tree.Null {
			continue
		}
		if !expect(at.Value, at.Value.Kind == tree.List, "a list of steps", "stage "+at.Key, problems) {
			continue
		}
		*s = append(*s, StageSteps{at.Key, at.Pos, at.Value.Items})
	}
	return true
}

// Slips returns unknown stages that look like a mistyped part of the given ones. Other
// unknown stages belong to other programs.
func (s Stages) Slips(stages ...string) diag.List {
	var problems diag.List
	known := stageKeys(StageNames)
	for _, stage := range s {
		if slices.Contains(known, stage.Name) {
			continue
		}
		if meant := spell.Closest(stage.Name, known); slices.Contains(stageKeys(stages), meant) {
			problems.Add(diag.Mistakef(stage.Pos, "unknown stage %q: did you mean %q?", stage.Name, meant))
		}
	}
	return problems
}

// DecodeHead decodes the keys that every stage needs, and ignores others.
func DecodeHead(n *tree.Node) (Head, diag.List) {
	var head Head
	var problems diag.List
	decode(pick(n, keysOf(reflect.TypeFor[Head]())), &head, "the config", &problems)
	return head, problems
}

// pick returns a map with some of the keys of another.
func pick(n *tree.Node, keys []string) *tree.Node {
	part := &tree.Node{Kind: tree.Map, Pos: n.Pos}
	for _, f := range n.Fields {
		if slices.Contains(keys, f.Key) {
			part.Fields = append(part.Fields, f)
		}
	}
	return part
}

// DecodeConfigURL decodes the value of a key that names a config to fetch.
func DecodeConfigURL(n *tree.Node, name string) (ConfigURL, diag.List) {
	var u ConfigURL
	var problems diag.List
	decode(n, &u, name, &problems)
	return u, problems
}

// CloudInitKeys returns cloud-init's keys at the top of a config, for the step in the
// stage boot; nil when there are none.
func CloudInitKeys(n *tree.Node) *tree.Node {
	own := pick(n, keysOf(reflect.TypeFor[CloudInit]()))
	if len(own.Fields) == 0 {
		return nil
	}
	return own
}

// Templated reports whether texts beneath a key at the top may be templates: those that
// become steps.
func Templated(key string) bool {
	return key == "stages" || slices.Contains(keysOf(reflect.TypeFor[CloudInit]()), key)
}

// CloudInitStage is the stage of cloud-init's keys at the top.
const CloudInitStage = "boot"

// HostnameStage is the earlier stage in which the host name at the top is set.
const HostnameStage = "initramfs"

// CloudInitStep returns the step for cloud-init's keys at the top, and problems with
// them and with the names of other keys there. wanted is false when there are no such
// keys.
func CloudInitStep(n *tree.Node) (step Step, problems diag.List, wanted bool) {
	for _, f := range n.Fields {
		if !slices.Contains(keysOf(topType), f.Key) && spell.Closest(f.Key, keysOf(topType)) != "" {
			unknownKey(f, topType, "the config", &problems)
		}
	}
	own := CloudInitKeys(n)
	if own == nil {
		return Step{}, problems, false
	}
	var top CloudInit
	decode(own, &top, "the config", &problems)
	step = Step{
		Name: "cloud-init", Pos: own.Fields[0].Pos,
		Commands: append(top.BootCmd, top.RunCmd...), Hostname: cmp.Or(top.Hostname, top.FQDN), Users: top.Chpasswd.passwords(top.Users), Groups: top.Groups,
		Timesyncd: top.NTP.timesyncd(),
		Layout:    top.Growpart.layout(),
	}
	for _, setting := range []Entry[string]{{Key: "locale", Value: top.Locale}, {Key: "timezone", Value: top.Timezone}} {
		if setting.Value != "" {
			step.SystemdFirstboot = append(step.SystemdFirstboot, setting)
		}
	}
	for _, w := range top.WriteFiles {
		if w.Source.URI != "" {
			step.Downloads = append(step.Downloads, Download{Pos: w.Pos, Path: w.Path, URL: w.Source.URI, Permissions: w.Permissions.Mode,
				Owner: w.Owner, Group: w.Group, OwnerString: w.OwnerString})
			continue
		}
		step.Files = append(step.Files, w.file())
	}
	// As in Kairos: the keys at the top are for all users of the file, and for
	// root when the file has no users.
	for _, u := range top.Users {
		step.addKeys(u.Name, u.Pos, top.SSHAuthorizedKeys)
	}
	if len(top.Users) == 0 {
		step.addKeys("root", step.Pos, top.SSHAuthorizedKeys)
	}
	return step, problems, true
}

func (s *Step) addKeys(user string, pos diag.Pos, keys []string) {
	if len(keys) > 0 {
		s.AuthorizedKeys = append(s.AuthorizedKeys, Entry[[]string]{user, pos, keys})
	}
}

// layout returns the disk to grow. As in Kairos, a step has one disk.
func (g Growpart) layout() Layout {
	for _, device := range g.Devices {
		if g.Mode != "off" && g.Mode != "false" && strings.HasPrefix(device, "/dev/") {
			return Layout{Device: &Device{Path: device}, Expand: &Expand{}}
		}
	}
	return Layout{}
}

// Check returns all problems of a config, in the order of the file. Mistakes that a
// boot tolerates are errors here.
func Check(n *tree.Node) diag.List {
	var top Top
	var problems diag.List
	decode(n, &top, "the config", &problems)
	problems = append(problems, top.Stages.Slips(StageNames...)...)
	checkPeople(n, "", &problems)
	checkInstall(n, &top, &problems)
	checkStages(top.Stages, &problems)
	for _, stage := range top.Stages {
		for _, step := range stage.Steps {
			_, found := DecodeStep(step)
			problems = append(problems, found...)
		}
	}
	for i := range problems {
		problems[i] = problems[i].Judged()
	}
	problems.Sort()
	return problems
}
