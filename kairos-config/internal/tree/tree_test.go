package tree

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
)

var update = flag.Bool("update", false, "write golden files")

func parse(t testing.TB, source, yaml string) *Node {
	t.Helper()
	n, problems := Parse(source, []byte(yaml))
	if n == nil || len(problems) > 0 {
		t.Fatalf("parse %s: %v", source, problems)
	}
	return n
}

// TestMergeGolden merges the files of each directory in testdata/merge and
// compares the result, with the origin of each value, to merged.yaml there.
func TestMergeGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/merge/*")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, dir := range cases {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			files, _ := filepath.Glob(dir + "/[0-9]*.yaml")
			merged := &Node{Kind: Map}
			var problems diag.List
			for _, f := range files {
				data, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				merged = Merge(merged, parse(t, filepath.Base(f), string(data)), &problems)
			}
			var got bytes.Buffer
			if err := WriteYAML(&got, merged, true); err != nil {
				t.Fatal(err)
			}
			for _, p := range problems {
				fmt.Fprintln(&got, "#", p.Error())
			}
			golden := dir + "/merged.yaml"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("merged:\n%s\nwant:\n%s", got.String(), want)
			}
		})
	}
}

func TestMergeLeavesItsInputsAlone(t *testing.T) {
	base, over := parse(t, "a", "m: {x: 1}\nl: [a]\nu: [{n: 1}]"), parse(t, "b", "m: {y: 2}\nl: [b]\nu: [{n: 2}]\n")
	before := render(t, base) + render(t, over)
	var problems diag.List
	Merge(base, over, &problems)
	Merge(base, parse(t, "c", "l: [c]\nu: [{n: 3}]"), &problems)
	if after := render(t, base) + render(t, over); after != before {
		t.Errorf("changed to\n%s", after)
	}
}

func render(t testing.TB, n *Node) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteYAML(&b, n, true); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, yaml, json string }{
		{"empty", "", `{}`},
		{"comments only", "#cloud-config\n# nothing\n", `{}`},
		{"null document", "---\n~\n", `{}`},
		{"byte order mark", "\ufeff#cloud-config\na: 1\n", `{"a":1}`},
		{"carriage returns", "a: 1\r\nb: two\r\n", `{"a":1,"b":"two"}`},
		{"octal both ways", "a: 0644\nb: 0o644\nc: 0x1f\n", `{"a":420,"b":420,"c":31}`},
		{"words of YAML 1.1 stay strings", "a: yes\nb: off\n", `{"a":"yes","b":"off"}`},
		{"quoted number", `a: "0644"`, `{"a":"0644"}`},
		{"not finite", "a: .inf\nb: -.nan\nc: 1.50", `{"a":".inf","b":"-.nan","c":1.5}`},
		{"huge integer", "a: 123456789012345678901234567890", `{"a":1.2345678901234568e+29}`},
		{"keys that are no strings", "1: a\ntrue: b\n", `{"1":"a","true":"b"}`},
		{"alias and merge key", "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: *x\n", `{"x":{"a":1,"b":2},"y":{"b":3,"a":1},"z":{"a":1,"b":2}}`},
		{"merge key with list", "x: &x {a: 1}\ny: &y {a: 2, c: 3}\nz: {<<: [*x, *y]}\n", `{"x":{"a":1},"y":{"a":2,"c":3},"z":{"a":1,"c":3}}`},
		{"binary", "a: !!binary aGVsbG8=\n", `{"a":"hello"}`},
		{"block text", "a: |\n  one\n  two\n", `{"a":"one\ntwo\n"}`},
		{"characters that JSON could escape", "a: <&>é\n", `{"a":"<&>é"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parse(t, "f", c.yaml).MarshalJSON()
			if err != nil || !json.Valid(got) || string(got) != c.json {
				t.Errorf("got %s, want %s", got, c.json)
			}
		})
	}
}

func TestParseProblems(t *testing.T) {
	deep := strings.Repeat("[", 200) + strings.Repeat("]", 200)
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	for _, c := range []struct {
		name, yaml, problem string
		usable              bool
	}{
		{"tab", "a:\n\tb: 1\n", "f:2:1: error: not valid YAML: found character that cannot start any token (indent with spaces, not with tabs)", false},
		{"not closed", "a: [1, 2\n", "f:1:8: error: not valid YAML: did not find expected ',' or ']'", false},
		{"not closed, large", "a: '" + strings.Repeat("x\n", 100_000), "error: not valid YAML: found unexpected end of stream", false},
		{"list", "- a\n- b\n", "f:1:1: error: a config must be a map of keys, not a list", false},
		{"text", "hello\n", "f:1:1: error: a config must be a map of keys, not a string", false},
		{"duplicate", "a: 1\nb: 2\na: 3\n", `f:3:1: error: key "a" is repeated, first in line 1`, true},
		{"deep", "a: " + deep, "f:1:104: error: nested deeper than 100 levels", false},
		{"bomb", bomb.String(), "error: more than 100000 values, aliases counted each time", false},
		{"self", "a: &a [*a]\n", "f:1:8: error: alias *a is inside its own anchor", false},
		{"unknown anchor", "a: *b\n", "error: not valid YAML: unknown anchor 'b' referenced", false},
		{"not UTF-8", "a: \xff\xfe\n", "f:1:4: error: not valid YAML: byte 0xff is not UTF-8", false},
		{"UTF-16", "\xff\xfea\x00:\x00", "f:1:1: error: not valid YAML: byte 0xff is not UTF-8", false},
		{"quote", "a: 1\nb: \"x\nc: 1\n", "(a quote is not closed)", false},
		{"colon", "a: b: c\n", "f:1:5: error: not valid YAML: mapping values are not allowed in this context (check the indentation; a value with \": \" in it needs quotes)", false},
		{"NUL", "a: \x00\n", "f:1:4: error: not valid YAML: control character 0x00", false},
		{"key is a list", "? [a]\n: b\n", "f:1:3: error: a key must be a word, not a list or a map", false},
		{"merge of text", "a: {<<: b}\n", "f:1:4: error: merge key << wants a map, got a string", false},
		{"two documents", "a: 1\n---\nb: 1\n", "f:2:1: warning: the second YAML document in the file is ignored", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, problems := Parse("f", []byte(c.yaml))
			if len(problems) != 1 || !strings.Contains(problems[0].Error(), c.problem) {
				t.Errorf("got %v, want %q", problems, c.problem)
			}
			if (n != nil) != c.usable {
				t.Errorf("got tree %v, want one: %v", n, c.usable)
			}
		})
	}
}

func TestDuplicateKeyTakesTheLast(t *testing.T) {
	n, _ := Parse("f", []byte("a: 1\na: 2\n"))
	if v := n.Field("a"); v.Text != "2" || v.Pos.Line != 2 {
		t.Errorf("got %+v", v)
	}
}

func TestFind(t *testing.T) {
	n := parse(t, "f", `{a: {b: [x, {c: 1}]}, "net.ipv4": {d: 2}, 0: zero}`)
	for path, want := range map[string]string{
		"a.b.0": "x", "a.b[0]": "x", "a.b.1.c": "1", "a.b[1].c": "1", `"net.ipv4".d`: "2", "0": "zero",
	} {
		p, err := ParsePath(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if v := n.Find(p); v == nil || v.Text != want {
			t.Errorf("%s: got %v, want %s", path, v, want)
		}
	}
	for _, path := range []string{"x", "a.b.2", "a.b.-1", "a.b.x", "a.b.0.y", "net.ipv4.d"} {
		if p, err := ParsePath(path); err != nil || n.Find(p) != nil {
			t.Errorf("%s: got %v, %v", path, n.Find(p), err)
		}
	}
	for _, path := range []string{"", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", "a[]", `"a`, `"a"b`, "a[0]b"} {
		if p, err := ParsePath(path); err == nil {
			t.Errorf("%q: got %q", path, p)
		}
	}
}

func TestSet(t *testing.T) {
	n := &Node{Kind: Map}
	for _, a := range [][2]string{{"users.0.name", "a"}, {"users[0].uid", "1"}, {"users.1.name", "b"}, {"x", "y"}, {"x", "z"}} {
		p, err := ParsePath(a[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Set(p, Scalar(a[1], diag.Pos{Source: "f"})); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := render(t, n), "users:\n  - name: a # f\n    uid: 1 # f\n  - name: b # f\nx: z # f\n"; got != want {
		t.Errorf("got\n%s", got)
	}
	for path, want := range map[string]string{"users.7.name": "item 7 of a list of 2", "x.y": `"y" is beneath a string`, "users.a": `"a" is beneath a list`} {
		p, _ := ParsePath(path)
		if err := n.Set(p, Scalar("1", diag.Pos{})); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
}

func TestTruth(t *testing.T) {
	n := parse(t, "f", `{t1: true, t2: yes, t3: "on", t4: 1, t5: text, t6: [a], t7: {a: b}, f1: false, f2: no, f3: 0, f4: "", f5: [], f6: {}, f7: null, f8: "off", f9: 00}`)
	for _, f := range n.Fields {
		if got, want := f.Value.Truth(), f.Key[0] == 't'; got != want {
			t.Errorf("%s: got %v", f.Key, got)
		}
	}
	if (*Node)(nil).Truth() {
		t.Error("nothing is true")
	}
}

// FuzzParse: whatever comes in is bounded, and what was read is the same after
// it was written and read again.
func FuzzParse(f *testing.F) {
	f.Add([]byte("#cloud-config\na: [1, {b: 0644}]\nc: |\n  x\n"), []byte("a: [2]\nc: null\n"))
	f.Add([]byte("x: &x {a: 1}\ny: {<<: *x}\n"), []byte("y: {a: [1]}\nx: {a: {b: 1}}\n"))
	f.Add([]byte("\ufeff? a\n: !!binary aGk=\n"), []byte("- 1\n"))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		if len(one)+len(two) > 1<<16 {
			t.Skip()
		}
		a, _ := Parse("one", one)
		b, _ := Parse("two", two)
		if a == nil || b == nil {
			return
		}
		var problems diag.List
		merged := Merge(a, b, &problems)
		asJSON, err := json.Marshal(merged)
		if err != nil {
			t.Fatalf("JSON: %v", err)
		}
		if !json.Valid(asJSON) {
			t.Fatalf("invalid JSON: %s", asJSON)
		}
		var out bytes.Buffer
		if err := WriteYAML(&out, merged, false); err != nil {
			t.Fatalf("YAML: %v", err)
		}
		again, p := Parse("again", out.Bytes())
		if again == nil || p.Failed() {
			t.Fatalf("read again: %v\n%s", p, out.Bytes())
		}
		if print := fingerprint(again); print != fingerprint(merged) {
			t.Fatalf("changed by writing:\n%s\n%s\n%s", fingerprint(merged), print, out.Bytes())
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"a.b", `a."x.y"[3].0`, "[", `"`, "a[99999999999].b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err != nil {
			return
		}
		n := &Node{Kind: Map}
		v := Scalar("v", diag.Pos{})
		if n.Set(p, v) == nil && n.Find(p) != v {
			t.Errorf("%q: set, but not found", s)
		}
	})
}

func BenchmarkParseMerge(b *testing.B) {
	data, err := os.ReadFile("../../testdata/200-lines.yaml")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var problems diag.List
		n, _ := Parse("f", data)
		Merge(n, n, &problems)
	}
}

// FuzzMerge: whatever two configs are, merging them ends, changes neither, and
// nothing of the later one is lost to a value of the earlier.
func FuzzMerge(f *testing.F) {
	files, err := filepath.Glob("testdata/merge/*/[0-9]*.yaml")
	if err != nil || len(files) < 4 {
		f.Fatal(len(files), err)
	}
	for i := range files[1:] {
		var pair [2][]byte
		for j := range pair {
			if pair[j], err = os.ReadFile(files[i+j]); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(pair[0], pair[1])
	}
	f.Add([]byte("a: {b: [1, {c: 2}]}"), []byte("a: {b: null, c: [x]}"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		a, _ := Parse("a", first)
		b, _ := Parse("b", second)
		if a == nil || b == nil {
			return
		}
		text := func(n *Node) string {
			data, err := n.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
		was, also := text(a), text(b)
		var problems diag.List
		merged := Merge(a, b, &problems)
		if text(a) != was || text(b) != also {
			t.Errorf("merging changed\n%s and\n%s to\n%s and\n%s", was, also, text(a), text(b))
		}
		for _, f := range b.Fields {
			if f.Value.Scalar() && f.Value.Kind != Null && text(merged.Field(f.Key)) != text(f.Value) {
				t.Errorf("%q became %s", f.Key, text(merged.Field(f.Key)))
			}
		}
	})
}
