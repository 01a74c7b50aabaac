package mask

import (
	"regexp"
	"strings"
)

// keyIn matches keys in a line of YAML, in block and flow style.
var keyIn = regexp.MustCompile(`["']?([A-Za-z0-9_.-]+)["']?[ \t]*:(?:[ \t]|$)`)

// Lines returns the lines of a config, valid YAML or not, with secrets masked: the
// value of a secret key, and all lines beneath it that are indented deeper.
func Lines(config string) []string {
	lines := strings.Split(config, "\n")
	below := -1 // indentation of the secret key that the lines belong to
	for i, l := range lines {
		indent := len(l) - len(strings.TrimLeft(l, " \t-"))
		if below >= 0 && (indent > below || strings.TrimSpace(l) == "") {
			if strings.TrimSpace(l) != "" {
				lines[i] = l[:indent] + Mark
			}
			continue
		}
		below = -1
		lines[i] = Text(l)
		for _, at := range keyIn.FindAllStringSubmatchIndex(l, -1) {
			if !Secret(l[at[2]:at[3]]) {
				continue
			}
			if value := strings.TrimSpace(l[at[1]:]); value != "" && value[0] != '|' && value[0] != '>' {
				lines[i] = l[:at[1]] + Mark
			}
			below = len(l) - len(strings.TrimLeft(l, " \t-"))
			break
		}
	}
	return lines
}
