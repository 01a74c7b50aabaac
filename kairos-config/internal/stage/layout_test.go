package stage

import (
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/testroot"
)

// TestScriptDevice: a program of the root says the disk.
func TestScriptDevice(t *testing.T) {
	dir := testroot.New(t)
	testroot.WithShell(t, dir)
	root, err := rootfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for config, want := range map[string]string{
		"script:///bin/ls -d /dev/null": "/dev/null",
		"script:///bin/ls -d /etc":      "printed no device",
		"script:///bin/nosuch":          "no such file",
		"/dev/vdb":                      "/dev/vdb",
	} {
		r := &run{System: &System{Root: root}, step: Step{Spec: schema.Step{Layout: schema.Layout{Device: &schema.Device{Path: config}}}}}
		device, err := r.layoutDevice(t.Context())
		if err != nil {
			device = err.Error()
		}
		if !strings.Contains(device, want) {
			t.Errorf("%s: %s, want %s", config, device, want)
		}
	}
}
