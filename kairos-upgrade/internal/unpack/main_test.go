package unpack

import (
	"os"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/source"
)

func TestMain(m *testing.M) {
	if source.Init() {
		return
	}
	os.Exit(m.Run())
}
