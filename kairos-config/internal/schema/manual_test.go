package schema

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the keys into the manual pages")

const (
	manual = "../../../man/kairos-cloud-config"
	begin  = ".\\\" The keys are made of the types in kairos-config/internal/schema:\n.\\\" go test -run TestManual -update\n"
	end    = ".\\\" End of the keys.\n"
)

// pages are the manual pages with the blocks that each describes, by the first place
// where a block stands; a page has what is beneath a block too, unless
// another page names it.
var pages = map[string][]string{
	"":             {"", "users", "groups"},
	"-steps":       {"step"},
	"-install":     {"install", "upgrade", "reset"},
	"-disks":       {"install.partitions", "install.extra-partitions", "layout", "kcrypt"},
	"-datasources": {"config_url", "datasource"},
	"-cluster":     {"k3s", "kubevip", "p2p"},
	"-compat":      {"write_files", "ntp", "chpasswd", "growpart"},
}

// TestManual: the manual pages of the cloud-config have every key once with its
// type, its default, what it does and an example, in the words that stand
// beside the types; the examples of the pages are valid configs.
func TestManual(t *testing.T) {
	files, err := filepath.Glob(manual + "*.5")
	if err != nil || len(files) != len(pages) {
		t.Fatalf("%d pages of %d: %v", len(files), len(pages), err)
	}
	texts := manualKeys()
	count := 0
	for page := range pages {
		file := manual + page + ".5"
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, ok := strings.Cut(string(data), begin)
		old, tail, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s has no place for the keys", file)
		}
		keys := texts[page]
		if *update {
			if err := os.WriteFile(file, []byte(head+begin+keys+end+tail), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if old != keys {
			t.Errorf("%s is not up to date: go test -run TestManual -update", file)
		}
		count += strings.Count(keys, "\n.It Cm ")
		examples := 0
		for _, display := range strings.Split(head+tail, ".Bd -literal -offset indent\n")[1:] {
			example, _, _ := strings.Cut(display, ".Ed\n")
			example = strings.ReplaceAll(example, `\e`, `\`)
			if !strings.HasPrefix(example, "#cloud-config\n") {
				continue
			}
			examples++
			if problems := Check(parse(t, example)); len(problems) > 0 {
				t.Errorf("%s: the example\n%s: %v", file, example, problems)
			}
		}
		if examples == 0 {
			t.Errorf("%s has no example", file)
		}
	}
	if count < 250 {
		t.Errorf("only %d keys", count)
	}
}

// manualKeys is all keys in mdoc(7), block by block, for each page.
func manualKeys() map[string]string {
	places := places()
	texts := map[string]string{}
	for _, block := range blocks() {
		heading := "Keys of " + strings.Join(places[block], ", ")
		switch block {
		case topType:
			heading = "Keys at the top"
		case reflect.TypeFor[Step]():
			heading = "Keys of a step"
		}
		var b strings.Builder
		fmt.Fprintf(&b, ".Ss %s\n.Bl -tag -width Ds\n", heading)
		for _, f := range fieldsOf(block) {
			if f.none == "" {
				f.manual(&b)
			}
		}
		b.WriteString(".El\n")
		texts[pageOf(block, places[block])] += b.String()
	}
	var b strings.Builder
	b.WriteString(".Ss Keys without effect\nThese are accepted, so that configs stay valid;\n.Ql kairos-config validate\nnames them.\n.Bl -tag -width Ds\n")
	for _, block := range blocks() {
		for _, f := range fieldsOf(block) {
			if f.none == "" {
				continue
			}
			var names []string
			for _, place := range places[block] {
				names = append(names, place+"."+f.key)
			}
			if block == topType {
				names = []string{f.key}
			}
			fmt.Fprintf(&b, ".It Cm %s\nWithout effect here, because %s.\n", mdoc(strings.Join(names, " , ")), mdoc(f.none))
		}
	}
	b.WriteString(".El\n.Ss Stages without effect\nNothing runs these.\n.Bl -tag -width Ds\n")
	for _, stage := range slices.Sorted(maps.Keys(never)) {
		fmt.Fprintf(&b, ".It Cm %s\nWithout effect here, because %s.\n", stage, mdoc(never[stage]))
	}
	b.WriteString(".El\n.Ss Stages in the new system\n.Bl -tag -width Ds\n")
	fmt.Fprintf(&b, ".It Cm %s\n%s.\nThe record names what was thrown away.\n.El\n", strings.Join(inNew, " , "), mdoc("Works otherwise than in Kairos: "+inImage))
	texts["-compat"] += b.String()
	return texts
}

// pageOf returns the page that names a block, or else the nearest block above it:
// for keys of a step the page of steps.
func pageOf(block reflect.Type, places []string) string {
	at := ""
	switch {
	case block == reflect.TypeFor[Step]():
		at = "step"
	case block != topType:
		at = places[0]
	}
	for {
		for page, names := range pages {
			if slices.Contains(names, at) {
				return page
			}
		}
		above := strings.LastIndex(at, ".")
		if above < 0 {
			return "-steps"
		}
		at = at[:above]
	}
}

// places returns where each block stands, by dotted keys of the top or of a
// step.
func places() map[reflect.Type][]string {
	found := map[reflect.Type][]string{}
	var visit func(t reflect.Type, path string)
	visit = func(t reflect.Type, path string) {
		for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || len(fieldsOf(t)) == 0 || slices.Contains(found[t], path) {
			return
		}
		if path != "" {
			found[t] = append(found[t], path)
			path += "."
		}
		for _, f := range fieldsOf(t) {
			visit(f.typ, path+f.key)
		}
	}
	visit(topType, "")
	visit(reflect.TypeFor[Step](), "")
	return found
}

// manual writes a key.
func (f *field) manual(b *strings.Builder) {
	facts := typeName(f)
	if f.required {
		facts += ", required"
	}
	if f.def != "" {
		facts += "; default " + f.def
	}
	fmt.Fprintf(b, ".It Cm %s Pq %s\n", f.key, mdoc(facts))
	doc := f.doc
	if f.old != "" {
		doc += " Deprecated: " + f.old + "."
	}
	for sentence := range strings.SplitSeq(doc, ". ") {
		b.WriteString(mdoc(strings.TrimSuffix(sentence, ".")) + ".\n")
	}
	if f.example != "" {
		fmt.Fprintf(b, ".Dl %s\n", mdoc(f.key+": "+f.example))
	}
}

// mdoc keeps a text from being read as macros: each word that is one by
// itself, and what a line may not start with.
func mdoc(text string) string {
	words := strings.Split(strings.ReplaceAll(text, `\`, `\e`), " ")
	for i, w := range words {
		if macros[w] || i == 0 && (strings.HasPrefix(w, ".") || strings.HasPrefix(w, "'")) || len(w) == 1 && strings.Contains("()[].,:;?!|\"", w) {
			words[i] = `\&` + w
		}
	}
	return strings.ReplaceAll(strings.Join(words, " "), `"`, `\(dq`)
}

// macros are those of mdoc(7) that a text may hold as a word.
var macros = map[string]bool{
	"Ac": true, "Ad": true, "An": true, "Ao": true, "Ap": true, "Aq": true, "Ar": true, "At": true, "Bc": true, "Bo": true, "Bq": true,
	"Cd": true, "Cm": true, "Dc": true, "Do": true, "Dq": true, "Em": true, "Er": true, "Ev": true, "Fa": true, "Fl": true, "Fn": true,
	"Ic": true, "In": true, "Li": true, "Lk": true, "Ms": true, "Mt": true, "Nm": true, "No": true, "Ns": true, "Nx": true, "Oc": true,
	"Oo": true, "Op": true, "Ox": true, "Pa": true, "Pc": true, "Pf": true, "Po": true, "Pq": true, "Qc": true, "Ql": true, "Qo": true,
	"Qq": true, "Sc": true, "So": true, "Sq": true, "St": true, "Sx": true, "Sy": true, "Tn": true, "Ux": true, "Va": true, "Vt": true,
	"Xc": true, "Xo": true, "Xr": true,
}

// typeName says what a key takes, for people.
func typeName(f *field) string {
	if f.enum != nil {
		return "one of " + strings.Join(slices.DeleteFunc(slices.Clone(f.enum), func(w string) bool { return w == "" }), ", ")
	}
	return nameOf(f.typ, f)
}

func nameOf(t reflect.Type, f *field) string {
	switch t {
	case reflect.TypeFor[Mode](), reflect.TypeFor[OctalMode]():
		return "permissions"
	case reflect.TypeFor[Owner]():
		return "number or name"
	case reflect.TypeFor[Names]():
		return "list of strings, or one string with commas"
	case reflect.TypeFor[MiB]():
		return "number of MiB"
	case reflect.TypeFor[Secret]():
		return "string"
	case reflect.TypeFor[Command]():
		return "string, or list of strings"
	case reflect.TypeFor[Users]():
		return "map of names to users, or list of users"
	case reflect.TypeFor[Groups]():
		return "list of strings and maps"
	case reflect.TypeFor[Stages]():
		return "map of stages to lists of steps"
	case reflect.TypeFor[ConfigURL]():
		return "string, or map"
	case reflect.TypeFor[Dependency]():
		return "string, or map"
	case reflect.TypeFor[Pairs]():
		return "lines of NAME:PASSWORD, or list of them"
	case reflect.TypeFor[Opaque]():
		return "anything"
	}
	switch t.Kind() {
	case reflect.String:
		if r := ruleOf(f); r.what != "" && f.is != "word" && f.is != "oneline" {
			what, _, _ := strings.Cut(r.what, ":")
			return strings.TrimPrefix(strings.TrimPrefix(what, "a "), "an ")
		}
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int:
		return "number"
	case reflect.Pointer:
		return nameOf(t.Elem(), f)
	case reflect.Slice:
		if entry := t.Elem(); entry.Kind() == reflect.Struct && strings.HasPrefix(entry.Name(), "Entry[") {
			value, _ := entry.FieldByName("Value")
			return "map of names to " + plural(nameOf(value.Type, f))
		}
		return "list of " + plural(nameOf(t.Elem(), f))
	}
	return "map"
}

func plural(name string) string {
	first, rest, more := strings.Cut(name, " ")
	switch {
	case strings.HasPrefix(name, "string, or"):
		return "commands"
	case more && first == "list":
		return "lists " + rest
	case more:
		return fmt.Sprintf("strings, each %s", article(name))
	}
	return name + "s"
}

func article(name string) string {
	if strings.ContainsRune("aeiouAEIOU", rune(name[0])) {
		return "an " + name
	}
	return "a " + name
}
