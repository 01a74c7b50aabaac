package secret

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quietZone is the margin around a QR code, in modules (ISO/IEC 18004).
const quietZone = 4

// QR returns a text as a QR code for a terminal with a dark background: each line of
// half blocks shows two rows of modules. It is drawn light on dark; terminals with a
// light background invert it, and most readers accept both.
func QR(text []byte) ([]byte, error) {
	code, err := qr.Encode(string(text), qr.M)
	if err != nil {
		return nil, fmt.Errorf("QR code: %w", err)
	}
	var drawn strings.Builder
	light := func(x, y int) bool { return y < code.Size+quietZone && !code.Black(x, y) }
	for y := -quietZone; y < code.Size+quietZone; y += 2 {
		for x := -quietZone; x < code.Size+quietZone; x++ {
			switch upper, lower := light(x, y), light(x, y+1); {
			case upper && lower:
				drawn.WriteRune('█')
			case upper:
				drawn.WriteRune('▀')
			case lower:
				drawn.WriteRune('▄')
			default:
				drawn.WriteByte(' ')
			}
		}
		drawn.WriteByte('\n')
	}
	return []byte(drawn.String()), nil
}
