package tree

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const ops = "users:\n- name: ops\n  ssh_authorized_keys: [\"ssh-ed25519 AAAA a\"]\n"

// TestSalvage: a mistake costs its block, and what may belong to it.
func TestSalvage(t *testing.T) {
	for _, test := range []struct {
		name, text string
		keys       string // that are left
		said       string // of the first problem
	}{
		{"a tab", "#cloud-config\ninstall:\n\tdevice: /dev/sda\n" + ops, "users", "a:3:1: error: not valid YAML"},
		{"a stray quote", "install:\n  device: \"/dev/sda\n" + ops, "users", "a:2:11: error: not valid YAML"},
		{"a stray quote, behind", ops + "install:\n  device: \"/dev/sda\n", "users", "the block install is left out"},
		{"an apostrophe", "install:\n  device: '/dev/sda\n" + ops + "hostname: b\n", "users hostname", "a quote is not closed"},
		{"a bracket", ops + "install: {auto: true\nhostname: b\n", "users hostname", "the block install"},
		{"a colon", "runcmd:\n- echo: a: b\n" + ops, "users", "the block runcmd"},
		{"an indentation", "stages:\n  boot:\n  - name: a\n     commands: [b]\n" + ops, "users", "the block stages"},
		{"a percent", "hostname: %a\n" + ops, "users", "the block hostname"},
		{"a byte", "motd: \xff\n" + ops, "users", "is not UTF-8"},
		{"lines of Windows", "install:\r\n\tdevice: a\r\nhostname: b\r\n", "hostname", "the block install"},
		{"behind a marker", "#cloud-config\n---\ninstall:\n\ta: b\n" + ops + "---\n\tc", "users", "a:4:1"},
		{"an anchor of another block", "x: &a {b: c}\ninstall:\n\td: e\ny: *a\n", "x y", "the block install"},
		{"an anchor of a broken block", "x: &a\n\tb: c\ny: *a\nz: 1\n", "z", "the block x"},
		{"two broken ones", "a:\n\tb: c\n" + ops + "d:\n\te: f\n", "users", "the block a"},
		// No half of a list, and nothing that only looks like a key.
		{"half a list of users", "users:\n- name: a\n- name: b\n\tpasswd: c\nhostname: d\n", "hostname", "the block users"},
		{"a quote that is closed later", "hostname: b\nmotd:\n  a: \"\n" + ops[:len("users:\n- name: ops\n")] + "end: \"\ninstall:\n\tc: d\n", "hostname", "the block motd"},
		{"a text that escaped", "stages:\n  boot:\n  - commands:\n    - |\n      cat <<END\nusers:\n- name: evil\nEND\nhostname: b\n", "hostname", "the block stages is left out as well"},
		{"a text that escaped, further", "stages:\n  boot:\n  - commands:\n    - |\n      cat <<END\nusers:\n- name: evil\nx: y\nEND\nhostname: b\n", "hostname", "the block stages is left out as well"},
		{"a key between users", "hostname: a\nusers:\n- name: a\nb: c: d\n- name: e\n", "hostname", "the block users is left out as well"},
		{"within brackets", "other: {\nusers: [{name: evil}]\n}\nhostname: b\n" + "install:\n\ta: b\n", "hostname", "the block other"},
		{"all broken", "a:\n\tb: c\n", "", "not valid YAML"},
		{"no keys", "- a\n- b: c: d\n", "", "not valid YAML"},
		{"no map", "[a\n", "", "not valid YAML"},
	} {
		root, whole, problems := Salvage("a", []byte(test.text))
		keys := keysOf(root)
		if strings.Join(keys, " ") != test.keys {
			t.Errorf("%s: left are %q, want %q: %v", test.name, keys, test.keys, problems)
		}
		if whole || !problems.Failed() || !strings.Contains(problems[0].Error(), test.said) {
			t.Errorf("%s: %v, want %s", test.name, problems, test.said)
		}
	}
}

