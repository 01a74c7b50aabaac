package schema

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// compiled returns the JSON Schema, which the validator has found valid itself.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("cloud-config.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("cloud-config.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance returns a config as the validator wants it.
func instance(t *testing.T, n *tree.Node) any {
	t.Helper()
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// beyond are the broken twins whose mistake a JSON Schema can't see: it is in
// the syntax, in a template, in a value that only a program can judge, or in a
// name that might belong to somebody else.
var beyond = []string{
	"anchors", "raspberry", "wide-text", "merge-resets", "provider-of-others", // syntax, header
	"live-medium",                                // template
	"ha-k3s-first", "static-network", "packages", // addresses, regular expressions
	"bond-vlan", "monitoring", // stages may be anybody's
	"config-url", "downloads", // what stands behind # of a URL, a URL with a template
}

// TestJSONSchemaAgrees holds the schema against the corpus: it accepts what
// Check accepts, and refuses what Check refuses where it can.
func TestJSONSchemaAgrees(t *testing.T) {
	s := compiled(t)
	for _, dir := range []string{"corpus", "broken"} {
		files, err := filepath.Glob("../../testdata/" + dir + "/*.yaml")
		if err != nil || len(files) < 40 {
			t.Fatalf("%d files in %s, %v", len(files), dir, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimSuffix(filepath.Base(file), ".yaml")
			n, _ := tree.Parse(file, data)
			refused := n == nil
			if n != nil {
				err = s.Validate(instance(t, n))
				refused = err != nil
			}
			switch {
			case dir == "corpus" && refused:
				t.Errorf("%s: %v", name, err)
			case dir == "broken" && !refused && !slices.Contains(beyond, name):
				t.Errorf("%s: accepted", name)
			case dir == "broken" && refused && n != nil && slices.Contains(beyond, name):
				t.Errorf("%s: refused, it need not be in the list: %v", name, err)
			}
		}
	}
}

// TestJSONSchemaAccepts what the format allows beside the obvious.
func TestJSONSchemaAccepts(t *testing.T) {
	s := compiled(t)
	for _, yaml := range []string{
		"hostname: null", "strict: yes", "users: {a: {uid: 1000}}", "users: [default, {name: a, groups: 'a, b'}]", "groups: [a, {b: [c]}, {name: c, gid: 5}]",
		"runcmd: [ls, [a, b]]", "stages: {my-own: [{name: x}], boot: null}", "config_url: {url: 'https://h/x'}", "my-provider: {x: [1]}",
		"stages: {boot: [{after: [a, {name: b}], files: [{path: '{{ .MachineID }}', permissions: 0644, owner: 5}, {path: /x, permissions: '0600', owner: 'a:b'}]}]}",
		"stages: {boot: [{layout: {add_partitions: [{size: '20'}]}}]}", "install: {partitions: {oem: {size: 0x10}}, grub_options: {a: 1}}",
	} {
		n := parse(t, yaml)
		if problems := Check(n); problems.Failed() && !strings.Contains(yaml, "{{") {
			t.Errorf("%s: %v", yaml, problems)
		}
		if err := s.Validate(instance(t, n)); err != nil {
			t.Errorf("%s: %v", yaml, err)
		}
	}
}

// TestJSONSchemaExamples: every example in it is valid by it, and every key
// has a description.
func TestJSONSchemaExamples(t *testing.T) {
	s := compiled(t)
	seen := 0
	for _, f := range fieldsOf(topType) {
		if f.example == "" {
			continue
		}
		seen++
		if err := s.Validate(instance(t, parse(t, f.key+": "+f.example))); err != nil {
			t.Errorf("%s: %v", f.key, err)
		}
	}
	for _, f := range fieldsOf(blocks()[slices.IndexFunc(blocks(), func(b reflect.Type) bool { return b.Name() == "Step" })]) {
		if f.example == "" {
			continue
		}
		seen++
		if err := s.Validate(instance(t, parse(t, "stages: {boot: [{"+f.key+": "+f.example+"}]}"))); err != nil {
			t.Errorf("%s: %v", f.key, err)
		}
	}
	if seen < 40 {
		t.Errorf("only %d examples", seen)
	}
}

// TestJSONSchemaHelpsEditors: what an editor shows and offers.
func TestJSONSchemaHelpsEditors(t *testing.T) {
	text, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	if err := json.Unmarshal(text, &top); err != nil {
		t.Fatal(err)
	}
	if id, _ := top["$id"].(string); !strings.HasPrefix(id, "urn:") {
		t.Errorf("$id %q", id)
	}
	if extra, _ := top["additionalProperties"].(map[string]any); extra["deprecationMessage"] == nil {
		t.Error("unknown keys at the top are not to be seen")
	}
	if key := top["properties"].(map[string]any)["packages"].(map[string]any); !strings.Contains(key["description"].(string), "put it into the image") {
		t.Error(key)
	}
	described := 0
	var walk func(value any, name string)
	walk = func(value any, name string) {
		switch v := value.(type) {
		case map[string]any:
			if expr, ok := v["pattern"].(string); ok && strings.HasPrefix(expr, "^(") && !strings.ContainsAny(expr, "?*+[{\\") {
				t.Errorf("%s: a pattern in place of an enumeration: %s", name, expr)
			}
			if properties, ok := v["properties"].(map[string]any); ok {
				for key, p := range properties {
					if doc, isDoc := p.(map[string]any)["description"].(string); isDoc {
						described++
						if vague.MatchString(doc) {
							t.Errorf("%s.%s: %q says nothing", name, key, doc)
						}
					} else if name != "stages" {
						t.Errorf("%s.%s: no description", name, key)
					}
				}
			}
			for key, inner := range v {
				walk(inner, key)
			}
		case []any:
			for _, inner := range v {
				walk(inner, name)
			}
		}
	}
	walk(any(top), "top")
	if described < 280 {
		t.Errorf("only %d descriptions", described)
	}
	// Mistakes that an editor shows, and words that it offers.
	s := compiled(t)
	for _, yaml := range []string{"strict: maybe", "assess: yes please", "install: {partitions: {oem: {fs: etx4}}}", "packages: [vim]", "upgrade: {entry: aktive}"} {
		if s.Validate(instance(t, parse(t, yaml))) == nil {
			t.Errorf("%s: accepted", yaml)
		}
	}
	for _, word := range []string{`"recovery"`, `"gz+b64"`, `"first-boot"`, `"on"`} {
		if !bytes.Contains(text, []byte(word)) {
			t.Errorf("%s is not offered", word)
		}
	}
}

// vague are descriptions that only point elsewhere.
var vague = regexp.MustCompile(`^(As (in|of|above)[^:]*|The same|Its? name|Absolute|Use (it|them)|The (text|image|disk|address|manifest))\.( |$)`)
