// Package stage runs a stage of the node's configs: it collects the stage's steps,
// applies them in order and records their results.
package stage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/credential"
	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
	"github.com/kairos-io/toolkit/kairos-config/internal/template"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Plan is the list of steps of one stage in order: first STAGE.before of all configs,
// then STAGE, then STAGE.after; within each the configs in the order of their sources.
type Plan struct {
	Stage    string
	Steps    []Step
	Problems diag.List // of configs, not of steps
	Damaged  bool      // the configs are not those of the generation that this boot names

	fill Fill
}

// Fill holds the functions that turn configs into steps.
type Fill struct {
	Credentials credential.Store
	Templates   *template.Renderer // nil: templates stay as they are
	// KeepCredentials leaves the names of credentials unexpanded: for showing steps,
	// not for applying them.
	KeepCredentials bool
	// Provide returns the configs that providers derive from the merged config for a
	// stage. They come after all others. Nil: there are none.
	Provide func(stage string, merged *tree.Node) ([]source.Document, diag.List)
}

// node fills a value. Templates come first: what a credential holds is none.
func (f Fill) node(n *tree.Node) (*tree.Node, credential.Secrets, diag.List) {
	var problems diag.List
	if f.Templates != nil {
		n, problems = f.Templates.Node(n)
	}
	if f.KeepCredentials {
		return n, nil, problems
	}
	filled, secrets, missing := f.Credentials.Expand(n)
	return filled, secrets, append(problems, missing...)
}

// Step is one step of a plan.
type Step struct {
	Part      string // the key beneath stages: boot, boot.before
	Name      string // never empty
	Source    string // file of the config
	Config    string // name of the config
	CloudInit bool   // derived from cloud-init's keys at the top
	Early     bool   // applies a part of such a step before its stage
	KeysOnly  bool   // fetches keys for users that another step creates
	Strict    bool   // the config is strict: a failure fails the stage
	Assessed  bool   // a failure counts as a failed health check of the boot
	Spec      schema.Step
	Problems  diag.List
	Secrets   credential.Secrets // credentials in Spec

	fingerprint string             // see there
	templates   *template.Renderer // for contents that are encoded; nil leaves them
}

// required is the value of assess that makes failures count.
const required = "required"

// NewPlan collects the steps of a stage. Each config is independent, as in Kairos: keys
// at its top apply to its own users, strict to its own steps. It renders templates and
// expands credentials in this stage's steps only.
func NewPlan(c *source.Collection, stage string, fill Fill) *Plan {
	p := &Plan{Stage: stage, Problems: slices.Clone(c.Problems), fill: fill}
	documents := c.Documents
	if fill.Provide != nil {
		merged, _ := c.Merged()
		provided, problems := fill.Provide(stage, merged)
		documents = slices.Concat(documents, provided)
		p.Problems = append(p.Problems, problems...)
	}
	heads := make([]schema.Head, len(documents))
	for i, doc := range documents {
		var problems diag.List
		heads[i], problems = schema.DecodeHead(doc.Root)
		p.Problems = append(p.Problems, problems...)
		p.Problems = append(p.Problems, heads[i].Stages.Slips(stage)...)
	}
	for _, part := range schema.Parts(stage) {
		if part == "network" {
			p.Steps = append(p.Steps, p.earlierKeys(documents, heads)...)
		}
		begin := len(p.Steps)
		for i, doc := range documents {
			p.add(part, doc, heads[i])
		}
		p.Steps = append(p.Steps[:begin], order(p.Steps[begin:])...)
	}
	p.lastHostname()
	return p
}

// bootStages are the stages of a boot, in their order.
var bootStages = []string{"rootfs", "initramfs", "fs", "boot", "network"}

// Boot returns the plans of a whole boot, in the order of stages.
func Boot(c *source.Collection, fill Fill) []*Plan {
	var plans []*Plan
	for _, stage := range bootStages {
		plans = append(plans, NewPlan(c, stage, fill))
	}
	return plans
}

// earlierKeys returns steps that fetch the keys which steps of earlier stages
// name, as there was no network yet.
func (p *Plan) earlierKeys(documents []source.Document, heads []schema.Head) []Step {
	earlier := Plan{fill: p.fill} // what is wrong with those steps was said in their stages
	for _, stage := range bootStages[:4] {
		for _, part := range schema.Parts(stage) {
			for i, doc := range documents {
				earlier.add(part, doc, heads[i])
			}
		}
	}
	return keySteps(earlier.Steps)
}

