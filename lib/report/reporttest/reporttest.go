// Package reporttest checks the output of programs with --json against the installed
// JSON Schema that kairos-json(5) promises. Only tests use it.
package reporttest

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:embed json-output.schema.json
var schema []byte

// address is the $id of the schema.
const address = "urn:kairos:toolkit:json-output:1"

// compiler has the schema loaded, and checks formats as well.
var compiler = sync.OnceValue(func() *jsonschema.Compiler {
	text, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err == nil {
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		if err = c.AddResource(address, text); err == nil {
			return c
		}
	}
	panic(err)
})

// Definition returns the name of the schema's definition for a command:
// kairos-upgrade-status.
func Definition(command ...string) (*jsonschema.Schema, error) {
	return compiler().Compile(address + "#/$defs/" + strings.Join(command, "-"))
}

// Check validates one object against the schemas of a command's result and of errors.
func Check(text []byte, command ...string) error {
	object, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%s --json prints no JSON: %w", strings.Join(command, " "), err)
	}
	if fields, ok := object.(map[string]any); ok && fields["message_type"] == "exit_error" {
		command = []string{"error"}
	}
	allowed, err := Definition(command...)
	if err == nil {
		err = allowed.Validate(object)
	}
	if err != nil {
		return fmt.Errorf("%s --json against the schema: %w\n%s", strings.Join(command, " "), err, text)
	}
	return nil
}
