// Package cmd implements the command line of kairos-crypt, one file per command.
package cmd

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/config"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/luks"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/tpm"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/volume"
	"github.com/kairos-io/toolkit/kairos-crypt/internal/way"
	"github.com/kairos-io/toolkit/lib/cmdline"
	"github.com/kairos-io/toolkit/lib/disk"
	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/logline"
	"github.com/kairos-io/toolkit/lib/report"
	"github.com/urfave/cli/v2"
)

// Machine is the machine that kairos-crypt works on; tests replace it.
type Machine struct {
	Root    string // root directory of settings, signed policies and their keys
	Locks   string // directory of locks
	Unlocks string // directory of the results of unlocks
	Cmdline string // file with the kernel command line, which names the node's volumes
	Disks   disk.System
	Connect func() (transport.TPMCloser, error) // opens the TPM
}

// Local returns the running machine.
func Local() Machine {
	return Machine{
		Root: "/", Locks: "/run/kairos/crypt", Unlocks: report.UnlockDir, Disks: disk.Local(), Cmdline: "/proc/cmdline",
		// The resource manager's device: others use the TPM at the same time.
		Connect: func() (transport.TPMCloser, error) { return linuxtpm.Open("/dev/tpmrm0") },
	}
}

// App returns the application for a machine.
func App(m Machine) *cli.App {
	app := cmdline.New("kairos-crypt", "encrypted volumes that the TPM of this machine unlocks")
	cmdline.Completes(app, m.completions())
	app.Commands = []*cli.Command{
		statusCommand(m),
		formatCommand(m),
		encryptCommand(m),
		enrollCommand(m),
		recoveryKeyCommand(),
		unlockCommand(m),
		closeCommand(),
		rotateCommand(m),
		wipeSlotCommand(m),
		wipeCommand(m),
	}
	return app
}

// session is one run of a command.
type session struct {
	Machine
	log    *slog.Logger
	config config.Config
	ways   *way.Ways
	ask    way.Asker
	unlock func()
}

// begin reads the settings and sets up the sources of keys.
func (m Machine) begin(c *cli.Context) *session {
	s := &session{Machine: m, log: logline.New(c.App.ErrWriter, c.App.Name, c.Bool("quiet")), ask: ask, unlock: func() {}}
	if c.Bool("no-ask-password") {
		s.ask = nobody
	}
	var err error
	if s.config, err = config.Load(m.Root); err != nil {
		s.log.Warn(exit.Message(err))
	}
	// Where systemd-cryptsetup looks, and then where systemd-stub leaves it in
	// the initrd.
	search := func(name string) (files []string) {
		for _, directory := range []string{"etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd", ".extra"} {
			files = append(files, filepath.Join(m.Root, directory, name))
		}
		return files
	}
	s.ways = &way.Ways{
		TPM: &way.TPM{
			Connect: m.Connect, Ask: s.ask,
			Signatures: search("tpm2-pcr-signature.json"), PublicKeys: search("tpm2-pcr-public-key.pem"),
		},
		Tang:    way.Tang{Timeout: s.config.NetworkTimeout},
		Ask:     s.ask,
		Refused: func(_ volume.Slot, err error) { s.log.Warn(exit.Message(err)) },
	}
	return s
}

// device returns the device that an argument names: a path, or LABEL= and the label of
// a partition, which is searched on the boot disk first.
func (s *session) device(argument string) (string, error) {
	label, named := strings.CutPrefix(argument, "LABEL=")
	if !named {
		return argument, nil
	}
	partition, err := s.Disks.Find(label)
	return partition.Path, err
}

// find reads a volume without locking it.
func (s *session) find(argument string) (*volume.Volume, error) {
	device, err := s.device(argument)
	if err != nil {
		return nil, err
	}
	v, err := volume.Open(device)
	return v, explain(err)
}

// open reads and locks a volume for a change; end unlocks it.
func (s *session) open(c *cli.Context, argument string) (*volume.Volume, error) {
	device, err := s.device(argument)
	if err != nil {
		return nil, err
	}
	if err := s.lock(c, device); err != nil {
		return nil, err
	}
	v, err := volume.Open(device)
	if err != nil {
		s.end()
		return nil, explain(err)
	}
	return v, nil
}

// lock locks a device against other changes until end is called.
func (s *session) lock(c *cli.Context, device string) error {
	locked, unlock, err := volume.Lock(c.Context, s.Locks, device)
	if err == nil {
		c.Context, s.unlock = locked, unlock
	}
	return err
}

func (s *session) end() { s.unlock() }

// explain adds hints to errors.
func explain(err error) error {
	switch {
	case err == nil || exit.HintOf(err) != "":
		return err
	case errors.Is(err, luks.ErrNotLUKS2):
		return exit.Hint(err, "kairos-crypt format makes a volume")
	case errors.Is(err, tpm.ErrLockout):
		return exit.Hint(err, "wait, or use the recovery key; tpm2_dictionarylockout --clear-lockout ends it")
	case errors.Is(err, way.ErrNoTPM):
		return exit.Hint(err, "use enroll passphrase or enroll tang")
	case errors.Is(err, way.ErrNoClevis):
		return exit.Hint(err, "install the packages clevis and clevis-luks")
	case errors.Is(err, way.ErrNobody):
		return exit.Hint(err, "give the key with --key-file, or run it on a terminal")
	}
	return err
}
