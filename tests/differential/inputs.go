package differential

import "fmt"

// input is a config, and why the two differ, "" when they do not.
type input struct {
	name, stage, config, differs string
}

// Reasons for which kairos-config does otherwise.
const (
	noMode     = "a file without permissions has 0644, in Kairos 0000"
	noValue    = "what isn't there is never written as <no value>"
	native     = "what systemd owns is written in its own form, as a drop-in"
	accounts   = "accounts are made as useradd makes them: homes, skeletons, locked passwords"
	hosts      = "the host name has an address of its own in /etc/hosts"
	setuid     = "yip gives no setuid, setgid and sticky bits, though the mode says so"
	numbers    = "a number is an owner, whether an account has it or not"
	fewParents = "directories above have 0755 and are root's; in Kairos they have the mode and owner of what is in them"
	panics     = "yip 1.10 panics on after: without its own graph"
	quoteNone  = "yip quotes each value of an environment file"
	services   = "yip 1.10 has no drop-ins"
	locks      = "yip needs /var/lock for entities"
)

// inputs are all configs.
func inputs() []input {
	var all []input
	step := func(name, yaml, differs string) {
		all = append(all, input{name, "boot", "stages: {boot: [" + yaml + "]}\n", differs})
	}
	file := func(name, yaml, differs string) { step("file: "+name, "{files: [{path: /etc/f, "+yaml+"}]}", differs) }
	for _, mode := range []string{"0644", "0600", "0755", "0o640", "0440", "0777", "420", "0", "04755"} {
		differs := ""
		if mode == "04755" {
			differs = setuid
		}
		file("permissions "+mode, "content: x, permissions: "+mode, differs)
	}
	for i, owner := range []string{"owner: 0", "owner: 1", "group: 27", "owner: 1, group: 27", "ownerstring: daemon", "ownerstring: 'daemon:sudo'", "ownerstring: '7:users'", "owner: 65534"} {
		differs := ""
		if i == 6 {
			differs = numbers
		}
		file(fmt.Sprint("owner ", i), "content: x, permissions: 0600, "+owner, differs)
	}
	for i, content := range []string{`x`, `"a\nb\n"`, `""`, `"ü"`, `'{{.NoSuch}}'`, `"tab\tend"`, `17`, `yes`, `1.5`, `"a: b"`, `'#x'`} {
		differs := ""
		if i == 4 {
			differs = noValue
		}
		file(fmt.Sprint("content ", i), "permissions: 0644, content: "+content, differs)
	}
	file("base64", "permissions: 0644, encoding: base64, content: aGVsbG8=", "")
	file("b64", "permissions: 0644, encoding: b64, content: aGVsbG8=", "")
	file("without permissions", "content: x", noMode)
	step("file in a new directory", "{files: [{path: /srv/a/b/c, content: x, permissions: 0644}]}", fewParents)
	step("file over another", "{files: [{path: /etc/present, content: new, permissions: 0644}]}", "")
	step("two files", "{files: [{path: /etc/a, content: a, permissions: 0644}, {path: /etc/b, content: b, permissions: 0600}]}", "")
	step("the same file twice", "{files: [{path: /etc/a, content: a, permissions: 0644}, {path: /etc/a, content: b, permissions: 0600}]}", "")
	for _, mode := range []string{"0755", "0700", "0750", "0711"} {
		differs := ""
		if mode != "0755" {
			differs = fewParents
		}
		step("directory "+mode, "{directories: [{path: /srv/d, permissions: "+mode+"}]}", differs)
	}
	step("directory with an owner", "{directories: [{path: /srv/d, permissions: 0755, owner: 1, group: 27}]}", fewParents)
	for i, command := range []string{"touch /tmp/a", "echo a > /tmp/a", "echo $((1+2)) > /tmp/a", "mkdir -p /tmp/x/y", "echo \\\"a b\\\" > /tmp/a", "false", "exit 3", "cd /tmp && touch b", "printf '%s' \\\"$PATH\\\" | grep -q bin && touch /tmp/p"} {
		step(fmt.Sprint("command ", i), "{commands: [\""+command+"\"]}", "")
	}
	step("commands after a failing one", "{commands: ['false', 'touch /tmp/a']}", "")
	step("a script", "{commands: [\"for i in 1 2 3; do\\n echo $i >> /tmp/a\\ndone\\n\"]}", "")
	step("files before commands", "{commands: ['cat /etc/f > /tmp/a'], files: [{path: /etc/f, content: x, permissions: 0644}]}", "")
	for i, condition := range []string{"if: 'true'", "if: 'false'", "if: '[ -e /etc/present ]'", "if: '[ ! -e /etc/present ]'", "if: 'exit 1'"} {
		step(fmt.Sprint("condition ", i), "{"+condition+", commands: ['touch /tmp/a']}", "")
	}
	step("node that matches", "{node: before, commands: ['touch /tmp/a']}", "the name is that of the root, not of the machine that builds it")
	step("node that doesn't", "{node: nowhere, commands: ['touch /tmp/a']}", "")
	step("two steps", "{commands: ['echo 1 >> /tmp/a']}, {commands: ['echo 2 >> /tmp/a']}", "")
	step("after", "{name: b, after: [{name: a}], commands: ['echo b >> /tmp/a']}, {name: a, commands: ['echo a >> /tmp/a']}", panics)
	step("named steps", "{name: b, commands: ['echo b >> /tmp/a']}, {name: a, commands: ['echo a >> /tmp/a']}", "")
	step("environment", "{environment: {A: b}}", quoteNone)
	step("environment of a file", "{environment_file: /etc/env, environment: {A: b, C: d}}", quoteNone)
	step("environment with blanks", "{environment: {A: 'b c'}}", "")
	step("environment with a dollar", "{environment: {A: '$b'}}", "")
	step("host name", "{hostname: node-1}", hosts)
	step("sysctl of nothing", "{sysctl: {}}", "")
	step("timesyncd", "{timesyncd: {NTP: ntp.example.org}}", native)
	step("dns", "{dns: {nameservers: [192.0.2.53]}}", native)
	step("override", "{systemctl: {overrides: [{service: a.service, content: \"[Service]\\nNice=1\\n\"}]}}", services)
	step("override with a name", "{systemctl: {overrides: [{service: a, name: x.conf, content: \"[Service]\\n\"}]}}", services)
	step("an entity", "{ensure_entities: [{entity: \"kind: group\\ngroup_name: app\\ngid: 950\\npassword: x\\nusers: ''\\n\"}]}", locks)
	step("an entity that goes", "{delete_entities: [{entity: \"kind: group\\ngroup_name: sudo\\ngid: 27\\n\"}]}", locks)
	step("keys of root", "{authorized_keys: {root: ['ssh-ed25519 AAAA a']}}", "")
	step("keys of nobody", "{authorized_keys: {nosuch: ['ssh-ed25519 AAAA a']}}", "")
	step("a user", "{users: {alice: {passwd: '$6$a$b'}}}", accounts)
	step("nothing", "{}", "")
	step("a name alone", "{name: x}", "")
	step("an unknown key", "{nosuch: x, commands: ['touch /tmp/a']}", "")
	for _, part := range []string{"boot.before", "boot.after"} {
		all = append(all, input{"part " + part, part, "stages: {" + part + ": [{commands: ['touch /tmp/a']}]}\n", ""})
	}
	all = append(all,
		input{"another stage", "fs", "stages: {boot: [{commands: ['touch /tmp/a']}], fs: [{commands: ['touch /tmp/b']}]}\n", ""},
		input{"a stage of one's own", "mine", "stages: {mine: [{commands: ['touch /tmp/b']}]}\n", ""},
		input{"no stage", "mine", "stages: {boot: []}\n", ""},
		input{"runcmd", "boot", "#cloud-config\nruncmd: ['touch /tmp/a']\n", ""},
		input{"write_files", "boot", "#cloud-config\nwrite_files: [{path: /etc/f, content: x, permissions: '0600'}]\n", ""},
		input{"write_files, octal without a zero", "boot", "#cloud-config\nwrite_files: [{path: /etc/f, content: x, permissions: '755'}]\n", ""},
		input{"write_files with an owner", "boot", "#cloud-config\nwrite_files: [{path: /etc/f, content: x, permissions: '0600', owner: daemon}]\n", ""},
		input{"write_files in base64", "boot", "#cloud-config\nwrite_files: [{path: /etc/f, content: eA==, encoding: b64, permissions: '0600'}]\n", ""},
		input{"keys at the top", "boot", "#cloud-config\nssh_authorized_keys: ['ssh-ed25519 AAAA a']\n", ""},
		input{"host name at the top", "initramfs", "#cloud-config\nhostname: node-1\n", hosts},
		input{"host name at the top, in boot", "boot", "#cloud-config\nhostname: before\n", hosts},
	)
	// Templates: the functions of sprig that read neither environment nor network.
	for i, text := range templates {
		all = append(all, input{fmt.Sprintf("template %d: %s", i, text), "boot", "stages:\n  boot:\n  - files:\n    - path: /etc/f\n      permissions: 0644\n      content: |\n        " + text + "\n", ""})
	}
	for _, text := range []string{`{{ .Values.nosuch }}`, `a-{{ .Values.product.nosuch }}-b`} {
		all = append(all, input{"template " + text, "boot", "stages:\n  boot:\n  - files:\n    - path: /etc/f\n      permissions: 0644\n      content: |\n        " + text + "\n", noValue})
	}
	return append(all, strangers()...)
}

