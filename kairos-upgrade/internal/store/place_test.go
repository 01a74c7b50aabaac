package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-upgrade/internal/view"
)

// A stranger's directory stays as it is, whatever it looks like, whoever opens
// it; a store is made where nothing is.
func TestPlaces(t *testing.T) {
	for _, test := range []struct {
		name   string
		has    string // files, and directories with a slash behind them
		create bool   // whether Create makes a store of it
	}{
		{"empty", "", true},
		{"fresh file system", "lost+found/", true},
		{"interrupted making", "lock objects/ images/ layers/", true},
		{"tmp of somebody", "tmp/letter", false},
		{"empty tmp, and a file", "tmp/ letter", false},
		{"repository of objects", "objects/ab/cd tmp/x", false},
		{"another tool's", "images/photo.jpg lock", false},
		{"store without records", "objects/ab/cd images/x layers/ tmp/x lock", false},
		{"records without contents", "deployments/1-0.json tmp/x", false},
		{"what fsck found", "lost+found/#12", false},
		{"hidden file", ".git/config", false},
	} {
		for _, open := range []struct {
			name   string
			open   func(context.Context, *view.View, Holder) (*Store, error)
			create bool
		}{{"Create", Create, test.create}, {"OpenWriter", OpenWriter, false}} {
			dir := t.TempDir()
			for name := range strings.FieldsSeq(test.has) {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(name, "/") {
					if err := os.MkdirAll(path, 0o755); err != nil {
						t.Fatal(err)
					}
				} else if err := os.WriteFile(path, []byte("mine"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(dir, 0o751); err != nil {
				t.Fatal(err)
			}
			before := everything(t, dir)
			v, err := view.Writable(dir)
			if err != nil {
				t.Fatal(err)
			}
			s, err := open.open(t.Context(), v, Holder{PID: os.Getpid()})
			if (err == nil) != open.create || err != nil && !errors.Is(err, ErrNoStore) {
				t.Errorf("%s: %s: %v", test.name, open.name, err)
			}
			if err == nil {
				s.Close()
			} else if now := everything(t, dir); now != before {
				t.Errorf("%s: %s: %s, was %s", test.name, open.name, now, before)
			}
		}
	}
}

// everything lists a directory, with modes.
func everything(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			all = append(all, strings.TrimPrefix(path, dir)+" "+info.Mode().String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, ", ")
}
