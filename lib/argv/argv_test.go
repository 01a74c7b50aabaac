package argv

import (
	"slices"
	"strings"
	"testing"
)

func program() *Command {
	return &Command{
		Name: "tool", Default: "status", Options: []Option{{Name: "help", Aliases: []string{"h"}}},
		Commands: []Command{
			{Name: "status", Options: []Option{{Name: "json"}, {Name: "help", Aliases: []string{"h"}}}},
			{Name: "pin", Arguments: "ID [NAME...]", Options: []Option{
				{Name: "yes", Aliases: []string{"y"}}, {Name: "number", Aliases: []string{"n"}, Kind: Number},
				{Name: "store", Aliases: []string{"s"}, Kind: Text, Value: "DIR"}, {Name: "origin", Hidden: true},
				{Name: "wait", Aliases: []string{"w"}, Kind: Wait, Value: "DURATION"},
			}},
			{Name: "group", Commands: []Command{{Name: "list"}, {Name: "hidden", Hidden: true}}},
		},
	}
}

// said is a call in words: the command, its options as given, its arguments.
func said(c Call) string {
	words := []string{strings.Join(c.names(), " ")}
	for _, g := range c.Options {
		words = append(words, g.Name+"="+g.Value)
	}
	return strings.Join(append(words, c.Arguments...), "|")
}

func TestParse(t *testing.T) {
	for line, want := range map[string]string{
		"":                           "tool status",
		"--json":                     "tool status|json=true",
		"-h":                         "tool|help=true",
		"help":                       "tool|help=true",
		"help pin":                   "tool pin|help=true",
		"pin help":                   "tool pin|help",
		"pin a -ysdir b":             "tool pin|yes=true|store=dir|a|b",
		"pin -ys=dir":                "tool pin|yes=true|store=dir",
		"pin -ys -n":                 "tool pin|yes=true|store=-n",
		"-s dir pin -- -y":           "tool pin|store=dir|-y",
		"--store pin pin pin":        "tool pin|store=pin|pin",
		"pin --store= --number=0x10": "tool pin|store=|number=0x10",
		"pin -store x -yes=false -":  "tool pin|store=x|yes=false|-",
		"group list":                 "tool group list",
		"pin --wait 5m":              "tool pin|wait=infinity|5m",
		"pin --wait=5m -yw a":        "tool pin|wait=5m|yes=true|wait=infinity|a",
		"pin --store -- x":           "tool pin|store=--|x",
	} {
		if call, err := program().Parse(strings.Fields(line)); err != nil || said(call) != want {
			t.Errorf("%q: %q, %v; want %q", line, said(call), err, want)
		}
	}
}

func TestComplete(t *testing.T) {
	values := Values{"ID": func(a Asked) []Candidate {
		return []Candidate{{"1-a", "of " + a.Options["store"]}, {"2-b", "x\x1b[m`\n"}, {"3;c", ""}, {"-d", ""}}
	}}
	for line, want := range map[string]string{
		"":              "words status pin group",
		"p":             "words pin",
		"group ":        "words list",
		"help ":         "words status pin group",
		"pin ":          "words 1-a\tof 2-b\tx\\x1b[m\\n",
		"pin -s dir 1":  "words 1-a\tof dir",
		"pin 1-a ":      "words",
		"pin --":        "words --yes --number --store --wait",
		"pin 1-a -- --": "words",
		"pin --store ":  "directories",
		"pin --store=x": "directories",
		"pin --number ": "words",
		"pin --yes=":    "words",
		"nothing ":      "words",
		"nothing --":    "words",
		"--j":           "words --json",
	} {
		words := strings.Split(line, " ")
		var out strings.Builder
		program().Complete(&out, words, values)
		got := strings.Join(strings.Fields(strings.ReplaceAll(strings.ReplaceAll(out.String(), "\t\n", "\n"), " ", "~")), " ")
		if want = strings.ReplaceAll(want, "of ", "of~"); strings.ReplaceAll(want, "\t", " ") != strings.ReplaceAll(strings.ReplaceAll(got, "of~ ", "of~"), "\t", " ") {
			t.Errorf("%q offers %q, want %q", line, got, want)
		}
	}
}

// Whatever is on the line: no panic, every argument is a word of the line, and a
// line that is understood means the same with its options first.
func FuzzParse(f *testing.F) {
	for _, line := range []string{"pin -ys dir a -- -b", "--store=x pin 1 -n 5", "help group list", "-", "--", "pin -=", "--=x", "-y=\xff pin"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words := strings.Split(line, " ")
		call, err := program().Parse(words)
		for _, a := range call.Arguments {
			if !slices.Contains(words, a) {
				t.Errorf("%q: argument %q comes from nowhere", line, a)
			}
		}
		program().Complete(new(strings.Builder), words, Values{"ID": Words("1")})
		if err != nil || call.Bool("help") {
			return
		}
		again := []string{}
		for _, at := range call.Path[1:] {
			again = append(again, at.Name)
		}
		for _, g := range call.Options {
			again = append(again, "--"+g.Name+"="+g.Value)
		}
		back, err := program().Parse(append(append(again, "--"), call.Arguments...))
		if err != nil || said(back) != said(call) {
			t.Errorf("%q: %q, then %q, %v", line, said(call), said(back), err)
		}
	})
}
