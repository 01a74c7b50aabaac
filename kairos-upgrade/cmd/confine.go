package cmd

import (
	"errors"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/confine"
	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
	"golang.org/x/sys/unix"
)

// confine takes from the process what a staging does not need once the store
// and the ESP are open. Not where the source needs more itself: a
// containers-storage is mounted to be read.
func (o *opened) confine(given string) error {
	if given == "" || source.Mounts(given) {
		return nil
	}
	write := append([]string{o.store.Name(), o.esp.Name(), o.machine.run}, o.machine.scratch...)
	// Trees and archives may be others' files.
	err := confine.Process(write, unix.CAP_DAC_READ_SEARCH)
	if errors.Is(err, confine.ErrThreads) { // a build for tests
		return nil
	}
	return err
}
