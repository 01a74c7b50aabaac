package bls

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// An entry that is renamed while it is read, as by who blesses it, is there.
func TestEntriesWhileRenamed(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	esp := ESP{root}
	e := Entry{Name: Name{Base: "kairos-1-0123456789ab", Counted: true, Left: 3}, Linux: "/kairos/linux"}
	if err := esp.Publish(e); err != nil {
		t.Fatal(err)
	}
	names := [2]string{}
	for i := range names {
		e.Name.Left = 3 - i
		names[i] = filepath.Join(dir, EntriesDir, e.Name.String())
	}
	done := make(chan struct{})
	var renaming sync.WaitGroup
	renaming.Go(func() {
		for i := 0; ; i = 1 - i {
			select {
			case <-done:
				return
			default:
			}
			if err := os.Rename(names[i], names[1-i]); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 2_000 {
		if _, err := esp.Entries(); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	renaming.Wait()
}
