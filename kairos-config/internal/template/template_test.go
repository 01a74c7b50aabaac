package template

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"
	"github.com/kairos-io/toolkit/kairos-config/internal/facts"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// same are templates that sprig and this package must render alike.
var same = []string{
	`{{ trim "  a " }}|{{ trimAll "$" "$5$" }}|{{ trimSuffix "-" "a-" }}|{{ trimPrefix "-" "-a" }}`,
	`{{ upper "aé" }}{{ lower "AÉ" }}{{ title "hello world's best_of" }}{{ untitle "Hello World" }}{{ nospace " a b " }}`,
	`{{ trunc 3 "abcdef" }}|{{ trunc -3 "abcdef" }}|{{ trunc 9 "ab" }}|{{ trunc -9 "ab" }}|{{ trunc 0 "ab" }}`,
	`{{ substr 1 3 "abcdef" }}|{{ substr -1 2 "abc" }}|{{ substr 1 -1 "abc" }}|{{ substr 1 9 "abc" }}`,
	`{{ contains "a" "cat" }}{{ hasPrefix "c" "cat" }}{{ hasSuffix "c" "cat" }}`,
	`{{ quote "a\"b" 1 nil true }}{{ squote "x" 2 }}{{ cat "a" nil 1 "b" }}`,
	"{{ indent 2 \"a\\nb\" }}|{{ nindent 4 \"a\\n\" }}", `{{ replace "a" "bb" "aXa" }}{{ plural "one" "many" 1 }}{{ plural "one" "many" 2 }}`,
	`{{ repeat 3 "ab" }}{{ initials "First Try" }}`,
	`{{ snakecase "FirstName" }}|{{ kebabcase "FirstName" }}|{{ snakecase "first name" }}|{{ snakecase "HTTPServer" }}|{{ kebabcase "first_name-x" }}`,
	`{{ toString 5 }}{{ list 1 "a" nil | toStrings }}{{ list 1 "a" | join "-" }}{{ join "-" "x" }}`,
	`{{ splitList "," "a,b" }}{{ (split "." "a.b")._1 }}{{ (splitn "." 2 "a.b.c")._1 }}{{ list "b" "a" | sortAlpha }}`,
	`{{ regexMatch "^a+$" "aa" }}{{ regexFind "[0-9]+" "a12b3" }}{{ regexFindAll "[0-9]" "a12b3" -1 }}{{ regexFindAll "[0-9]" "a12b3" 2 }}`,
	`{{ regexReplaceAll "a(x*)b" "-ab-axxb-" "${1}W" }}{{ regexReplaceAllLiteral "a(x*)b" "-ab-" "${1}" }}{{ regexSplit "z+" "pizza" -1 }}{{ regexQuoteMeta "1.2" }}`,
	`{{ default "x" "" }}{{ default "x" "y" }}{{ default 5 0 }}{{ "" | default "z" }}{{ default "x" .Values.nope }}{{ empty (list) }}{{ empty "a" }}{{ empty false }}`,
	`{{ coalesce 0 "" "c" }}{{ ternary "a" "b" true }}{{ false | ternary "a" "b" }}{{ all 1 "a" }}{{ any 0 "" }}`,
	`{{ b64enc "hi" }}{{ b64dec "aGk=" }}{{ b32enc "hi" }}{{ b32dec "NBUQ====" }}{{ sha1sum "a" }}{{ sha256sum "a" }}{{ sha512sum "a" }}`,
	`{{ dict "a" 1 "b" "<" | toJson }}{{ dict "b" "<" | toRawJson }}{{ list 1 2 | toPrettyJson }}{{ (fromJson "{\"a\": [1]}").a }}`,
	`{{ int "5" }}{{ int64 3.9 }}{{ float64 "1.5" }}{{ atoi "7" }}{{ atoi "x" }}{{ int true }}{{ int "x" }}`,
	`{{ add 1 2 3 }}{{ add1 4 }}{{ sub 5 2 }}{{ mul 2 3 4 }}{{ div 7 2 }}{{ mod 7 2 }}{{ max 1 5 3 }}{{ min 4 2 3 }}`,
	`{{ floor 1.7 }}{{ ceil 1.2 }}{{ round 1.2345 2 }}`, `{{ until 4 }}{{ untilStep 1 7 2 }}{{ untilStep 5 1 -2 }}{{ until -2 }}{{ untilStep 1 5 -1 }}`,
	`{{ kindOf "a" }}{{ kindOf 1 }}{{ kindIs "map" (dict) }}{{ typeOf 1 }}`,
	`{{ base "/a/b" }}{{ dir "/a/b" }}{{ ext "a.b" }}{{ clean "/a/../b" }}{{ isAbs "/a" }}`,
	`{{ date "2006-01-02" 86400 }}`, `{{ list 1 2 3 | first }}{{ list 1 2 3 | last }}{{ list 1 2 3 | rest }}{{ list 1 2 3 | initial }}{{ list 1 2 | reverse }}`,
	`{{ list 1 "" 2 | compact }}{{ list 1 1 2 | uniq }}{{ append (list 1) 2 }}{{ prepend (list 1) 0 }}{{ concat (list 1) (list 2) }}{{ without (list 1 2 3) 2 }}{{ has 2 (list 1 2) }}`,
	`{{ get (dict "a" 1) "a" }}{{ get (dict "a" 1) "b" }}{{ hasKey (dict "a" 1) "a" }}{{ keys (dict "a" 1) }}{{ pick (dict "a" 1 "b" 2) "a" }}{{ omit (dict "a" 1 "b" 2) "a" }}{{ pluck "a" (dict "a" 1) (dict "b" 2) }}`,
	`{{ dig "a" "b" "no" (dict "a" (dict "b" "yes")) }}{{ dig "a" "c" "no" (dict "a" (dict)) }}`,
	`{{ print 1 "a" }}{{ printf "%03d %s" 7 "x" }}{{ println "a" }}{{ html "<" }}{{ js "'" }}{{ urlquery "a b" }}`,
	`{{ range $i, $n := .Values.network }}{{ $i }}{{ $n.name }}{{ end }}{{ with .Values.os }}{{ .vendor }}{{ end }}`,
	`{{ define "x" }}[{{ . }}]{{ end }}{{ template "x" 5 }}{{ block "y" 6 }}{{ . }}{{ end }}`,
	`node-{{ trunc 4 .MachineID }}.{{ .Random | upper | trunc 2 }}`,
}

