package template

import (
	"strings"
	"testing"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"github.com/kairos-io/toolkit/kairos-config/internal/facts"
)

// TestMoreIsSprigs: what the functions of more make is what sprig makes.
func TestMoreIsSprigs(t *testing.T) {
	for _, text := range []string{
		`{{ adler32sum "a" }}`, `{{ abbrev 5 "hello world" }}`, `{{ abbrev 3 "hello" }}`, `{{ abbrevboth 5 10 "1234 5678 9123" }}`, `{{ swapcase "aB" }}`, `{{ camelcase "http_server" }}`,
		`{{ wrap 5 "hello world" }}`, `{{ wrapWith 5 "-" "hello world" }}`, `{{ wrap 20 "a b c" }}`,
		`{{ addf 1.5 2 }}`, `{{ add1f 1.5 }}`, `{{ subf 7.5 2 3 }}`, `{{ mulf 1.5 2 2 }}`, `{{ divf 10 2 4 }}`, `{{ maxf 1 2.5 3 }}`, `{{ minf 1.5 2 3 }}`, `{{ biggest 1 2 3 }}`, `{{ toDecimal "0777" }}`,
		`{{ seq 5 }}`, `{{ seq 0 2 10 }}`, `{{ seq -3 }}`, `{{ seq 5 2 }}`, `{{ chunk 2 (list 1 2 3) }}`, `{{ values (dict "a" 1) }}`, `{{ set (dict "a" 1) "b" 2 }}`, `{{ unset (dict "a" 1 "b" 2) "a" }}`,
		`{{ merge (dict "a" 1) (dict "a" 3 "b" 2) }}`, `{{ mergeOverwrite (dict "a" 1) (dict "a" 2) }}`, `{{ deepEqual (list 1) (list 1) }}`, `{{ deepCopy (dict "a" 1) }}`,
		`{{ typeIs "string" "a" }}`, `{{ typeIsLike "string" "a" }}`, `{{ urlParse "http://u:p@a.example:80/b?c#d" }}`, `{{ urlJoin (dict "scheme" "http" "host" "a" "path" "/b" "query" "c=d") }}`,
		`{{ duration 3661 }}`, `{{ durationRound "2h10m5s" }}`, `{{ durationRound "400s" }}`, `{{ htmlDateInZone 0 "UTC" }}`, `{{ dateInZone "2006-01-02" 0 "UTC" }}`, `{{ toDate "2006-01-02" "2017-12-31" | unixEpoch }}`,
		`{{ mustRegexMatch "^a" "a" }}`, `{{ mustFirst (list 1) }}`, `{{ mustToJson (list 1) }}`, `{{ mustUniq (list 1 1) }}`, `{{ osBase "/a/b" }}`, `{{ osDir "/a/b" }}`, `{{ osExt "a.b" }}`, `{{ osClean "/a/../b" }}`, `{{ osIsAbs "a" }}`, `{{ hello }}`,
		`{{ len (randAlpha 5) }}`, `{{ len (randNumeric 5) }}`, `{{ len (randAlphaNum 7) }}`, `{{ len (randAscii 7) }}`, `{{ len uuidv4 }}`, `{{ randInt 5 6 }}`,
		`{{ push (list 1) 2 }}`, `{{ mustPush (list 1) 2 }}`, `{{ slice (list 1 2 3) 1 }}`, `{{ slice (list 1 2 3) 1 2 }}`, `{{ mustSlice (list 1 2 3) }}`,
		`{{ toDate "2006-01-02" "2017-12-31" | must_date_modify "24h" | unixEpoch }}`, `{{ shuffle "aaaa" }}`, `{{ len (randBytes 9) }}`,
		`{{ len (bcrypt "x") }}`, `{{ len (htpasswd "a" "x") }}`, `{{ encryptAES "key" "a text" | decryptAES "key" }}`,

		`{{ (semver "1.2.3-beta.1+c").Minor }}`, `{{ semverCompare "^1.2.0" "1.4.1" }}`, `{{ semverCompare ">=2" "1.4.1" }}`,
	} {
		got, err := New(facts.Sample).Text(text)
		var want strings.Builder
		parsed, failed := template.New("t").Funcs(sprig.TxtFuncMap()).Parse(text)
		if failed == nil {
			failed = parsed.Execute(&want, facts.Sample())
		}
		if err != nil || failed != nil || got != want.String() {
			t.Errorf("%s: %q, %v; sprig makes %q, %v", text, got, err, want.String(), failed)
		}
	}
}
