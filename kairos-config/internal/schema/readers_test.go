package schema

import (
	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// elsewhere are keys that are read by what this test can't see, with who does.
var elsewhere = map[string]string{
	"options": "programs of others, by kairos-config get", "providers": "providers of the image",
	"Top.kubevip": "providers of the image", "Top.p2p": "providers of the image", "KubeVIP": "providers of the image",
	"P2P": "providers of the image", "P2PAuto": "providers of the image", "P2PHA": "providers of the image", "P2PVPN": "providers of the image",
	"name": "messages", "Challenger": "kcrypt.challenger is an error", "Kubernetes.replace_args": "provider",
	"Password.type": "nobody: account finds out what a password is",
}

// TestNoSilentKey walks the schema: each key has a reader (a selector of its
// field in the program, or its name in the tags of another tool), or validate
// says that it has no effect, and why.
func TestNoSilentKey(t *testing.T) {
	code := readSources(t, "..", "../../cmd")
	others := readSources(t, "../../../kairos-install", "../../../kairos-upgrade", "../../../kairos-reset", "../../../lib/recoverykey")
	seen := 0
	for _, block := range blocks() {
		for _, sf := range reflect.VisibleFields(block) {
			key := sf.Tag.Get("key")
			if key == "" {
				continue
			}
			seen++
			if why := sf.Tag.Get("none"); why != "" {
				warned := false
				var problems diag.List
				n := parse(t, key+": "+exampleOf(sf))
				decode(n, reflect.New(block).Interface(), "x", &problems)
				for _, p := range problems {
					warned = warned || strings.Contains(p.Message, key+" is accepted, without effect here, because "+why)
				}
				if !warned {
					t.Errorf("%v.%s: validate does not say that it has no effect: %v", block, key, problems)
				}
				continue
			}
			if elsewhere[key] != "" || elsewhere[block.Name()] != "" || elsewhere[block.Name()+"."+key] != "" {
				continue
			}
			selector := regexp.MustCompile(`\.` + sf.Name + `\b`)
			if !selector.MatchString(code) && !strings.Contains(others, `json:"`+key+`"`) && !strings.Contains(others, `"`+key+`"`) && !strings.Contains(code, `"`+key+`"`) {
				t.Errorf("%v.%s: nobody reads it, and it has no reason why", block, key)
			}
		}
	}
	if seen < 280 {
		t.Errorf("only %d keys were looked at", seen)
	}
}

func exampleOf(sf reflect.StructField) string {
	if eg := sf.Tag.Get("eg"); eg != "" {
		return eg
	}
	return "{}"
}

// readSources returns the code beneath directories, without tests and without the
// declarations of the schema.
func readSources(t *testing.T, dirs ...string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			data, err := os.ReadFile(name)
			for line := range strings.Lines(string(data)) {
				if !strings.Contains(line, "`key:") {
					b.WriteString(line)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}
