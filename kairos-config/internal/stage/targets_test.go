package stage

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/kairos-config/internal/source"
)

// TestEveryKeyHasTargets: of every key of a step, two values differ in what they
// leave on the node, and one is like itself.
func TestEveryKeyHasTargets(t *testing.T) {
	pairs := map[string][][2]string{
		"dns":             {{"{nameservers: [192.0.2.1]}", "{nameservers: [192.0.2.2]}"}, {"{search: [a]}", "{search: [b]}"}, {"{options: [a], path: /r}", "{options: [b], path: /r}"}},
		"downloads":       {{"[{path: /d/, url: 'https://a.example/x'}]", "[{path: /d/, url: 'https://b.example/x'}]"}, {"[{path: /d, url: 'https://a.example/x', permissions: 0600}]", "[{path: /d, url: 'https://a.example/x', permissions: 0644}]"}},
		"git":             {{"{url: a, path: /g}", "{url: b, path: /g}"}, {"{url: a, path: /g}", "{url: a, path: /g, branch: b}"}},
		"ensure_entities": {{`[{entity: "kind: user\nusername: a\nshell: /b"}]`, `[{entity: "kind: user\nusername: a\nshell: /c"}]`}},
		"directories":     {{"[{path: /d}]", "[{path: /e}]"}, {"[{path: /d, owner: 1}]", "[{path: /d, owner: 2}]"}},
		"files":           {{"[{path: /f, content: a}]", "[{path: /f, content: b}]"}, {"[{path: /f, ownerstring: a}]", "[{path: /f, ownerstring: b}]"}, {"[{path: /f, content: YQ==}]", "[{path: /f, content: YQ==, encoding: b64}]"}},
		"commands":        {{"[a]", "[b]"}, {"[[a, b]]", "[[a b]]"}},
		"delete_entities": {{`[]`, `[{entity: "kind: user\nusername: a"}]`}},
		"hostname":        {{"a", "b"}},
		"sysctl":          {{"{a.b: 1}", "{a.b: 2}"}},
		"groups":          {{"[a]", "[b]"}, {"[{a: [x]}]", "[{a: [y]}]"}, {"[{name: a, gid: 1}]", "[{name: a, gid: 2}]"}},
		"users": {{"{a: {passwd: x}}", "{a: {passwd: y}}"}, {"{a: {}}", "{a: {lock_passwd: true}}"}, {"{a: {groups: [x]}}", "{a: {groups: [y]}}"},
			{"{a: {shell: /x}}", "{a: {shell: /y}}"}, {"{a: {homedir: /x}}", "{a: {homedir: /y}}"}, {"{a: {uid: 1}}", "{a: {uid: 2}}"}, {"{a: {}}", "{a: {system: true}}"},
			{"{a: {ssh_authorized_keys: [x]}}", "{a: {ssh_authorized_keys: [y]}}"}},
		"authorized_keys":   {{"{a: [x]}", "{a: [y]}"}},
		"modules":           {{"[a]", "[b]"}},
		"timesyncd":         {{"{NTP: a}", "{NTP: b}"}},
		"systemctl":         {{"{enable: [a]}", "{disable: [a]}"}, {"{mask: [a]}", "{start: [a]}"}, {"{overrides: [{service: a, content: x}]}", "{overrides: [{service: a, content: y}]}"}},
		"environment":       {{"{A: x}", "{A: y}"}},
		"systemd_firstboot": {{"{locale: x}", "{locale: y}"}},
		"datasource":        {{"{providers: [aws]}", "{providers: [gcp]}"}, {"{providers: [file], path: /a}", "{providers: [file], path: /b}"}},
		"layout": {{"{expand_partition: {size: 1}}", "{expand_partition: {size: 2}}"}, {"{add_partitions: [{fsLabel: a, size: 1}]}", "{add_partitions: [{fsLabel: a, size: 2}]}"},
			{"{device: {path: /dev/a}, expand_partition: {}}", "{device: {path: /dev/b}, expand_partition: {}}"}, {"{device: {path: /dev/a}}", "{device: {path: /dev/a, init_disk: true}}"}},
		"package_pins":  {{"{a: 1}", "{a: 2}"}},
		"packages":      {{"{install: [a]}", "{remove: [a]}"}, {"{}", "{upgrade: true}"}},
		"unpack_images": {{"[{source: a, target: /t}]", "[{source: b, target: /t}]"}},
	}
	// What is no effect, or belongs to that of another key.
	rest := []string{"name", "after", "assess", "if", "if_files", "node", "only_os", "only_os_version", "only_arch", "only_service_manager", "environment_file"}
	left := func(step string) map[string]Target {
		var c source.Collection
		c.Add("/oem/1.yaml", []byte("stages: {boot: [{name: s, "+step+"}]}"))
		plan := NewPlan(&c, "boot", Fill{})
		if len(plan.Steps) != 1 || plan.Steps[0].Problems.Failed() {
			t.Errorf("%s: %v", step, plan)
		}
		return Targets([]*Plan{plan})
	}
	step := reflect.TypeFor[schema.Step]()
	for i := range step.NumField() {
		key := step.Field(i).Tag.Get("key")
		if key == "" || slices.Contains(rest, key) {
			continue
		}
		if len(pairs[key]) == 0 {
			t.Errorf("nothing is known of what %s leaves: see targets", key)
		}
		for _, pair := range pairs[key] {
			a, b := key+": "+pair[0], key+": "+pair[1]
			if reflect.DeepEqual(left(a), left(b)) {
				t.Errorf("%s leaves what %s leaves", a, b)
			}
			if !reflect.DeepEqual(left(b), left(b)) {
				t.Errorf("%s is not like itself", b)
			}
		}
	}
}

