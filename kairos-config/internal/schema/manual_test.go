package schema

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the keys into the manual page")

const (
	manual = "../../../man/kairos-cloud-config.5"
	begin  = ".\\\" The keys are made of the types in kairos-config/internal/schema:\n.\\\" go test -run TestManual -update\n"
	end    = ".\\\" End of the keys.\n"
)

// TestManual: kairos-cloud-config(5) has every key with its type, its default,
// what it does and an example, in the words that stand beside the types.
func TestManual(t *testing.T) {
	data, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the page has no place for the keys")
	}
	keys := manualKeys()
	if *update {
		if err := os.WriteFile(manual, []byte(head+begin+keys+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != keys {
		t.Errorf("the page is not up to date: go test -run TestManual -update")
	}
	if n := strings.Count(keys, "\n.It Cm "); n < 250 {
		t.Errorf("only %d keys", n)
	}
	_, example, _ := strings.Cut(tail, ".Bd -literal -offset indent\n")
	example, _, _ = strings.Cut(example, ".Ed")
	if problems := Check(parse(t, example)); len(problems) > 0 || !strings.Contains(example, "users:") {
		t.Errorf("the example: %v", problems)
	}
}

// manualKeys is all keys in mdoc(7), block by block.
func manualKeys() string {
	places := places()
	var b strings.Builder
	for _, block := range blocks() {
		switch block {
		case topType:
			b.WriteString(".Ss Keys at the top\n")
		case reflect.TypeFor[Step]():
			b.WriteString(".Ss Keys of a step\n")
		default:
			fmt.Fprintf(&b, ".Ss Keys of %s\n", strings.Join(places[block], ", "))
		}
		b.WriteString(".Bl -tag -width Ds\n")
		for _, f := range fieldsOf(block) {
			if f.none == "" {
				f.manual(&b)
			}
		}
		b.WriteString(".El\n")
	}
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
	b.WriteString(".El\n")
	return b.String()
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
