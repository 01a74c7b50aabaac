package luks

import "slices"

// Conversion says whether a volume is being encrypted, decrypted or reencrypted
// in place, and is not at its end.
func (m *Metadata) Conversion() bool {
	return slices.ContainsFunc(m.Requirements, func(r string) bool { return r == "online-reencrypt" || r == "online-reencrypt-v2" })
}
