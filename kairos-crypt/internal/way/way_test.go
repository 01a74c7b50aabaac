package way

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/tpm"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
)

// A person is asked for a while only where the deployment is why, and else as
// long as it takes.
func TestPatience(t *testing.T) {
	kernel := fmt.Errorf("unseal: %w", &tpm.Refusal{PCRs: []int{4}, Why: "PCR 4 has changed"})
	firmware := fmt.Errorf("unseal: %w", &tpm.Refusal{PCRs: []int{4, 0}, Why: "PCRs 0+4 have changed"})
	for name, test := range map[string]struct {
		refusals []error
		limited  bool
	}{
		"no refusal":     {nil, false},
		"another TPM":    {[]error{tpm.ErrOther}, false},
		"firmware":       {[]error{firmware}, false},
		"the deployment": {[]error{tpm.ErrOther, kernel}, true},
	} {
		limited := false
		w := Ways{Patience: time.Nanosecond, Ask: func(ctx context.Context, _ string) (*secret.Memory, error) {
			if _, limited = ctx.Deadline(); limited {
				<-ctx.Done()
			}
			return nil, errors.New("no answer")
		}}
		_, _, err := w.ask(t.Context(), &volume.Volume{Header: new(luks.Header)}, nil, test.refusals)
		if limited != test.limited || errors.Is(err, ErrNobody) != test.limited {
			t.Errorf("%s: limited is %t: %v", name, limited, err)
		}
		if of := OfDeployment(errors.Join(append(test.refusals, err)...)); of != test.limited {
			t.Errorf("%s: it is the deployment's: %t", name, of)
		}
	}
}