func TestSameAsSprig(t *testing.T) {
	used := map[string]bool{}
	for _, text := range same {
		var want strings.Builder
		oracle, err := template.New("t").Funcs(sprig.TxtFuncMap()).Parse(text)
		if err == nil {
			err = oracle.Execute(&want, facts.Sample())
		}
		if err != nil {
			t.Fatalf("%s: sprig: %v", text, err)
		}
		got, err := New(facts.Sample).Text(text)
		if err != nil || got != want.String() {
			t.Errorf("%s\ngot  %s, %v\nwant %s", text, got, err, want.String())
		}
		for word := range strings.FieldsFuncSeq(text, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", r)
		}) {
			used[word] = true
		}
	}
	ours := (&bounds{}).functions()
	for name := range ours {
		if more[name] != nil || rare[name] != nil || strings.HasPrefix(name, "must") { // tests/differential compares them with sprig itself
			continue
		}
		if !used[name] && !strings.HasPrefix(name, "_") && !map[string]bool{"now": true, "unixEpoch": true, "fail": true, "trimall": true, "tuple": true, "required": true}[name] {
			t.Errorf("%s is not compared", name)
		}
		if _, theirs := sprig.TxtFuncMap()[name]; !theirs && builtin[name] == nil && !strings.HasPrefix(name, "_") && name != "required" { // Helm's
			t.Errorf("sprig has no %s", name)
		}
	}
	for _, name := range []string{"env", "expandenv", "getHostByName", "genPrivateKey", "buildCustomCert", "genCA", "genCAWithKey",
		"genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey", "derivePassword"} {
		if ours[name] != nil {
			t.Errorf("%s must not be there", name)
		}
		if _, err := New(facts.Sample).Text("{{ " + name + " }}"); err == nil || !strings.Contains(err.Error(), "it is left out, because ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBounds(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"output":      {`{{ range until 200 }}{{ repeat 10000 "x" }}{{ end }}`, "1 MiB"},
		"turns":       {`{{ $l := until 1000 }}{{ range $l }}{{ range $l }}{{ range $l }}{{ end }}{{ end }}{{ end }}`, "100000 times"},
		"range int":   {`{{ range 2000000000 }}{{ end }}`, "100000 times"},
		"recursion":   {`{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" . }}`, "1000 times"},
		"fork":        {`{{ define "x" }}{{ template "x" . }}{{ template "x" . }}{{ end }}{{ template "x" . }}`, "1000 times"},
		"list":        {`{{ until 1000000000 }}`, "10000 items"},
		"steps":       {`{{ untilStep 0 9223372036854775807 1 }}`, "10000 items"},
		"repeat":      {`{{ repeat 9223372036854775807 "xx" }}`, "1 MiB"},
		"doubling":    {`{{ $s := "xxxxxxxx" }}{{ range until 40 }}{{ $s = print $s $s }}{{ end }}`, "1 MiB"},
		"concat":      {`{{ $l := until 10 }}{{ range until 40 }}{{ $l = concat $l $l }}{{ end }}`, "1 MiB"},
		"nested list": {`{{ $l := list 1 }}{{ range until 1000 }}{{ $l = list $l $l }}{{ end }}`, "1 MiB"},
		"replace":     {`{{ $s := repeat 1000000 "x" }}{{ replace "x" $s $s }}`, "1 MiB"},
		"regex":       {`{{ $s := repeat 1000000 "x" }}{{ regexReplaceAll "x" $s "$0$0$0$0$0$0$0$0$0$0$0$0$0$0$0$0$0$0" }}`, "1 MiB"},
		"printf":      {`{{ printf "%1000000d" 1 }}`, "not supported"},
		"printf star": {`{{ printf "%*d" 1000000 1 }}`, "not supported"},
		"indent":      {`{{ indent 1000 (repeat 500000 "\n") }}`, "1 MiB"},
		"html":        {`{{ $s := repeat 500000 "<" }}{{ range until 40 }}{{ $s = html $s }}{{ end }}`, "1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			r := New(facts.Sample)
			r.most = time.Hour // the other bounds are meant
			out, err := r.Text(c.text)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %d bytes, %v; want %q", len(out), err, c.want)
			}
		})
	}
}

