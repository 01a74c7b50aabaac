// Package settings reads the key "reset" of a node's cloud-config, in Kairos' format.
package settings

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-reset/internal/request"
	"github.com/kairos-io/toolkit/lib/nodeconfig"
	"github.com/kairos-io/toolkit/lib/run"
)

// document is the key "reset" as Kairos defines it.
type document struct {
	Persistent *bool `json:"reset-persistent"`
	OEM        bool  `json:"reset-oem"`
	Reboot     bool  `json:"reboot"` // without effect: a reset always reboots, unless it powers off
	Poweroff   bool  `json:"poweroff"`
	System     struct {
		Source string `json:"source"`
		URI    string `json:"uri"` // its old name
	} `json:"system"`
	Title string `json:"grub-entry-name"`
}

// used are the keys that have an effect.
var used = []string{"reset-persistent", "reset-oem", "reboot", "poweroff", "system", "grub-entry-name"}

// Load gets the key "reset" from kairos-config, and returns the request for it, and the
// keys that have no effect. Without a config, or without kairos-config, nothing is set.
// An unreadable config is an error: it may say what must not be erased.
func Load(ctx context.Context, r run.Runner) (request.Request, []string, error) {
	out, err := nodeconfig.Get(ctx, r, nil, "reset")
	if err != nil {
		return request.Request{}, nil, err
	}
	parsed, ignored, err := Parse(out)
	if err != nil {
		err = fmt.Errorf("read the node's config: %w", err)
	}
	return parsed, ignored, err
}

// Title returns the configured title of the deployment after a reset, "" where none is
// set.
func Title(ctx context.Context, r run.Runner) string {
	out, err := nodeconfig.Get(ctx, r, nil, "reset")
	var doc document
	if err != nil || json.Unmarshal(out, &doc) != nil {
		return "" // what the reset is to do has been read when it was asked for
	}
	return doc.Title
}

// Parse reads the value of "reset" as JSON.
func Parse(data []byte) (r request.Request, ignored []string, err error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || string(data) == "null" {
		return r, nil, nil
	}
	var doc document
	var keys map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(data, &doc), json.Unmarshal(data, &keys)); err != nil {
		return r, nil, fmt.Errorf("reset: %w", err)
	}
	for key := range keys {
		if !slices.Contains(used, key) {
			ignored = append(ignored, "reset."+key)
		}
	}
	slices.Sort(ignored)
	r = request.Request{
		OEM: doc.OEM, KeepPersistent: doc.Persistent != nil && !*doc.Persistent,
		PowerOff: doc.Poweroff && !doc.Reboot, Image: cmp.Or(doc.System.Source, doc.System.URI),
	}
	// The one spelling of a source that kairos-upgrade does not know.
	if rest, ok := strings.CutPrefix(r.Image, "ocifile:"); ok {
		r.Image = "file:" + strings.TrimPrefix(rest, "//")
	}
	if err := request.CheckImage(r.Image); err != nil {
		return r, ignored, fmt.Errorf("reset.system: %w", err)
	}
	return r, ignored, nil
}
