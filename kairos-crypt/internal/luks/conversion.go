package luks

import "slices"

// Conversion reports whether a volume is being encrypted, decrypted or reencrypted in
// place.
func (m *Metadata) Conversion() bool {
	return slices.ContainsFunc(m.Requirements, func(r string) bool { return r == "online-reencrypt" || r == "online-reencrypt-v2" })
}
