package stage

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/source"
)

// TestArrived: what a boot fetches counts in that boot, each step once.
func TestArrived(t *testing.T) {
	const address = "https://example.com/a"
	n := newNode(t, map[string]string{"90.yaml": "#cloud-config\nconfig_url: " + address + "\nhostname: own\nruncmd: [own]\nusers: [{name: a}]\n" +
		"stages: {boot: [{name: mine}], network: [{name: net}]}\n"})
	before := source.Collect(n.Root)
	dir := filepath.Join(n.dir, "run/kairos/config-url")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	n.write(fmt.Sprintf("run/kairos/config-url/%x", sha256.Sum256([]byte(address))), "#cloud-config\nhostname: fetched\nusers: [{name: b}]\n"+
		"stages: {rootfs: [{name: r}], initramfs: [{name: i}], boot.before: [{name: bb}], boot: [{name: mine}], network: [{name: n2}]}\n")
	now := source.Collect(n.Root)
	steps := func(before *source.Collection) (string, *Plan) {
		plan := NewPlan(now, "network", Fill{})
		plan.Arrived(before, now)
		var names []string
		for _, s := range plan.Steps {
			names = append(names, s.Part+"/"+s.Name)
		}
		return strings.Join(names, " "), plan
	}
	got, plan := steps(before)
	if got != "initramfs/cloud-init initramfs/i boot.before/bb boot/cloud-init network/net network/n2" {
		// The step "mine" of both is the same and has been run.
		t.Error(got)
	}
	if s := plan.Steps[3].Spec; s.Hostname != "fetched" || len(s.Users) != 1 || s.Users[0].Name != "b" || len(s.Commands) != 0 {
		t.Errorf("%+v", s)
	}
	if text := fmt.Sprint(plan.Problems); !strings.Contains(text, "r: the stage rootfs is already over") {
		t.Error(text)
	}
	if got, _ := steps(now); got != "network/net network/n2" {
		t.Error("what the boot has had runs again: ", got)
	}
}