// TestManualHasTheOrder: kairos-config(8) lists what a step does in the order
// in which it is done.
func TestManualHasTheOrder(t *testing.T) {
	data, err := os.ReadFile("../../../man/kairos-config.8")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range effects {
		names = append(names, e.name)
	}
	text := strings.Join(strings.Fields(string(data)), " ")
	if want := strings.Join(names, ", ") + "."; !strings.Contains(text, want) {
		t.Errorf("kairos-config(8) lacks %q", want)
	}
}

// TestNow: what is applied without a reboot is what differs, as diff says it.
func TestNow(t *testing.T) {
	collect := func(configs ...string) *source.Collection {
		var c source.Collection
		for i, text := range configs {
			c.Add(fmt.Sprintf("/oem/%d.yaml", i), []byte(text))
		}
		return &c
	}
	const (
		one = "stages: {boot: [{name: one, files: [{path: /f, content: a}], commands: [x]}]}"
		two = "stages: {boot: [{name: two, files: [{path: /f, content: b}]}]}"
	)
	for _, c := range []struct {
		name         string
		before, next *source.Collection
		want         string
	}{
		{"the same", collect(one, two), collect(one, two), ""},
		{"a new step", collect(one), collect(one, two), "two"},
		{"the last writer is gone", collect(one, two), collect(one), "one"},
		{"the last writer is another", collect(one, two), collect(two, one), "one"},
		{"the host name of another config", collect("#cloud-config\nhostname: a\n", "#cloud-config\nhostname: z\n"), collect("#cloud-config\nhostname: a\n"), "cloud-init"},
	} {
		plan, later := Now(c.before, c.next, Fill{})
		var got []string
		for _, s := range plan.Steps {
			got = append(got, s.Name)
			if s.Name == "one" && len(s.Spec.Commands) > 0 {
				t.Errorf("%s: commands that have run already run again", c.name)
			}
		}
		if strings.Join(got, " ") != c.want || len(later) > 0 {
			t.Errorf("%s: got %q, %v, want %q", c.name, got, later, c.want)
		}
	}
}