var templates = []string{
	`{{ upper "a" }}`, `{{ lower "A" }}`, `{{ title "a b" }}`, `{{ untitle "A B" }}`, `{{ trim " a " }}`, `{{ trimAll "$" "$5.00" }}`, `{{ trimSuffix "-" "a-" }}`, `{{ trimPrefix "-" "-a" }}`,
	`{{ repeat 3 "a" }}`, `{{ substr 0 3 "hello" }}`, `{{ nospace "a b c" }}`, `{{ trunc 3 "hello" }}`, `{{ trunc -3 "hello" }}`, `{{ contains "a" "cat" }}`, `{{ hasPrefix "c" "cat" }}`, `{{ hasSuffix "t" "cat" }}`,
	`{{ quote "a" "b" }}`, `{{ squote "a" }}`, `{{ cat "a" "b" 3 }}`, `{{ indent 4 "a" }}`, `{{ nindent 2 "a" }}`, `{{ replace " " "-" "a b" }}`, `{{ plural "one" "many" 2 }}`, `{{ snakecase "FirstName" }}`,
	`{{ kebabcase "FirstName" }}`, `{{ initials "First Try" }}`, `{{ regexMatch "^a" "abc" }}`, `{{ regexFind "[a-z][1-9]" "abcd1234" }}`, `{{ regexReplaceAll "a(x*)b" "-ab-axxb-" "${1}W" }}`, `{{ regexSplit "z+" "pizza" -1 }}`,
	`{{ join "-" (list 1 2 3) }}`, `{{ splitList "," "a,b" }}`, `{{ (split "," "a,b")._1 }}`, `{{ sortAlpha (list "b" "a") }}`, `{{ add 1 2 3 }}`, `{{ add1 1 }}`, `{{ sub 5 2 }}`, `{{ div 7 2 }}`, `{{ mod 7 2 }}`, `{{ mul 2 3 4 }}`,
	`{{ max 1 5 3 }}`, `{{ min 4 2 3 }}`, `{{ floor 1.7 }}`, `{{ ceil 1.2 }}`, `{{ round 1.2345 2 }}`, `{{ until 3 }}`, `{{ untilStep 0 10 3 }}`, `{{ default "x" "" }}`, `{{ default "x" "y" }}`, `{{ empty "" }}`,
	`{{ coalesce "" "b" "c" }}`, `{{ all 1 "a" }}`, `{{ any 0 "" 1 }}`, `{{ ternary "y" "n" true }}`, `{{ b64enc "hello" }}`, `{{ b64dec "aGVsbG8=" }}`, `{{ b32enc "hello" }}`, `{{ b32dec "NBSWY3DP" }}`, `{{ first (list 1 2) }}`, `{{ rest (list 1 2 3) }}`,
	`{{ last (list 1 2) }}`, `{{ initial (list 1 2 3) }}`, `{{ append (list 1) 2 }}`, `{{ prepend (list 1) 2 }}`, `{{ concat (list 1) (list 2) }}`, `{{ reverse (list 1 2) }}`, `{{ uniq (list 1 1 2) }}`, `{{ without (list 1 2 3) 2 }}`, `{{ has 2 (list 1 2) }}`, `{{ compact (list 1 "" 2) }}`,
	`{{ get (dict "a" "b") "a" }}`, `{{ hasKey (dict "a" 1) "a" }}`, `{{ keys (dict "a" 1) }}`, `{{ pick (dict "a" 1 "b" 2) "a" }}`, `{{ omit (dict "a" 1 "b" 2) "a" }}`, `{{ dig "a" "b" "x" (dict "a" (dict "b" 1)) }}`, `{{ toJson (dict "a" 1) }}`, `{{ fromJson "[1,2]" }}`, `{{ int "7" }}`, `{{ atoi "7" }}`,
	`{{ float64 "1.5" }}`, `{{ toString 5 }}`, `{{ kindOf "a" }}`, `{{ kindIs "string" "a" }}`, `{{ typeOf "a" }}`, `{{ base "/a/b" }}`, `{{ dir "/a/b" }}`, `{{ ext "a.b" }}`, `{{ clean "/a/../b" }}`, `{{ isAbs "/a" }}`,
	`{{ sha256sum "a" }}`, `{{ sha1sum "a" }}`, `{{ adler32sum "a" }}`, `{{ abbrev 5 "hello world" }}`, `{{ abbrevboth 5 10 "1234 5678 9123" }}`, `{{ swapcase "aB" }}`, `{{ camelcase "http_server" }}`, `{{ wrap 5 "hello world" }}`, `{{ wrapWith 5 "-" "hello world" }}`,
	`{{ addf 1.5 2 }}`, `{{ subf 7.5 2 3 }}`, `{{ mulf 1.5 2 2 }}`, `{{ divf 10 2 4 }}`, `{{ maxf 1 2.5 3 }}`, `{{ minf 1.5 2 3 }}`, `{{ biggest 1 2 3 }}`, `{{ toDecimal "0777" }}`, `{{ seq 5 }}`,
	`{{ seq 0 2 10 }}`, `{{ slice (list 1 2 3 4) 1 3 }}`, `{{ chunk 2 (list 1 2 3) }}`, `{{ values (dict "a" 1) }}`, `{{ set (dict "a" 1) "b" 2 }}`, `{{ unset (dict "a" 1 "b" 2) "a" }}`, `{{ merge (dict "a" 1) (dict "b" 2) }}`, `{{ mergeOverwrite (dict "a" 1) (dict "a" 2) }}`, `{{ deepEqual (list 1) (list 1) }}`, `{{ deepCopy (dict "a" 1) }}`,
	`{{ typeIs "string" "a" }}`, `{{ typeIsLike "string" "a" }}`, `{{ urlParse "http://a.example/b?c" }}`, `{{ (urlParse "http://a.example/b?c").host }}`, `{{ urlJoin (dict "scheme" "http" "host" "a" "path" "/b") }}`, `{{ duration 3661 }}`, `{{ durationRound "2h10m5s" }}`, `{{ htmlDateInZone 0 "UTC" }}`, `{{ dateInZone "2006-01-02" 0 "UTC" }}`, `{{ toDate "2006-01-02" "2017-12-31" | unixEpoch }}`,
	`{{ mustRegexMatch "^a" "a" }}`, `{{ mustFirst (list 1) }}`, `{{ mustToJson (list 1) }}`, `{{ mustUniq (list 1 1) }}`, `{{ osBase "/a/b" }}`, `{{ osDir "/a/b" }}`, `{{ osExt "a.b" }}`, `{{ osClean "/a/../b" }}`, `{{ osIsAbs "a" }}`, `{{ hello }}`,
	`{{ tuple 1 2 }}`, `{{ list "a" | toString }}`, `{{ len (randAlpha 5) }}`, `{{ len (randNumeric 5) }}`, `{{ len (randAlphaNum 7) }}`, `{{ len (randAscii 7) }}`, `{{ len uuidv4 }}`, `{{ randInt 5 6 }}`,
}
