package cmdline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/kairos-io/toolkit/lib/argv"
	"github.com/kairos-io/toolkit/lib/exit"
)

// outputOption is the option --output of each command with --json: --output=json is the
// same as --json, --output=shell prints the object as variables of a shell.
var outputOption = argv.Option{
	Name: "output", Kind: argv.Text, Value: "FORMAT", Usage: "print the result as `json`, or as variables for a `shell`",
}

// output replaces --output in a call by --json, and reports whether the result is for a
// shell.
func output(call *argv.Call) (shell bool, err error) {
	kept := call.Options[:0:0]
	for _, given := range call.Options {
		if given.Name != outputOption.Name || given.Usage != outputOption.Usage {
			kept = append(kept, given)
			continue
		}
		if given.Value != "json" && given.Value != "shell" {
			err = exit.Usagef("option --output: %q is neither json nor shell", given.Value)
		}
		shell = given.Value == "shell"
		for at := len(call.Path) - 1; at >= 0; at-- {
			if i := indexOf(call.Path[at].Options, "json"); i >= 0 {
				kept = append(kept, argv.Given{Option: &call.Path[at].Options[i], Value: "true"})
				break
			}
		}
	}
	call.Options = kept
	return shell, err
}

func indexOf(options []argv.Option, name string) int {
	for i := range options {
		if options[i].Name == name {
			return i
		}
	}
	return -1
}

// shellPrefix is the prefix of the name of each variable, since many objects have keys
// such as PATH.
const shellPrefix = "KAIROS"

// printShell writes a JSON object as assignments, one a line, which are safe to
// evaluate whatever the values are: KAIROS_STORE_FREE='1234'. Items of lists are
// numbered from 0; one more variable has their number.
func printShell(w io.Writer, object []byte) error {
	in := json.NewDecoder(bytes.NewReader(object))
	in.UseNumber()
	return shellValue(w, in, shellPrefix)
}

func shellValue(w io.Writer, in *json.Decoder, name string) error {
	token, err := in.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		for in.More() {
			key, err := in.Token()
			if err == nil {
				err = shellValue(w, in, name+"_"+shellName(fmt.Sprint(key)))
			}
			if err != nil {
				return err
			}
		}
		_, err = in.Token()
		return err
	case json.Delim('['):
		n := 0
		for ; in.More(); n++ {
			if err := shellValue(w, in, fmt.Sprintf("%s_%d", name, n)); err != nil {
				return err
			}
		}
		if _, err := in.Token(); err != nil {
			return err
		}
		return assign(w, name+"_COUNT", n)
	case nil:
		return assign(w, name, "")
	}
	return assign(w, name, token)
}

// assign writes one variable. Single quotes protect everything but the quote itself; a
// shell variable cannot hold a zero byte.
func assign(w io.Writer, name string, value any) error {
	text := strings.ReplaceAll(fmt.Sprint(value), "\x00", "")
	_, err := fmt.Fprintf(w, "%s='%s'\n", name, strings.ReplaceAll(text, "'", `'\''`))
	return err
}

func shellName(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}