// TestLate: what takes too long in other ways ends as well.
func TestLate(t *testing.T) {
	r := New(facts.Sample)
	r.most = -1
	for _, text := range []string{`{{ range until 2 }}{{ end }}`, `{{ upper "x" }}`, `{{ define "x" }}{{ end }}{{ template "x" }}`} {
		if out, err := r.Text(text); err == nil || !strings.Contains(err.Error(), "takes longer than") {
			t.Errorf("%s: got %q, %v", text, out, err)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		text, want   string
		line, column int
	}{
		{"a\nb {{ nosuch }}", `function "nosuch" not defined`, 2, 0},
		{"a {{ .Values", "unclosed action", 1, 0},
		{"{{ if }}x{{ end }}", "missing value for if", 1, 0},
		{"x\n{{ .Nope }}", "<.Nope>: there is no fact Nope", 2, 4},
		{"{{ index .Values.network 5 }}", "<index .Values.network 5>: error calling index: index out of range: 5", 1, 4},
		{`{{ fail "no good" }}`, `<fail "no good">: error calling fail: no good`, 1, 4},
		{`{{ env "HOME" }}`, `function "env" not defined: it is left out, because a template reads neither the environment nor the network`, 1, 0},
		{`{{ (genCA "x" 1).Cert }}`, `function "genCA" not defined: it is left out, because templates are rendered at each boot, and private keys do not belong in a config: make the key elsewhere, and name it as ${credential:NAME}`, 1, 0},
		{`{{ derivePassword 1 "long" "x" "y" "z" }}`, `function "derivePassword" not defined: it is left out, because the main password would stand in the config: name the password as ${credential:NAME}`, 1, 0},
		{`{{ div 1 0 }}`, `<div 1 0>: error calling div: division by zero`, 1, 4},
	} {
		out, err := New(facts.Sample).Text(c.text)
		var e *Error
		if !errors.As(err, &e) || e.Message != c.want || e.Line != c.line || e.Column != c.column {
			t.Errorf("%s: got %q, %+v", c.text, out, e)
		}
	}
}

func TestNode(t *testing.T) {
	n, _ := tree.Parse("f", []byte(`
hostname: 'node-{{ trunc 4 .MachineID }}'
plain: {a: [1, x]}
commands:
- echo {{ .Values.node.hostname }}
- docker ps --format '{{.Names}}'
- |
  one
  two {{ .Values.os.vendor | nosuch }}
- "{{ .Values.os.nothing }}"
- kubectl get -o go-template='{{range .items}}{{end}}'
`))
	out, problems := New(facts.Sample).Node(n)
	asJSON, _ := out.MarshalJSON()
	want := `{"hostname":"node-0123","plain":{"a":[1,"x"]},"commands":["echo node","docker ps --format '{{.Names}}'","one\ntwo {{ .Values.os.vendor | nosuch }}\n","{{ .Values.os.nothing }}","kubectl get -o go-template='{{range .items}}{{end}}'"]}`
	if string(asJSON) != want {
		t.Errorf("got  %s\nwant %s", asJSON, want)
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.Error())
	}
	wants := []string{
		`f:6:3: warning: text in braces stays as it is: as a template, it fails: <.Names>: there is no fact Names`,
		`f:9: error: template: function "nosuch" not defined`,
		`f:10:3: error: template: this machine does not have one of its facts ({{ default "…" FACT }} sets a value for such machines)`,
		`f:11:3: warning: text in braces stays as it is: as a template, it fails: <.items>: there is no fact items`,
	}
	if !reflect.DeepEqual(got, wants) {
		t.Errorf("got  %q\nwant %q", got, wants)
	}
	if before, _ := n.Field("hostname"), 0; before.Text == "node-0123" || out.Field("plain") != n.Field("plain") {
		t.Error("the input was changed, or what has no templates copied")
	}
}

