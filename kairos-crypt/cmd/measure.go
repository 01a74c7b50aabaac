package cmd

import (
	"context"

	"github.com/kairos-io/toolkit/kairos-crypt/internal/cryptsetup"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/secret"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/way"
)

// maxVolumeKey is the maximum length of a volume key, in bytes: larger than the two
// AES-256 keys of XTS.
const maxVolumeKey = 512

// measurement opens a volume and, if configured and possible, measures its volume key
// with the TPM.
type measurement struct {
	tpm       *way.TPM
	volumeKey *secret.Memory // nil: no measurement
	length    int            // of the volume key, 0: cryptsetup did not return it
}

// measuring prepares a measurement.
func (s *session) measuring() (*measurement, error) {
	m := &measurement{tpm: s.ways.TPM}
	if !s.config.Measure || m.tpm.Present() != nil {
		return m, nil
	}
	var err error
	m.volumeKey, err = secret.New(maxVolumeKey)
	return m, err
}

// open maps the volume.
func (m *measurement) open(ctx context.Context, v *volume.Volume, name string, slot int, key []byte) (err error) {
	if m.volumeKey == nil {
		return cryptsetup.Open(ctx, v.Device, name, slot, key)
	}
	m.length, err = cryptsetup.OpenReading(ctx, v.Device, name, slot, key, m.volumeKey.Bytes())
	return err
}

// measure measures the volume key of the opened volume.
func (m *measurement) measure(ctx context.Context, v *volume.Volume, name string, slot int, key *secret.Memory) error {
	if m.volumeKey == nil {
		return nil
	}
	if m.length > 0 {
		return m.tpm.Measure(m.volumeKey.Bytes()[:m.length], name, v.Header.UUID)
	}
	volumeKey, err := cryptsetup.VolumeKey(ctx, v.Device, slot, key.Bytes())
	if err != nil {
		return err
	}
	defer clear(volumeKey)
	return m.tpm.Measure(volumeKey, name, v.Header.UUID)
}

func (m *measurement) wipe() { m.volumeKey.Wipe() }
