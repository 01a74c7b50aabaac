package image

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kairos-io/toolkit/lib/exit"
	"github.com/kairos-io/toolkit/lib/mount"
)

// Overlay describes an overlay file system. All directories are paths.
type Overlay struct {
	Lower   []string // lower layers, the uppermost first
	Objects string   // directory of redirected contents; "" where Lower redirects nothing
	Verity  bool     // files without a digest are an error
	Upper   string   // directory of changes; "" for a read-only overlay
	Work    string   // an empty directory beside Upper
}

// Create creates the overlay with the mount attributes attr.
//
// Over a composefs image (Objects is set) it enables metadata-only copies and
// redirects, of which the image consists. Over plain directories it disables them, so
// that the lower directories may change between two mounts
// (Documentation/filesystems/overlayfs.rst, "Changes to underlying filesystems"): the
// next image has other files under the same upper layer.
func (o Overlay) Create(attr int) (*mount.Tree, error) {
	// Appending to the lower layers one by one came with Linux 6.7.
	t, err := o.fileSystem(attr, o.appended()).Create()
	var option *mount.OptionError
	if errors.As(err, &option) && errors.Is(err, unix.EINVAL) && strings.HasSuffix(option.Option.Key, "dir+") {
		t, err = o.fileSystem(attr, o.joined()).Create()
	}
	if errors.Is(err, unix.EINVAL) && o.Objects != "" {
		err = exit.Hint(err, "data-only layers need Linux 6.5, verity needs 6.6: check the version of the kernel")
	}
	return t, err
}

func (o Overlay) fileSystem(attr int, lower []mount.Option) mount.FileSystem {
	options := []mount.Option{{Key: "source", Value: "kairos"}, {Key: "index", Value: "off"}, {Key: "xino", Value: "off"}}
	if o.Objects != "" {
		options = append(options, mount.Option{Key: "metacopy", Value: "on"}, mount.Option{Key: "redirect_dir", Value: "on"})
	} else {
		options = append(options, mount.Option{Key: "metacopy", Value: "off"}, mount.Option{Key: "redirect_dir", Value: "off"})
	}
	if o.Objects != "" && o.Verity {
		options = append(options, mount.Option{Key: "verity", Value: "require"})
	}
	options = append(options, lower...)
	if o.Upper != "" {
		options = append(options, mount.Option{Key: "upperdir", Value: o.Upper}, mount.Option{Key: "workdir", Value: o.Work})
	}
	return mount.FileSystem{Type: "overlay", Options: options, Attr: attr}
}

// appended passes the lower layers one by one.
func (o Overlay) appended() []mount.Option {
	var options []mount.Option
	for _, dir := range o.Lower {
		options = append(options, mount.Option{Key: "lowerdir+", Value: dir})
	}
	if o.Objects != "" {
		options = append(options, mount.Option{Key: "datadir+", Value: o.Objects})
	}
	return options
}

// joined passes the lower layers as one string: ":" between layers, "::" before a layer
// with data only.
func (o Overlay) joined() []mount.Option {
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`)
	var all strings.Builder
	for i, dir := range o.Lower {
		if i > 0 {
			all.WriteByte(':')
		}
		all.WriteString(escape.Replace(dir))
	}
	if o.Objects != "" {
		all.WriteString("::" + escape.Replace(o.Objects))
	}
	return []mount.Option{{Key: "lowerdir", Value: all.String()}}
}
