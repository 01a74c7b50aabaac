package schema

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/kairos-io/toolkit/lib/spell"
)

// Head is what every stage needs of the top of a config.
type Head struct {
	Strict bool   `key:"strict"` // a failed step fails the stage
	Stages Stages `key:"stages"`
}

// Top is the rest of the top of a config.
type Top struct {
	Name   string `key:"name"`
	Strict Opaque `key:"strict"` // see Head
	Stages Opaque `key:"stages"`

	// What cloud-init has at the top; it becomes a step of the stage boot.
	Hostname          string    `key:"hostname"`
	Users             Users     `key:"users"`
	Groups            Groups    `key:"groups"`
	SSHAuthorizedKeys []string  `key:"ssh_authorized_keys"`
	WriteFiles        []File    `key:"write_files"`
	RunCmd            []Command `key:"runcmd"`
	Growpart          Later     `key:"growpart"`

	ConfigURL Later `key:"config_url"`

	// Blocks of other programs, known so that slips are seen.
	Install        Opaque `key:"install"`
	Upgrade        Opaque `key:"upgrade"`
	Reset          Opaque `key:"reset"`
	Options        Opaque `key:"options"`
	Bundles        Opaque `key:"bundles"`
	Env            Opaque `key:"env"`
	Debug          Opaque `key:"debug"`
	Logs           Opaque `key:"logs"`
	Kcrypt         Opaque `key:"kcrypt"`
	K3s            Opaque `key:"k3s"`
	K3sAgent       Opaque `key:"k3s-agent"`
	K0s            Opaque `key:"k0s"`
	K0sWorker      Opaque `key:"k0s-worker"`
	Kubevip        Opaque `key:"kubevip"`
	P2P            Opaque `key:"p2p"`
	Providers      Opaque `key:"providers"`
	Phonehome      Opaque `key:"phonehome"`
	BindPCRs       Opaque `key:"bind-pcrs"`
	BindPublicPCRs Opaque `key:"bind-public-pcrs"`
	CloudInitPaths Opaque `key:"cloud-init-paths"`
}

var topType = reflect.TypeFor[Top]()

// StageNames are the stages that Kairos has; others may be used by programs
// of their own.
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

// Parts of a stage, in the order in which they run.
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

// Stages is the steps of all stages, not decoded yet: a boot decodes only the
// stage that it runs.
type Stages []StageSteps

// StageSteps is the steps under one key of stages.
type StageSteps struct {
	Name  string
	Pos   diag.Pos
	Steps []*tree.Node
}

func (s *Stages) decode(n *tree.Node, name string, problems *diag.List) {
	if !expect(n, n.Kind == tree.Map, "a map of stages", name, problems) {
		return
	}
	for _, f := range n.Fields {
		if f.Value.Kind == tree.Null {
			continue
		}
		if !expect(f.Value, f.Value.Kind == tree.List, "a list of steps", "stage "+f.Key, problems) {
			continue
		}
		*s = append(*s, StageSteps{f.Key, f.Pos, f.Value.Items})
	}
}

// Slips returns the stages that look like a mistyped part of the given ones.
// Other unknown stages belong to somebody else.
func (s Stages) Slips(stages ...string) diag.List {
	var problems diag.List
	known := stageKeys(StageNames)
	for _, stage := range s {
		if slices.Contains(known, stage.Name) {
			continue
		}
		if meant := spell.Closest(stage.Name, known); slices.Contains(stageKeys(stages), meant) {
			problems.Warnf(stage.Pos, "unknown stage %q", stage.Name)
			problems.Hint("did you mean %q?", meant)
		}
	}
	return problems
}

// DecodeHead reads strict and stages; other keys are not looked at.
func DecodeHead(n *tree.Node) (Head, diag.List) {
	var head Head
	var problems diag.List
	decode(pick(n, keys(reflect.TypeFor[Head]())), &head, "the config", &problems)
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

// cloudInitKeys are the keys at the top that become a step of the stage boot.
var cloudInitKeys = []string{"hostname", "users", "groups", "ssh_authorized_keys", "write_files", "runcmd"}

// CloudInitStage is the stage that cloud-init's keys at the top belong to.
const CloudInitStage = "boot"

// CloudInitStep returns what the keys of cloud-init at the top ask for, and
// what is wrong with the top of the config. wanted is false when there are no
// such keys.
func CloudInitStep(n *tree.Node) (step Step, problems diag.List, wanted bool) {
	var top Top
	decode(n, &top, "the config", &problems)
	own := pick(n, cloudInitKeys)
	if len(own.Fields) == 0 {
		return Step{}, problems, false
	}
	step = Step{
		Name: "cloud-init", Pos: own.Fields[0].Pos,
		Files: top.WriteFiles, Commands: top.RunCmd, Hostname: top.Hostname, Users: top.Users, Groups: top.Groups,
	}
	// As in Kairos: the keys at the top are for all users of the file, and for
	// root when the file has no users.
	for _, u := range top.Users {
		step.addKeys(u.Name, u.Pos, top.SSHAuthorizedKeys)
	}
	if len(top.Users) == 0 {
		step.addKeys("root", step.Pos, top.SSHAuthorizedKeys)
	}
	step.check(&problems)
	return step, problems, true
}

func (s *Step) addKeys(user string, pos diag.Pos, keys []string) {
	if len(keys) > 0 {
		s.AuthorizedKeys = append(s.AuthorizedKeys, Entry[[]string]{user, pos, keys})
	}
}

// Check finds all that is wrong with a config, in the order of the file.
func Check(n *tree.Node) diag.List {
	head, problems := DecodeHead(n)
	_, found, _ := CloudInitStep(n)
	problems = append(problems, found...)
	problems = append(problems, head.Stages.Slips(StageNames...)...)
	for _, stage := range head.Stages {
		for _, step := range stage.Steps {
			_, found := DecodeStep(step)
			problems = append(problems, found...)
		}
	}
	slices.SortStableFunc(problems, func(a, b diag.Problem) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	return problems
}
