package cmd

import (
	"context"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
)

// measure measures the volume key of what was opened.
func (s *session) measure(ctx context.Context, v *volume.Volume, name string, slot int, key *secret.Memory) error {
	if err := s.ways.TPM.Present(); err != nil {
		return err
	}
	volumeKey, err := cryptsetup.VolumeKey(ctx, v.Device, slot, key.Bytes())
	if err != nil {
		return err
	}
	defer clear(volumeKey)
	return s.ways.TPM.Measure(volumeKey, name, v.Header.UUID)
}
