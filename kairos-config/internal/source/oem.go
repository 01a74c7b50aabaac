package source

import (
	"slices"

	"github.com/kairos-io/toolkit/kairos-config/internal/generation"
)

// OEM selects the configs on COS_OEM: those of a generation, nil for the plain ones,
// with a change that isn't stored yet.
type OEM struct {
	Generation *generation.Generation
	Put        map[string][]byte // by file name
	Remove     []string
}

// names returns the paths of the configs, of those that are there as plain
// files.
func (o OEM) names(plain []string) []string {
	if len(o.Put)+len(o.Remove) == 0 {
		return o.Generation.Overlay(plain)
	}
	// What it would be like: the changed ones as if they were plain.
	var next generation.Generation
	if o.Generation != nil {
		next = *o.Generation
	}
	next.Removed = append(slices.Clone(next.Removed), o.Remove...)
	next.Files = slices.DeleteFunc(slices.Clone(next.Files), func(f generation.File) bool {
		_, put := o.Put[f.Name]
		return put || slices.Contains(o.Remove, f.Name)
	})
	next.Removed = slices.DeleteFunc(next.Removed, func(name string) bool { _, put := o.Put[name]; return put })
	for name := range o.Put {
		if file := generation.OEM + "/" + name; !slices.Contains(plain, file) {
			plain = append(plain, file)
		}
	}
	return next.Overlay(plain)
}
