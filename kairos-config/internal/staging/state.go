package staging

import (
	"context"
	"errors"
	"slices"

	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/kairos-io/toolkit/lib/report/boots"
	"github.com/kairos-io/toolkit/lib/run"
)

// State is the state of all generations.
type State struct {
	Booted      string       `json:"booted"` // id of the generation, "" for the plain configs
	Staged      string       `json:"staged"` // id of the generation that boots next, if it is another
	Generations []Generation `json:"generations"`
}

// Generation is a generation with its state.
type Generation struct {
	ID string `json:"id"`
	generation.Generation
	State      string `json:"state"` // booted, staged, failed or kept
	Deployment string `json:"deployment,omitempty"`
	Reason     string `json:"reason,omitempty"` // why it failed
}

// Read returns the state of the generations beneath a root. upgrade may be nil: then,
// and when it fails, only the state that the root itself has is returned.
func Read(ctx context.Context, root *rootfs.Root, upgrade Upgrade) (State, error) {
	s := State{Generations: []Generation{}}
	booted, err := generation.Booted(root)
	if err != nil {
		return s, err
	}
	if booted != nil {
		s.Booted = booted.ID
	}
	all, damaged := generation.All(root)
	var list Deployments
	if upgrade != nil && len(all) > 0 {
		list, err = upgrade.Deployments(ctx)
		damaged = errors.Join(damaged, err)
	}
	if next := list.next(); next != nil && generationOf(next.NodeOptions) != s.Booted {
		s.Staged = generationOf(next.NodeOptions)
	}
	var reasons map[string]string
	for _, g := range all {
		told := Generation{ID: g.ID, Generation: *g, State: "kept"}
		for _, d := range list.Deployments {
			if generationOf(d.NodeOptions) != g.ID {
				continue
			}
			told.Deployment = d.ID
			if d.State == report.Bad {
				if reasons == nil {
					reasons = fallbacks(ctx)
				}
				told.State, told.Reason = "failed", reasons[d.ID]
			}
			break // the newest counts
		}
		switch g.ID {
		case s.Booted:
			told.State = "booted"
		case s.Staged:
			told.State = "staged"
		}
		s.Generations = append(s.Generations, told)
	}
	return s, damaged
}

// fallbacks returns the reasons by the deployments that failed:
// kairos-boot-assess(8) knows them. Without it none is told.
func fallbacks(ctx context.Context) map[string]string {
	reasons := map[string]string{}
	out, err := run.Runner{}.Output(ctx, "kairos-boot-assess", "history", "--json", "-n", "0")
	if err != nil {
		return reasons
	}
	history, err := report.Parse[boots.History]("kairos-boot-assess history", out)
	if err != nil {
		return reasons
	}
	for _, f := range slices.Backward(history.Fallbacks) { // the newest counts
		if f.Fallback != nil {
			reasons[f.Fallback.From] = f.Fallback.Reason
		}
	}
	return reasons
}
