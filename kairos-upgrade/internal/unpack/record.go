package unpack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/kairos-io/toolkit/lib/atomicfile"
	"github.com/kairos-io/toolkit/lib/bounded"
)

// record says which images a directory holds.
type record struct {
	Images []Unpacked `json:"images"`
}

// maxRecord bounds the record, in bytes.
const maxRecord = 1 << 20

func readRecord(dir *os.Root) (r record, err error) {
	data, err := bounded.In(dir, recordName, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read %s: %w", recordName, err)
	}
	return r, nil
}

func (r record) index(source, architecture string) int {
	return slices.IndexFunc(r.Images, func(u Unpacked) bool { return u.Source == source && u.Architecture == architecture })
}

func (r record) find(source, architecture string) *Unpacked {
	if i := r.index(source, architecture); i >= 0 {
		return &r.Images[i]
	}
	return nil
}

func (r record) without(source, architecture string) record {
	if i := r.index(source, architecture); i >= 0 {
		r.Images = slices.Delete(slices.Clone(r.Images), i, i+1)
	}
	return r
}

func (r record) with(u Unpacked) record {
	r = r.without(u.Source, u.Architecture)
	r.Images = append(slices.Clone(r.Images), u)
	return r
}

func (r record) write(dir *os.Root) error {
	return atomicfile.WriteJSON(dir, recordName, r, 0o644)
}
