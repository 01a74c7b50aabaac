package way

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/lib/run"
)

// Tang binds key slots to a tang server on the network, by clevis(1): a node opens them
// where it reaches the server.
type Tang struct {
	// Timeout is how long a request to the server may take.
	Timeout time.Duration
}

// ErrNoClevis says that clevis is not installed.
var ErrNoClevis = errors.New("clevis is not installed")

// Key decrypts the slot's passphrase with clevis.
func (t Tang) Key(ctx context.Context, _ *volume.Volume, slot volume.Slot) (*secret.Memory, error) {
	if slot.Clevis.Pin != "tang" {
		return nil, fmt.Errorf("clevis' pin %s is not supported", slot.Clevis.Pin)
	}
	key, err := t.clevis(ctx, []byte(slot.Clevis.JWE), "decrypt")
	if err != nil && slot.Clevis.URL != "" {
		err = fmt.Errorf("%s: %w", slot.Clevis.URL, err)
	}
	if err != nil {
		return nil, err
	}
	return secret.Take(key)
}

// Encrypt binds a key to the server at a URL whose signing key has the
// thumbprint, and returns the JWE in compact form.
func (t Tang) Encrypt(ctx context.Context, key []byte, url, thumbprint string) ([]byte, error) {
	config, err := json.Marshal(map[string]string{"url": url, "thp": thumbprint})
	if err != nil {
		return nil, err
	}
	jwe, err := t.clevis(ctx, key, "encrypt", "tang", string(config))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return jwe, nil
}

// clevis runs clevis with its input on a pipe. clevis is a shell script that runs curl
// and jose: they run in a process group, which a timeout kills.
func (t Tang) clevis(ctx context.Context, input []byte, arguments ...string) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	out, err := run.Runner{Stdin: input, Group: true}.Output(limited, append([]string{"clevis"}, arguments...)...)
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, exec.ErrNotFound):
		return nil, ErrNoClevis
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil:
		return nil, fmt.Errorf("no answer within %s", t.Timeout)
	}
	clear(out)
	return nil, err
}
