package source

import (
	"context"
	"errors"
	"fmt"

	"github.com/kairos-io/toolkit/lib/cmdline"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/signature"
	"go.podman.io/storage/pkg/configfile"
)

// policy is the system's containers-policy.json(5).
type policy struct{ *signature.PolicyContext }

// newPolicy reads the policy. A system that has none accepts every image, and
// a warning says so: distributions without container tools ship no policy, and
// a node that refuses all images there could never be installed. A policy that
// was named but isn't there, or can't be read, is an error.
func newPolicy(opts Options) (*policy, error) {
	rules, err := signature.DefaultPolicy(opts.system())
	if err != nil {
		if opts.PolicyFile != "" || !noPolicy(err) {
			return nil, fmt.Errorf("read signature policy: %w", err)
		}
		opts.log().Warn("no signature policy, every image is accepted: see containers-policy.json(5)")
		rules = &signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}}
	}
	ctx, err := signature.NewPolicyContext(rules)
	if err != nil {
		return nil, fmt.Errorf("signature policy: %w", err)
	}
	return &policy{ctx}, nil
}

func noPolicy(err error) bool { return errors.Is(err, configfile.ErrConfigFileNotFound) }

// check refuses an image that the policy does not accept, with exit status 4.
func (p *policy) check(ctx context.Context, img *image.UnparsedImage) error {
	allowed, err := p.IsRunningImageAllowed(ctx, img)
	var requirement signature.PolicyRequirementError
	switch {
	case allowed && err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		err = errors.New("no reason given")
	}
	err = fmt.Errorf("refused by the signature policy: %w", err)
	if errors.As(err, &requirement) {
		err = cmdline.Hint(err, "the policy is /etc/containers/policy.json, see containers-policy.json(5)")
	}
	return cmdline.WithCode(err, cmdline.ExitRefused)
}
