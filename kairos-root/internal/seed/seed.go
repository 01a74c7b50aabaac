package seed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// tempPrefix is the prefix of directories that are being filled.
const tempPrefix = ".#"

// Seeder creates directories of a node and fills them from an image.
type Seeder struct {
	Image *os.Root // root of the image
	Node  *os.Root // file system of the node
}

// Dir creates the directory state on the node unless it exists. A new one gets owner,
// mode and attributes of the image's directory like ("" or a missing one: none) and,
// with fill, a copy of its content. It appears as a whole or not at all: after a power
// cut the next call removes the incomplete copy. The result says whether it was created
// now.
func (s Seeder) Dir(state, like string, fill bool) (made bool, err error) {
	info, err := s.Node.Lstat(state)
	switch {
	case err == nil && !info.IsDir():
		return false, fmt.Errorf("make %s: exists and is not a directory", state)
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("make %s: %w", state, err)
	}
	if err := s.make(state, like, fill); err != nil {
		return false, fmt.Errorf("make %s from the image's /%s: %w", state, like, err)
	}
	return true, nil
}

func (s Seeder) make(state, like string, fill bool) error {
	if err := s.Node.MkdirAll(path.Dir(state), 0o755); err != nil {
		return err
	}
	temp := path.Join(path.Dir(state), tempPrefix+path.Base(state))
	if err := s.Node.RemoveAll(temp); err != nil {
		return err
	}
	c := &copier{from: s.Image, to: s.Node, links: map[inode]string{}}
	if err := s.content(c, temp, like, fill); err != nil {
		return errors.Join(err, s.Node.RemoveAll(temp))
	}
	// The file system keeps the order of its own changes, but the content of
	// files may reach the disk after the rename. A rename that is lost is done
	// again at the next boot.
	if fill {
		if err := s.sync(); err != nil {
			return err
		}
	}
	return s.Node.Rename(temp, state)
}

func (s Seeder) content(c *copier, temp, like string, fill bool) error {
	_, err := s.Image.Lstat(like)
	switch {
	case like == "" || errors.Is(err, fs.ErrNotExist):
		return s.Node.Mkdir(temp, 0o755)
	case err != nil:
		return err
	case fill:
		return c.tree(like, temp)
	}
	st, err := c.stat(like)
	if err != nil {
		return err
	}
	if err := s.Node.Mkdir(temp, 0o700); err != nil {
		return err
	}
	return c.metadata(like, temp, st)
}

// Complete adds entries of the image's directory like that the node's directory state
// lacks: directories at any depth, and links and files in the directory itself. It
// changes no existing entry, and skips directories in except.
func (s Seeder) Complete(state, like string, except []string) error {
	c := &copier{from: s.Image, to: s.Node, links: map[inode]string{}}
	if err := s.complete(c, state, like, except, true); err != nil {
		return fmt.Errorf("complete %s from the image's /%s: %w", state, like, err)
	}
	return nil
}

func (s Seeder) complete(c *copier, state, like string, except []string, top bool) error {
	dir, err := s.Image.Open(like)
	if err != nil {
		return err
	}
	entries, err := dir.ReadDir(-1)
	dir.Close()
	if err != nil {
		return err
	}
	for _, e := range entries {
		to, from := path.Join(state, e.Name()), path.Join(like, e.Name())
		if contains(except, from) || !e.IsDir() && !top {
			continue
		}
		info, err := s.Node.Lstat(to)
		switch {
		case err == nil && info.IsDir() && e.IsDir():
			err = s.complete(c, to, from, except, false)
		case errors.Is(err, fs.ErrNotExist) && e.IsDir():
			if _, err = s.Dir(to, from, false); err == nil {
				err = s.complete(c, to, from, except, false)
			}
		case errors.Is(err, fs.ErrNotExist):
			st, serr := c.stat(from)
			if serr != nil {
				return serr
			}
			err = c.entry(from, to, st.Dev)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// sync writes changes of the node's file system to the disk.
func (s Seeder) sync() error {
	dir, err := s.Node.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}
