package stage

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/rootfs"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
	"github.com/kairos-io/toolkit/lib/bounded"
)

// maxContent bounds a file's content after decompression, in bytes.
const maxContent = 64 << 20

func (r *run) directories(context.Context) {
	for _, d := range r.step.Spec.Directories {
		attr, err := r.attr(d.Permissions, d.Owner, d.Group, "")
		if err != nil {
			r.fail(fmt.Errorf("directory %s: %w", d.Path, err))
			continue
		}
		made, err := r.Root.Mkdir(d.Path, attr)
		r.fail(err)
		if made {
			r.changed(d.Path)
		}
	}
}

func (r *run) files(context.Context) {
	for _, f := range r.step.Spec.Files {
		wrote, err := r.file(f)
		if err != nil {
			r.fail(fmt.Errorf("file %s: %w", f.Path, err))
		}
		if wrote {
			r.changed(f.Path)
		}
	}
}

func (r *run) file(f schema.File) (changed bool, err error) {
	content, err := decodeContent(f.Content, f.Encoding)
	if err != nil {
		return false, err
	}
	if f.Encoding != "" && f.Encoding != "text/plain" { // others are filled already
		var problems diag.List
		content, problems = r.step.templates.Content(content, f.Pos)
		r.report(problems)
		if problems.Failed() {
			return false, errors.New("not written: its template fails")
		}
	}
	attr, err := r.attr(f.Permissions, f.Owner, f.Group, f.OwnerString)
	if errors.Is(err, errNobody) {
		return r.fileOfNobody(f, content, err)
	}
	if err != nil {
		return false, err
	}
	return r.put(f, content, attr)
}

// put writes a file, or what it lacks behind what it has.
func (r *run) put(f schema.File, content []byte, attr rootfs.Attr) (changed bool, err error) {
	if !f.Append {
		return r.write(f.Path, content, attr)
	}
	if err := r.Root.MakeParents(f.Path); err != nil {
		return false, err
	}
	return r.Root.Edit(f.Path, maxContent, attr, func(old []byte, attr *rootfs.Attr) ([]byte, error) {
		data := appended(old, content)
		return data, r.private(f.Path, data, attr)
	})
}

// appended returns what a file has and the content behind it, once.
func appended(old, content []byte) []byte {
	if i := bytes.Index(old, content); len(old) > 0 && (i == 0 || i > 0 && old[i-1] == '\n') {
		return old
	}
	return slices.Concat(old, content)
}

// fileOfNobody writes a file whose owner there isn't yet: users are made behind
// files, in this step or in a later one. Until then the file is root's, and
// nobody else can read what was not for everybody.
func (r *run) fileOfNobody(f schema.File, content []byte, nobody error) (changed bool, err error) {
	attr := rootfs.KeepAll
	if f.Permissions.Set {
		attr.Mode = f.Permissions.Bits
	}
	if attr.Mode != rootfs.Keep && attr.Mode&0o007 == 0 {
		attr.Mode &= 0o600
	}
	if changed, err = r.put(f, content, attr); err != nil {
		return changed, err
	}
	if !r.toCome(f.Owner, f.Group, f.OwnerString) {
		return changed, fmt.Errorf("it is root's: %w", nobody)
	}
	r.ownersLater = append(r.ownersLater, f)
	return changed, nil
}

// accountsAndOwners makes accounts and gives them the files that waited for them.
func (r *run) accountsAndOwners(ctx context.Context) {
	r.accounts(ctx)
	r.lateOwners()
}

// lateOwners gives files to the users that this step has made.
func (r *run) lateOwners() {
	for _, f := range r.ownersLater {
		attr, err := r.attr(f.Permissions, f.Owner, f.Group, f.OwnerString)
		if err == nil {
			_, err = r.Root.Chattr(f.Path, attr)
		}
		if err != nil {
			r.fail(fmt.Errorf("file %s: %w", f.Path, err))
		}
	}
	r.ownersLater = nil
}

// write writes a file and makes the directories above it. A credential in it
// makes it one for its owner's eyes.
func (r *run) write(name string, content []byte, attr rootfs.Attr) (changed bool, err error) {
	if err := r.private(name, content, &attr); err != nil {
		return false, err
	}
	if err := r.Root.MakeParents(name); err != nil {
		return false, err
	}
	return r.Root.WriteFile(name, content, attr)
}

// private makes a file that holds a credential one for its owner's eyes.
func (r *run) private(name string, content []byte, attr *rootfs.Attr) (err error) {
	if r.step.Secrets.In(string(content)) {
		attr.Mode, err = r.privateMode(name, attr.Mode)
	}
	return err
}

// privateMode returns the mode of a file that holds a credential, 0600 for a
// new one, or an error when everybody could read it.
func (r *run) privateMode(name string, mode int) (int, error) {
	if mode == rootfs.Keep {
		st, err := r.Root.Stat(name)
		if err != nil {
			return 0o600, nil
		}
		mode = int(st.Mode & 0o7777)
	}
	if mode&0o007 != 0 {
		return 0, fmt.Errorf("it contains a credential, and everybody could read it (%04o): set permissions to 0600 or 0640", mode)
	}
	return mode, nil
}

// attr returns what a file or directory is given. What a step leaves open is
// kept, or is 0644 (0755) and root's for what is new; Kairos gives such files
// mode 0.
func (r *run) attr(mode schema.Mode, owner, group schema.Owner, ownerString string) (rootfs.Attr, error) {
	attr := rootfs.KeepAll
	if mode.Set {
		attr.Mode = mode.Bits
	}
	var err error
	attr.UID, attr.GID, err = r.owners(owner, group, ownerString)
	return attr, err
}

// decodeContent undoes a file's encoding: base64 (b64), gzip (gz), or gzip
// within base64.
func decodeContent(content, encoding string) ([]byte, error) {
	data := []byte(content)
	compressed := strings.HasPrefix(encoding, "gz")
	if strings.HasSuffix(encoding, "b64") || strings.HasSuffix(encoding, "base64") {
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(content), ""))
		if err != nil {
			return nil, fmt.Errorf("decode content: %w", err)
		}
		data = raw
	}
	if !compressed {
		return data, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decompress content: %w", err)
	}
	if data, err = bounded.Read(z, maxContent); err != nil {
		return nil, fmt.Errorf("decompress content: %w", err)
	}
	return data, nil
}
