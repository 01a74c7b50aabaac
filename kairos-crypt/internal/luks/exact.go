package luks

import (
	"encoding/json"
	"fmt"
)

// fields maps the names of an object to the destinations of their values.
type fields map[string]any

// decode decodes an object as json-c and systemd do: names are compared exactly, and of
// two equal names the last one counts, as a whole. encoding/json matches "Keyslots"
// with "keyslots" and merges objects of equal names, so that a hostile header could
// mean one thing here and another there. Other names are ignored.
func decode(text []byte, into fields) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return err
	}
	for name, target := range into {
		value, ok := object[name]
		if !ok {
			continue
		}
		if err := json.Unmarshal(value, target); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
