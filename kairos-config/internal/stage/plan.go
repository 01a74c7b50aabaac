// Package stage runs a stage of the node's configs: it gathers the steps that
// they have for it, applies them in order and records what each one did.
package stage

import (
	"fmt"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
)

// Plan is the steps of one stage in the order in which they run: first those
// of STAGE.before of all configs, then STAGE, then STAGE.after; within each the
// configs in the order of their sources.
type Plan struct {
	Stage    string
	Steps    []Step
	Problems diag.List // of configs, not of steps
}

// Step is one step of a plan.
type Step struct {
	Part      string // the key beneath stages: boot, boot.before
	Name      string // never empty
	Source    string // the config
	CloudInit bool   // made of cloud-init's keys at the top
	Strict    bool   // the config is strict: a failure fails the stage
	Spec      schema.Step
	Problems  diag.List
}

// NewPlan gathers the steps of a stage. Each config counts by itself, as in
// Kairos: keys at its top belong to its own users, strict to its own steps.
func NewPlan(c *source.Collection, stage string) *Plan {
	p := &Plan{Stage: stage, Problems: c.Problems}
	heads := make([]schema.Head, len(c.Documents))
	for i, doc := range c.Documents {
		var problems diag.List
		heads[i], problems = schema.DecodeHead(doc.Root)
		p.Problems = append(p.Problems, problems...)
		p.Problems = append(p.Problems, heads[i].Stages.Slips(stage)...)
	}
	for _, part := range schema.Parts(stage) {
		for i, doc := range c.Documents {
			p.add(part, doc, heads[i])
		}
	}
	p.lastHostname()
	return p
}

// lastHostname leaves the host name at the top of configs to the last that
// has one: it would be set to and fro otherwise, at every boot.
func (p *Plan) lastHostname() {
	last := true
	for i := len(p.Steps) - 1; i >= 0; i-- {
		if s := &p.Steps[i]; s.CloudInit && s.Spec.Hostname != "" {
			if !last {
				s.Spec.Hostname = ""
			}
			last = false
		}
	}
}

func (p *Plan) add(part string, doc source.Document, head schema.Head) {
	step := Step{Part: part, Source: doc.Source, Strict: head.Strict}
	if part == schema.CloudInitStage && doc.Header {
		spec, problems, wanted := schema.CloudInitStep(doc.Root)
		if wanted {
			step.Name, step.Spec, step.Problems = spec.Name, spec, problems
			step.CloudInit = true
			p.Steps = append(p.Steps, step)
			step.CloudInit = false
		} else {
			p.Problems = append(p.Problems, problems...)
		}
	}
	for _, s := range head.Stages {
		if s.Name != part {
			continue
		}
		for i, node := range s.Steps {
			step.Spec, step.Problems = schema.DecodeStep(node)
			step.Name = step.Spec.Name
			if step.Name == "" {
				step.Name = fmt.Sprintf("%s.%d", part, i)
			}
			p.Steps = append(p.Steps, step)
		}
	}
}

// Has reports whether any config has steps for the stage.
func (p *Plan) Has() bool { return len(p.Steps) > 0 }