// TestFactsAreReadWhenNeeded: most configs have no templates.
func TestFactsAreReadWhenNeeded(t *testing.T) {
	reads := 0
	r := New(func() facts.Facts { reads++; return facts.Sample() })
	for _, text := range []string{"plain", "{ {", "{{ .MachineID }}", "{{ .MachineID }}"} {
		if _, err := r.Text(text); err != nil {
			t.Fatal(err)
		}
		if want := 0; text == "plain" && reads != want {
			t.Error("facts were read for a plain text")
		}
	}
	if reads != 1 {
		t.Errorf("facts were read %d times", reads)
	}
}

// FuzzText: no template takes more than its bounds, or the program down.
func FuzzText(f *testing.F) {
	for _, text := range same {
		f.Add(text)
	}
	for _, text := range []string{`{{ range until 200 }}{{ repeat 10000 "x" }}{{ end }}`, `{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" . }}`, `{{ break }}`, `{{ $x := 1 }}{{ $x = index . "a" }}`, `{{ dig 1 2 3 }}{{ round 1 999 }}{{ fromJson "[" }}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out, err := New(facts.Sample).Text(text)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("not placed: %v", err)
		}
		if len(out) > maxText && Has(text) {
			t.Errorf("%d bytes", len(out))
		}
	})
}

func ExampleRenderer_Text() {
	out, _ := New(facts.Sample).Text("{{ .Values.node.hostname | upper }}")
	fmt.Println(out)
	// Output: NODE
}

// TestAddress: the values in an address can't change it, and must be there.
func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		"https://example.com/a?b=c#sha256=00":                                                "https://example.com/a?b=c#sha256=00",
		"https://example.com/{{ .Values.node.hostname }}.yaml?id={{ .MachineID | trunc 4 }}": "https://example.com/" + facts.Sample().Values["node"].(map[string]any)["hostname"].(string) + ".yaml?id=" + facts.Sample().MachineID[:4],
		`https://example.com/?x={{ "a b&c=/d" }}`:                                            "https://example.com/?x=a%20b%26c%3D%2Fd",
		`https://example.com/?x={{ "a&b" | urlquery }}`:                                      "https://example.com/?x=a%26b",
		`https://example.com/{{ if .Values.nope }}a{{ else }}{{ "b/c" }}{{ end }}`:           "https://example.com/b%2Fc",
		`https://example.com/{{ $x := "a?" }}{{ $x }}`:                                       "https://example.com/a%3F",
		`https://example.com/{{ required "no name" "x" }}`:                                   "https://example.com/x",
		`https://example.com/{{ default "d" .Values.product.nope }}`:                         "https://example.com/d",
		// Errors.
		`https://example.com/{{ .Values.product.nope }}`:                           "!this machine does not have one of its facts",
		`https://example.com/{{ required "no serial" .Values.nope }}`:              "!no serial",
		`https://example.com/{{ required "no serial" "" }}`:                        "!no serial",
		`https://example.com/{{ nope }}`:                                           `!function "nope" not defined`,
		`https://example.com/{{ range until 10000 }}{{ repeat 200 "x" }}{{ end }}`: "!1 MiB",
	} {
		got, err := New(facts.Sample).Address(text)
		if fault, ok := strings.CutPrefix(want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), fault) {
				t.Errorf("%s: %q, %v", text, got, err)
			}
		} else if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
}
