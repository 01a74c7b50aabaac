// Package staging tries a change of the node's config like an upgrade: the change
// becomes a generation on COS_OEM, and the booted image a new deployment that names it,
// with its own tries. A boot that fails falls back to the previous deployment, and so
// to the previous generation.
package staging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/lock"
	"github.com/kairos-io/toolkit/lib/report"
)

// kept is how many generations stay on COS_OEM, besides those that boot
// entries name.
const kept = 5

// Deployment is a deployment in kairos-upgrade's status.
type Deployment = report.Deployment

// generationOf returns the generation that a deployment boots with, "" when it
// boots with the plain configs.
func generationOf(nodeOptions []string) string {
	return generation.FromCommandLine(strings.Join(nodeOptions, " "))
}

// Deployments is kairos-upgrade's status.
type Deployments report.Upgrade

// Find returns the deployment with an id, nil when there is none.
func (s Deployments) Find(id string) *Deployment {
	i := slices.IndexFunc(s.Deployments, func(d Deployment) bool { return d.ID == id })
	if i < 0 {
		return nil
	}
	return &s.Deployments[i]
}

// next returns what boots next.
func (s Deployments) next() *Deployment {
	if d := s.Find(s.Staged); d != nil {
		return d
	}
	return s.Find(s.Booted)
}

// Upgrade is the interface to kairos-upgrade(8).
type Upgrade interface {
	Deployments(ctx context.Context) (Deployments, error)
	// Stage deploys a deployment's image again, with other kernel arguments of the
	// node.
	Stage(ctx context.Context, id string, add, remove []string) error
	// Rollback makes a deployment boot next.
	Rollback(ctx context.Context, id string) error
}

// Node is the node whose config is staged.
type Node struct {
	Root    *rootfs.Root
	Disk    generation.Disk // COS_OEM
	Upgrade Upgrade
	Booted  deployment.Booted
	Now     func() time.Time
	Log     *slog.Logger
}

// Change is a change of the configs on COS_OEM.
type Change struct {
	Put    map[string][]byte // by file name
	Remove []string
}

// Base returns the generation on which a change is based: that of the deployment that
// boots next, so that changes add up, while a failed one doesn't count.
func (n *Node) Base(ctx context.Context) (*generation.Generation, error) {
	list, err := n.Upgrade.Deployments(ctx)
	if err != nil {
		return nil, err
	}
	return n.base(list)
}

func (n *Node) base(list Deployments) (*generation.Generation, error) {
	next := list.next()
	if next == nil || generationOf(next.NodeOptions) == "" {
		return nil, nil
	}
	return generation.Read(n.Root, generationOf(next.NodeOptions))
}

// Stage creates a generation with a change and a deployment that boots with it. Exit
// statuses of errors: 3, the change changes nothing; 6, another staging runs; those of
// kairos-upgrade. After an error everything is as before.
func (n *Node) Stage(ctx context.Context, change Change) (*generation.Generation, error) {
	unlock, err := n.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	list, err := n.Upgrade.Deployments(ctx)
	if err != nil {
		return nil, err
	}
	base, err := n.base(list)
	if err != nil {
		return nil, err
	}
	g, err := generation.Write(n.Disk, generation.Change{Base: base, Put: change.Put, Remove: change.Remove}, n.Now())
	if err != nil {
		return nil, err
	}
	if same(base, g) {
		err := exit.WithCode(errors.New("nothing to do: the configs are unchanged"), exit.Nothing)
		return nil, errors.Join(err, generation.Remove(n.Disk, g.ID))
	}
	if err := n.deploy(ctx, list, g.ID); err != nil {
		return nil, errors.Join(err, generation.Remove(n.Disk, g.ID))
	}
	n.collect(ctx)
	return g, nil
}

// same reports whether a generation has what its base has.
func same(base, g *generation.Generation) bool {
	if base == nil {
		return false
	}
	return slices.Equal(base.Files, g.Files) && slices.Equal(base.Removed, g.Removed)
}

// begin checks that this system can be staged for, and that nobody else does.
func (n *Node) begin(ctx context.Context) (unlock func(), err error) {
	if n.Booted.Mode != deployment.Active && n.Booted.Mode != deployment.Passive {
		err := fmt.Errorf("a config can be staged on an installed system only, and this one was booted in mode %q", n.Booted.Mode)
		return nil, exit.Hint(err, "put the file into %s to use it at the next boot without a trial", generation.OEM)
	}
	if _, err := n.Root.Mkdir(report.Dir, rootfs.KeepAll); err != nil {
		return nil, err
	}
	file, err := n.Root.OpenLock(report.Dir + "/config-stage.lock")
	if err != nil {
		return nil, err
	}
	err = lock.Take(ctx, file, func() error { return errors.New("another process stages a config") })
	if err != nil {
		file.Close()
		return nil, err
	}
	return func() { file.Close() }, nil
}

