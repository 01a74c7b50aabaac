package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/kind"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage/pkg/configfile"
)

// policy is the system's containers-policy.json(5).
type policy struct {
	*signature.PolicyContext
	rules *signature.Policy
}

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
	return &policy{ctx, rules}, nil
}

func noPolicy(err error) bool { return errors.Is(err, configfile.ErrConfigFileNotFound) }

// check refuses an image that the policy does not accept, with ErrRefused.
// A signature that could not be fetched for a transient reason is an ordinary
// error: it says nothing about the image.
func (p *policy) check(ctx context.Context, img *image.UnparsedImage) error {
	allowed, err := p.IsRunningImageAllowed(ctx, img)
	switch {
	case allowed && err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		err = errors.New("no reason given")
	case Transient(err):
		return fmt.Errorf("check the signature: %w", err)
	}
	scope, failed := p.failing(ctx, img)
	err = kind.Errorf(ErrRefused, "refused by the signature policy: %s: %w", scope, err)
	return exit.Hint(err, "%s; see containers-policy.json(5)", failed.hint(err))
}

// requirement is what the policy wants, as far as messages tell it.
type requirement struct {
	Type string `json:"type"`
	// Where the key is, of signedBy and sigstoreSigned.
	KeyPath  string   `json:"keyPath"`
	KeyPaths []string `json:"keyPaths"`
}

func (r requirement) String() string {
	keys := r.KeyPaths
	if r.KeyPath != "" {
		keys = append(keys, r.KeyPath)
	}
	if len(keys) == 0 {
		return r.Type
	}
	return fmt.Sprintf("%s with %s", r.Type, strings.Join(keys, ", "))
}

// hint says what can be done about a requirement that was not met.
func (r requirement) hint(err error) string {
	unsigned := strings.Contains(err.Error(), "no signature exists")
	switch {
	case r.Type == "reject":
		return "the policy rejects all images from there: use another registry, or add a scope for it"
	case unsigned && r.Type == "sigstoreSigned":
		return "sign the image; set use-sigstore-attachments in /etc/containers/registries.d if the registry holds sigstore signatures"
	case unsigned:
		return "sign the image; set lookaside in /etc/containers/registries.d to where its signatures are"
	}
	return "the image must be signed with that key, under the name that it is pulled by"
}

// failing names the requirement that an image fails and the scope that it
// stands in: "transport docker, scope quay.io/x, requirement 1 of 1 (reject)".
func (p *policy) failing(ctx context.Context, img *image.UnparsedImage) (where string, failed requirement) {
	scope, requirements := p.scope(img.Reference())
	for i, one := range requirements {
		data, err := json.Marshal(one)
		if err != nil || json.Unmarshal(data, &failed) != nil {
			continue
		}
		where = fmt.Sprintf("%s, requirement %d of %d (%s)", scope, i+1, len(requirements), failed)
		alone, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{one}})
		if err != nil {
			continue
		}
		allowed, _ := alone.IsRunningImageAllowed(ctx, img)
		_ = alone.Destroy()
		if !allowed {
			return where, failed
		}
		failed = requirement{}
	}
	return scope, failed
}

// scope returns the requirements that hold for an image, and where they stand:
// the most specific scope of its transport, else the default
// (containers-policy.json(5), "transports").
func (p *policy) scope(ref types.ImageReference) (string, signature.PolicyRequirements) {
	transport := ref.Transport().Name()
	scopes := p.rules.Transports[transport]
	names := append([]string{ref.PolicyConfigurationIdentity()}, ref.PolicyConfigurationNamespaces()...)
	for _, name := range append(names, "") {
		if requirements, ok := scopes[name]; ok {
			return fmt.Sprintf("transport %s, scope %q", transport, name), requirements
		}
	}
	return "the default", p.rules.Default
}
