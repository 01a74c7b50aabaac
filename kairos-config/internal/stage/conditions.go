package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/lib/osrelease"
)

// wanted answers the step's conditions; all must hold.
func (r *run) wanted(ctx context.Context) bool {
	reason, err := r.unmatched()
	if err != nil {
		r.fail(err)
		return false
	}
	if reason == "" {
		reason = r.filesMissing(r.step.Spec.IfFiles)
	}
	if reason != "" {
		r.record.Outcome, r.record.Reason = Skipped, reason
		return false
	}
	return r.ifHolds(ctx)
}

// unmatched returns the first condition on the system that doesn't hold. Each
// is a regular expression, as in Kairos; what it must match is known without a
// process.
func (r *run) unmatched() (reason string, err error) {
	spec := r.step.Spec
	os := r.osRelease()
	for _, c := range []struct {
		key, pattern string
		values       []string
	}{
		{"node", spec.Node, r.nodeNames()},
		{"only_os", spec.OnlyOS, []string{os["ID"], os["NAME"], os["PRETTY_NAME"]}},
		{"only_os_version", spec.OnlyOSVersion, []string{os["VERSION_ID"], os["VERSION"]}},
		{"only_arch", spec.OnlyArch, []string{runtime.GOARCH}},
		{"only_service_manager", spec.OnlyServiceManager, []string{"systemd"}},
	} {
		if c.pattern == "" {
			continue
		}
		pattern, err := regexp.Compile(c.pattern)
		if err != nil {
			return "", fmt.Errorf("%s: %w", c.key, err)
		}
		matched := false
		for _, value := range c.values {
			matched = matched || value != "" && pattern.MatchString(value)
		}
		if !matched {
			return fmt.Sprintf("%s: %q is not %s", c.key, strings.Join(c.values, " "), c.pattern), nil
		}
	}
	return "", nil
}

// nodeNames are what the condition node may mean: the host name and the
// machine's id.
func (r *run) nodeNames() []string {
	var names []string
	if name, err := os.Hostname(); err == nil && r.Node {
		names = append(names, name)
	}
	for _, file := range []string{"/etc/hostname", "/etc/machine-id"} {
		if data, err := r.Root.ReadFile(file, maxSmall); err == nil {
			names = append(names, strings.TrimSpace(string(data)))
		}
	}
	return names
}

// osRelease reads os-release(5).
func (r *run) osRelease() map[string]string {
	for _, file := range osrelease.Files {
		if data, err := r.Root.ReadFile(file, osrelease.Limit); err == nil {
			return osrelease.Parse(data)
		}
	}
	return nil
}

// ifHolds runs the step's own condition.
func (r *run) ifHolds(ctx context.Context) bool {
	if r.step.Spec.If == "" {
		return true
	}
	err := r.shell(ctx, r.step.Spec.If)
	if err == nil {
		return true
	}
	r.record.Outcome, r.record.Reason = Skipped, "if: "+err.Error()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() >= 126 {
		r.Log.Warn(fmt.Sprintf("%s: %s: the condition could not be tried: %v", r.step.Spec.Pos.FileLine(), r.step.Name, err))
	}
	return false
}

func (r *run) filesMissing(c schema.IfFiles) (reason string) {
	for _, f := range c.All {
		if !r.Root.Exists(f) {
			return "if_files: " + f + " is missing"
		}
	}
	for _, f := range c.None {
		if r.Root.Exists(f) {
			return "if_files: " + f + " exists"
		}
	}
	for _, f := range c.Any {
		if r.Root.Exists(f) {
			return ""
		}
	}
	if len(c.Any) > 0 {
		return "if_files: none of the files exists"
	}
	return ""
}
