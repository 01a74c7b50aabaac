package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/kind"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
)

const (
	// maxTags bounds how many tags of a repository are looked at.
	maxTags = 100_000
	// tagsWithin bounds how long a registry may take to list them: it decides
	// how many pages there are.
	tagsWithin = 2 * time.Minute
)

// Tags returns the tags of a repository in a registry, in the registry's
// order, from the first of its mirrors that answers, or else from itself. A
// tag or a digest in the name does not matter.
func Tags(ctx context.Context, repository string, opts Options) ([]string, error) {
	src, err := Parse(repository)
	if err != nil {
		return nil, err
	}
	if src.Kind != KindImage || src.transport != registry {
		return nil, usagef("%q is not a repository in a registry", repository)
	}
	if err := opts.checkAuthFile(); err != nil {
		return nil, err
	}
	sys := opts.system()
	candidates, err := src.candidates(sys)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, tagsWithin, fmt.Errorf("the registry has not listed them all within %s", tagsWithin))
	defer cancel()
	var errs []error
	for _, candidate := range candidates {
		tags, err := mirroredTags(ctx, sys, reference.TrimNamed(candidate.DockerReference()), opts)
		if err == nil {
			return tags, nil
		}
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) {
			err = cause
		}
		errs = append(errs, fmt.Errorf("list tags of %s: %w", candidate.DockerReference().Name(), explain(err, registry)))
	}
	if len(errs) == 1 {
		return nil, errs[0]
	}
	return nil, errors.Join(errs...)
}

// mirroredTags asks the mirrors of a repository, by the rules that hold for
// tags, and then the repository itself. (containers/image asks mirrors for
// images only.)
func mirroredTags(ctx context.Context, sys *types.SystemContext, name reference.Named, opts Options) ([]string, error) {
	found, err := sysregistriesv2.FindRegistry(sys, name.Name())
	if err != nil {
		return nil, fmt.Errorf("read registries.conf: %w", err)
	}
	own := opts.accepted(name)
	if found == nil {
		at := *sys
		if own != "" {
			at.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
		}
		return tagsAt(ctx, &at, name, opts)
	}
	if found.Blocked {
		return nil, errBlocked(found)
	}
	sources, err := found.PullSourcesFromReference(name)
	if err != nil {
		return nil, err
	}
	var errs error
	for _, s := range sources {
		at := *sys
		if s.Endpoint.Insecure || reference.Domain(s.Reference) == own {
			at.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
		}
		tags, err := tagsAt(ctx, &at, s.Reference, opts)
		if err == nil {
			return tags, nil
		}
		errs = errors.Join(errs, fmt.Errorf("%s: %w", s.Reference.Name(), err))
	}
	return nil, errs
}

func tagsAt(ctx context.Context, sys *types.SystemContext, name reference.Named, opts Options) (tags []string, err error) {
	ref, err := docker.NewReference(reference.TagNameOnly(name))
	if err != nil {
		return nil, err
	}
	err = retry(ctx, true, opts.log(), func() (err error) {
		tags, err = docker.GetRepositoryTags(ctx, sys, ref)
		return err
	})
	if err == nil && len(tags) > maxTags {
		err = fmt.Errorf("%d tags, at most %d are accepted", len(tags), maxTags)
	}
	return tags, err
}

// errBlocked says that registries.conf forbids a registry.
func errBlocked(r *sysregistriesv2.Registry) error {
	return exit.Hint(kind.Errorf(ErrRefused, "registries.conf blocks %s", r.Prefix),
		"see blocked in containers-registries.conf(5)")
}