// Arrived adds steps of earlier stages of this boot, from configs that were fetched
// only after those stages. Steps that have run do not run again.
func (p *Plan) Arrived(before, now *source.Collection) {
	if len(now.Remotes) == 0 {
		return
	}
	known := map[string]bool{}
	for _, stage := range bootStages[:4] {
		for _, step := range NewPlan(before, stage, p.fill).Steps {
			known[step.identity()] = true
		}
	}
	var arrived []Step
	for _, stage := range bootStages[:4] {
		plan := NewPlan(now, stage, p.fill)
		for _, step := range plan.Steps {
			switch {
			case known[step.identity()]:
			case stage == "rootfs":
				p.Problems.Warnf(step.Spec.Pos, "%s: the stage rootfs is already over: its steps run at the next boot", step.Name)
			default:
				arrived = append(arrived, step)
			}
		}
		if len(arrived) > 0 {
			p.Problems = append(p.Problems, plan.Problems...).Once()
		}
	}
	p.Steps = append(arrived, p.Steps...)
}

// identity is what a step is known by, whoever has the last word on the host name.
func (s Step) identity() string { return strings.TrimSuffix(s.fingerprint, noHostname) }

const noHostname = " without its host name"

// lastHostname leaves the host name at the top of configs to the last that
// has one: it would be set to and fro otherwise, at every boot.
func (p *Plan) lastHostname() {
	last := true
	for i := len(p.Steps) - 1; i >= 0; i-- {
		if s := &p.Steps[i]; s.CloudInit && s.Spec.Hostname != "" {
			if !last {
				s.Spec.Hostname = ""
				s.fingerprint += noHostname
			}
			last = false
		}
	}
}

func (p *Plan) add(part string, doc source.Document, head schema.Head) {
	step := Step{Part: part, templates: p.fill.Templates, Source: doc.Source, Config: head.Name, Strict: head.Strict, Assessed: head.Assess == required}
	if part == schema.CloudInitStage && doc.Header {
		p.addCloudInit(step, doc.Root)
	}
	if part == schema.HostnameStage && doc.Header {
		p.addHostname(step, doc.Root)
	}
	for _, s := range head.Stages {
		if s.Name != part {
			continue
		}
		for i, node := range s.Steps {
			var problems diag.List
			step.fingerprint = fingerprint(part, node)
			node, step.Secrets, problems = p.fill.node(node)
			step.Spec, step.Problems = schema.DecodeStep(node)
			step.Assessed = cmp.Or(step.Spec.Assess, head.Assess) == required
			step.Name = step.Spec.Name
			if step.Name == "" {
				step.Name = fmt.Sprintf("%s.%d", part, i)
			}
			step.clean(problems)
			p.Steps = append(p.Steps, step)
		}
	}
}

// addHostname adds a step for the host name at the top alone: what starts before
// the stage boot, such as the network, shall know it.
func (p *Plan) addHostname(step Step, root *tree.Node) {
	name := root.Field("hostname")
	if name == nil || name.Kind == tree.Null {
		name = root.Field("fqdn")
	}
	if name == nil || name.Kind == tree.Null {
		return
	}
	only := &tree.Node{Kind: tree.Map, Pos: root.Pos, Fields: []tree.Field{{Key: "hostname", Pos: name.Pos, Value: name}}}
	p.addCloudInit(step, only)
	p.Steps[len(p.Steps)-1].Early = true
}

// addCloudInit adds the step that cloud-init's keys at the top make.
func (p *Plan) addCloudInit(step Step, root *tree.Node) {
	var found diag.List
	if own := schema.CloudInitKeys(root); own != nil {
		step.fingerprint = fingerprint(step.Part, own)
		own, step.Secrets, found = p.fill.node(own)
		root = root.With(own.Fields)
	}
	spec, problems, wanted := schema.CloudInitStep(root)
	if !wanted {
		p.Problems = append(p.Problems, problems...)
		return
	}
	step.Name, step.Spec, step.Problems, step.CloudInit = spec.Name, spec, problems, true
	step.clean(found)
	p.Steps = append(p.Steps, step)
}

// clean adds what else is wrong with a step, and takes credentials out of all
// that is said of it.
func (s *Step) clean(more diag.List) {
	s.Name, s.Problems = s.Secrets.Hide(s.Name), slices.Concat(s.Problems, more)
	for i := range s.Problems {
		s.Problems[i].Message = s.Secrets.Hide(s.Problems[i].Message)
	}
}

// Has reports whether any config has steps for the stage.
func (p *Plan) Has() bool { return len(p.Steps) > 0 }
