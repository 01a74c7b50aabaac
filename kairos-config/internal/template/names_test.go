package template

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestManual: kairos-cloud-config-steps(5) has every function.
func TestManual(t *testing.T) {
	page, err := os.ReadFile("../../../man/kairos-cloud-config-steps.5")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), ".Sh TEMPLATES")
	section, _, _ = strings.Cut(section, ".Sh ")
	words := strings.Fields(section)
	for name := range (&bounds{}).functions() {
		if builtin[name] == nil && !strings.HasPrefix(name, "_") && !slices.Contains(words, name) {
			t.Errorf("the page has no %s", name)
		}
	}
}