func keysOf(root *Node) (keys []string) {
	if root != nil {
		for _, f := range root.Fields {
			keys = append(keys, f.Key)
		}
	}
	return keys
}

// FuzzSalvage breaks one block of a config: what is left of it is nothing of this block,
// and of all else no more than the config without the block has.
func FuzzSalvage(f *testing.F) {
	names, err := filepath.Glob("../../testdata/corpus/*.yaml")
	if err != nil || len(names) < 40 {
		f.Fatal(names, err)
	}
	var configs []string
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		configs = append(configs, string(data))
	}
	for i, s := range []string{"\tx: y\n", "  x: \"\n", "  a: b: c\n", "END\n", "  - |\nusers: [{name: evil}]\nEND\n", "  {\n", "  x: '\n", "]\n", "  %a\n", "users:\n- name: evil\n\tx\n", "*a\n", "  y: *no\n"} {
		f.Add(uint16(i*7), uint16(i*13), s)
	}
	f.Fuzz(func(t *testing.T, which, where uint16, garbage string) {
		text := configs[int(which)%len(configs)]
		blocks := cut([]byte(text))
		if len(blocks) == 0 || len(garbage) > 4096 {
			return
		}
		lines := slices.Collect(strings.Lines(text))
		b := blocks[int(where)%len(blocks)]
		at := b.first + 1 + int(where)%(b.last-b.first)
		if garbage != "" && !strings.HasSuffix(garbage, "\n") {
			garbage += "\n"
		}
		broken := strings.Join(slices.Insert(slices.Clone(lines), at, garbage), "")
		if root, _ := Parse("a", []byte(broken)); root != nil {
			return
		}
		if root, _ := Parse("a", []byte(strings.Join(lines[b.first:at], "")+garbage+strings.Join(lines[at:b.last], ""))); root != nil {
			return // it is another block that has no sense any more
		}
		if first, _, _ := strings.Cut(garbage, "\n"); len(keysOf(onlyKeys(garbage))) > 0 && !leftKey.MatchString(first) {
			return // what stands before the key may be a part of the block, and valid
		}
		whole, _ := Parse("a", []byte(text))
		root, all, problems := Salvage("a", []byte(broken))
		if all || !problems.Failed() {
			t.Fatalf("nothing said of\n%s", broken)
		}
		if root == nil {
			return
		}
		sound, _ := Parse("a", []byte(strings.Join(slices.Delete(lines, b.first, b.last), "")))
		own := keysOf(onlyKeys(garbage))
		if sound == nil && len(own) > 0 {
			return // others need an anchor of this block, which may be sound
		}
		for _, field := range root.Fields {
			was := sound.Field(field.Key)
			if was == nil && field.Key == b.key && len(own) > 0 {
				// The garbage may be a block of its own, at the end of the other, or in it.
				before, _ := whole.Field(field.Key).MarshalJSON()
				if after, _ := field.Value.MarshalJSON(); string(after) != string(before) && !newKey.MatchString(garbage) {
					t.Fatalf("half of %s is left of\n%s", field.Key, broken)
				}
				continue
			}
			if was == nil && !slices.Contains(own, field.Key) {
				t.Fatalf("%s is left of the broken block of\n%s", field.Key, broken)
			}
			if was == nil || slices.Contains(own, field.Key) {
				continue
			}
			before, _ := was.MarshalJSON()
			if after, _ := field.Value.MarshalJSON(); string(after) != string(before) {
				t.Fatalf("%s is\n%s\nand was\n%s", field.Key, after, before)
			}
		}
	})
}

// newKey is a key without a value, or with the beginning of one: a block begins.
var newKey = regexp.MustCompile(`(?m)^\S[^:]*:[ \t\r]*(?:[#|>&!\[{"'].*)?$`)

// onlyKeys are the keys at the left edge of a text.
func onlyKeys(text string) *Node {
	n := &Node{Kind: Map}
	for line := range strings.Lines(text) {
		if m := leftKey.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil {
			n.Fields = append(n.Fields, Field{Key: strings.Join(m[1:], "")})
		}
	}
	return n
}
