package cmd

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/urfave/cli/v2"
)

func tangFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "url", Usage: "`URL` of the tang server"},
		&cli.StringFlag{Name: "thumbprint", Usage: "`THP` of its signing key, as tang-show-keys prints it there"},
	}
}

func tangEnroller(c *cli.Context, s *session) (*enrollment, error) {
	server, thumbprint := c.String("url"), c.String("thumbprint")
	if server == "" || thumbprint == "" {
		return nil, exit.Hint(exit.Usagef("--url and --thumbprint are needed"), "tang-show-keys prints the thumbprint on the server")
	}
	if parsed, err := url.Parse(server); err != nil || parsed.Host == "" || !slices.Contains([]string{"http", "https"}, parsed.Scheme) {
		return nil, exit.Usagef("--url %s: not an http or https URL", server)
	}
	return s.tang(server, thumbprint), nil
}

// keySize is the size of a random passphrase of a key slot, in bytes before base64.
const keySize = 32

// tang returns the enrollment of a random key that is decrypted with the help of a tang
// server.
func (s *session) tang(server, thumbprint string) *enrollment {
	return &enrollment{volume.Tang, "bound to the tang server " + server, func(ctx context.Context) (*newKey, error) {
		raw, err := secret.New(keySize)
		if err != nil {
			return nil, err
		}
		defer raw.Wipe()
		_, _ = rand.Read(raw.Bytes()) // never fails: the program ends instead
		key, err := secret.New(base64.RawStdEncoding.EncodedLen(keySize))
		if err != nil {
			return nil, err
		}
		base64.RawStdEncoding.Encode(key.Bytes(), raw.Bytes())
		jwe, err := s.ways.Tang.Encrypt(ctx, key.Bytes(), server, thumbprint)
		if err != nil {
			key.Wipe()
			return nil, err
		}
		return &newKey{secret: key, kdf: cryptsetup.Random, token: func(slot int) (json.RawMessage, error) { return luks.FromJWE(slot, jwe) }}, nil
	}}
}
