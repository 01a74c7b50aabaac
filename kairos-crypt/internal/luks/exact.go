package luks

import (
	"encoding/json"
	"fmt"
)

// fields says where the values of an object go, by name.
type fields map[string]any

// decode decodes an object as json-c and systemd read it: names are compared
// exactly, and of two equal names the last one counts, whole. encoding/json
// alone takes "Keyslots" for "keyslots" and merges the objects of equal names,
// so that a hostile header could mean one thing here and another there. Names
// that are not asked for are ignored.
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
