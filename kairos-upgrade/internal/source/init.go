package source

import (
	"github.com/sirupsen/logrus"
	"go.podman.io/storage/pkg/reexec"
)

// Init must be the first thing that main does: containers/storage runs its
// own program again to read a containers-storage, and then Init reports true
// and the program must return. It also keeps the libraries from writing to
// stderr what is in our errors anyway.
func Init() bool {
	logrus.SetLevel(logrus.FatalLevel)
	return reexec.Init()
}