// deploy makes a deployment of the booted image that boots with a generation,
// "" for the plain configs.
func (n *Node) deploy(ctx context.Context, list Deployments, id string) error {
	booted, next := list.Find(list.Booted), list.next()
	if booted == nil || next == nil {
		return errors.New("the running system is not a deployment of this disk")
	}
	if next.ImageDigest != booted.ImageDigest {
		n.Log.Warn(fmt.Sprintf("deployment %s of another image was staged: it does not boot next any more", next.ID))
	}
	var add, remove []string
	if id != "" {
		add = []string{generation.Argument + "=" + id}
	}
	for _, option := range next.NodeOptions {
		if strings.HasPrefix(option, generation.Argument+"=") && !slices.Contains(add, option) {
			remove = append(remove, option)
		}
	}
	return n.Upgrade.Stage(ctx, booted.ID, add, remove)
}

// collect removes generations that nobody needs. The staging stands: a failure
// here is a warning.
func (n *Node) collect(ctx context.Context) {
	list, err := n.Upgrade.Deployments(ctx)
	if err == nil {
		var named []string
		for _, d := range list.Deployments {
			named = append(named, generationOf(d.NodeOptions))
		}
		_, err = generation.Collect(n.Disk, named, kept)
	}
	if err != nil {
		n.Log.Warn(fmt.Sprintf("old generations could not be removed: %v", err))
	}
}

// Discard makes the running deployment boot next, with its own config, and removes the
// staged generation. Exit status of errors: 3, no config is staged.
func (n *Node) Discard(ctx context.Context) (id string, err error) {
	unlock, err := n.begin(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	list, err := n.Upgrade.Deployments(ctx)
	if err != nil {
		return "", err
	}
	staged, booted := list.Find(list.Staged), list.Find(list.Booted)
	switch {
	case staged == nil || booted == nil:
		return "", exit.WithCode(errors.New("nothing to do: no config is staged"), exit.Nothing)
	case staged.ImageDigest != booted.ImageDigest:
		err := fmt.Errorf("deployment %s is staged, which is an upgrade and not a config", staged.ID)
		return "", exit.Hint(exit.WithCode(err, exit.Nothing), "kairos-upgrade rollback %s makes the running deployment boot next", booted.ID)
	case generationOf(staged.NodeOptions) == generationOf(booted.NodeOptions):
		return "", exit.WithCode(errors.New("nothing to do: the next boot has the running config"), exit.Nothing)
	}
	if err := n.Upgrade.Rollback(ctx, booted.ID); err != nil {
		return "", err
	}
	id = generationOf(staged.NodeOptions)
	if id != "" {
		if err := n.removeUnnamed(ctx, id); err != nil {
			n.Log.Warn(fmt.Sprintf("generation %s could not be removed: %v", id, err))
		}
	}
	return id, nil
}

// removeUnnamed removes a generation unless a deployment names it still.
func (n *Node) removeUnnamed(ctx context.Context, id string) error {
	list, err := n.Upgrade.Deployments(ctx)
	if err != nil {
		return err
	}
	for _, d := range list.Deployments {
		if generationOf(d.NodeOptions) == id {
			return nil // at the next collection
		}
	}
	return generation.Remove(n.Disk, id)
}

// Rollback stages an older generation with the booted image: the one with an id, or the
// one on which the booted generation is based. It returns its id, "" for the plain
// configs. Exit status of errors: 3, there is none.
func (n *Node) Rollback(ctx context.Context, to string) (id string, err error) {
	unlock, err := n.begin(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	list, err := n.Upgrade.Deployments(ctx)
	if err != nil {
		return "", err
	}
	booted := list.Find(list.Booted)
	switch {
	case booted == nil:
		return "", errors.New("the running system is not a deployment of this disk")
	case to == "" && generationOf(booted.NodeOptions) == "":
		return "", exit.WithCode(errors.New("nothing to do: the plain configs are in use, and there is no older generation"), exit.Nothing)
	case to == "":
		g, err := generation.Read(n.Root, generationOf(booted.NodeOptions))
		if err != nil {
			return "", err
		}
		id = g.Base
	case to != Plain:
		id = to
	}
	if id == generationOf(booted.NodeOptions) {
		return "", exit.WithCode(errors.New("nothing to do: that generation is running"), exit.Nothing)
	}
	if id != "" {
		g, err := generation.Read(n.Root, id)
		if err == nil {
			err = g.Verify(n.Root)
		}
		if err != nil {
			return "", err
		}
	}
	return id, n.deploy(ctx, list, id)
}

// Plain is the id that means the plain configs.
const Plain = "plain"
