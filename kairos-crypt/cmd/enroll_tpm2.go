package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/config"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/tpm"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/way"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/urfave/cli/v2"
)

func tpm2Flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "pcrs", Usage: "bind to the current values of `PCRS`, such as 7+14; empty for none (default: 7, or none with a public key)"},
		&cli.StringFlag{Name: "bank", Usage: "use the PCR bank `HASH`: sha1, sha256, sha384 or sha512 (default: sha256)"},
		&cli.StringFlag{Name: "public-key", Usage: "accept policies signed by the key in `FILE` (PEM); none for no key (default: that of the booted unified kernel image)"},
		&cli.StringFlag{Name: "public-key-pcrs", Value: "11", Usage: "`PCRS` that signed policies cover"},
		&cli.BoolFlag{Name: "pin", Usage: "ask for a PIN, which the TPM requires too"},
		&cli.StringFlag{Name: "pin-file", Usage: "take that PIN from `FILE`, - for stdin"},
		&cli.BoolFlag{Name: "legacy", Usage: "make a slot that systemd 252 and 253 can open too"},
	}
}

func tpm2Enroller(c *cli.Context, s *session) (*enrollment, error) {
	if err := s.ways.TPM.Present(); err != nil {
		return nil, err
	}
	token, err := s.policy(c)
	if err != nil {
		return nil, err
	}
	token.PIN = c.Bool("pin") || c.String("pin-file") != ""
	pinFile := c.String("pin-file")
	return s.sealed(token, false, c.Bool("legacy"), func(ctx context.Context) (*secret.Memory, error) { return s.typedOr(ctx, pinFile, "PIN") }), nil
}

// policy returns the policy of a key slot, from the options, the settings and the
// booted image.
func (s *session) policy(c *cli.Context) (*luks.TPM2, error) {
	token := &luks.TPM2{Bank: s.config.Bank}
	var err error
	switch file := c.String("public-key"); file {
	case "none":
	case "":
		token.PublicKey, _, err = s.ways.TPM.PublicKey()
	default:
		token.PublicKey, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, err
	}
	if token.PublicKey != nil {
		if token.PublicPCRs, err = config.PCRs(c.String("public-key-pcrs")); err != nil {
			return nil, exit.Usagef("--public-key-pcrs: %w", err)
		}
		if len(token.PublicPCRs) == 0 {
			return nil, exit.Usagef("--public-key-pcrs: a signed policy covers one PCR at least")
		}
		if _, err := tpm.Fingerprint(token.PublicKey); err != nil {
			return nil, err
		}
	}
	switch {
	case c.IsSet("pcrs"):
		if token.PCRs, err = config.PCRs(c.String("pcrs")); err != nil {
			return nil, exit.Usagef("--pcrs: %w", err)
		}
	case token.PublicKey == nil:
		token.PCRs = s.config.PCRs
	}
	if c.String("bank") != "" {
		token.Bank = c.String("bank")
	}
	if !slices.Contains([]string{"sha1", "sha256", "sha384", "sha512"}, token.Bank) {
		return nil, exit.Usagef("--bank %s: not sha1, sha256, sha384 or sha512", token.Bank)
	}
	return token, nil
}

// sealed returns the enrollment of a key that the TPM seals under a policy. With proof,
// the TPM must unseal it now; legacy is for systemd before version 254.
func (s *session) sealed(policy *luks.TPM2, proof, legacy bool, pin func(context.Context) (*secret.Memory, error)) *enrollment {
	return &enrollment{volume.TPM2, "sealed by the TPM, " + bound(policy), func(ctx context.Context) (*newKey, error) {
		token := luks.TPM2{PCRs: policy.PCRs, Bank: policy.Bank, PublicKey: policy.PublicKey, PublicPCRs: policy.PublicPCRs}
		if len(token.PCRs)+len(token.PublicPCRs) == 0 {
			token.Bank = ""
		}
		var code *secret.Memory
		if policy.PIN {
			var err error
			if code, err = pin(ctx); err != nil {
				return nil, err
			}
			defer code.Wipe()
		}
		key, proved, err := s.ways.TPM.Seal(&token, code, legacy)
		if err != nil {
			return nil, err
		}
		if proved != nil && (proof || len(token.PublicKey) == 0 || !errors.Is(proved, tpm.ErrPolicy)) {
			key.Wipe()
			return nil, fmt.Errorf("sealed, but not unsealed: %w", proved)
		}
		if proved != nil {
			s.log.Warn("the signed policy does not allow unsealing now, so the slot is not tested: " + proved.Error())
		}
		return &newKey{secret: key, kdf: cryptsetup.Random, token: way.Token(&token)}, nil
	}}
}

// bound describes the policy for people.
func bound(t *luks.TPM2) string {
	var text string
	switch {
	case len(t.PublicKey) > 0 && len(t.PCRs) > 0:
		text = fmt.Sprintf("bound to signed policies of PCR %s and the current value of PCR %s", tpm.List(t.PublicPCRs), tpm.List(t.PCRs))
	case len(t.PublicKey) > 0:
		text = fmt.Sprintf("bound to signed policies of PCR %s", tpm.List(t.PublicPCRs))
	case len(t.PCRs) == 1:
		text = fmt.Sprintf("bound to the current value of PCR %d (%s)", t.PCRs[0], tpm.Meaning(t.PCRs[0]))
	case len(t.PCRs) > 1:
		text = fmt.Sprintf("bound to the current values of PCRs %s", tpm.List(t.PCRs))
	case t.PIN:
		return "bound to a PIN and to this TPM, whatever boots"
	default:
		return "bound to this TPM only, whatever boots"
	}
	if t.PIN {
		text += ", and to a PIN"
	}
	return text
}
