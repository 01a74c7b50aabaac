package datasource

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Files of the firmware's tables beneath /sys/class/dmi/id, SMBIOS types 0 to 3.
const (
	vendor  = "sys_vendor"
	product = "product_name"
	bios    = "bios_vendor"
	chassis = "chassis_asset_tag"
)

// mark is a text in one of the firmware's files by which a cloud is recognized.
type mark struct{ file, text string }

// platforms are the marks of clouds, as in cloud-init's ds-identify. A service whose
// address anybody on the network may claim is used only where one of its marks is
// present.
var platforms = map[string][]mark{
	"aws":          {{vendor, "Amazon EC2"}, {bios, "Amazon EC2"}},
	"azure":        {{chassis, "7783-7084-3265-9085-8269-3286-77"}},
	"digitalocean": {{vendor, "DigitalOcean"}},
	"gcp":          {{product, "Google Compute Engine"}, {vendor, "Google"}},
	"hetzner":      {{vendor, "Hetzner"}},
	"metaldata":    nil,
	"openstack": {
		{product, "OpenStack Nova"}, {product, "OpenStack Compute"}, {vendor, "OpenStack Foundation"},
		{chassis, "OpenTelekomCloud"}, {chassis, "SAP CCloud VM"}, {chassis, "HUAWEICLOUD"}, {chassis, "Samsung Cloud Platform"},
	},
	"packet":   nil,
	"scaleway": {{vendor, "Scaleway"}},
	"vultr":    {{vendor, "Vultr"}},
}

// errElsewhere says that a service is not asked, since the machine doesn't run on its
// platform.
var errElsewhere = errors.New("not asked: any_platform: true in the datasource allows it")

// vouched returns nil if the firmware says that the machine runs on a provider's
// platform, otherwise why the service is not asked.
func (s *session) vouched() (bool, error) {
	marks, remote := platforms[s.name]
	if !remote {
		return false, nil
	}
	for _, m := range marks {
		text, err := s.Root.ReadFile(path.Join("/sys/class/dmi/id", m.file), 4096)
		if err == nil && strings.TrimSpace(string(text)) == m.text {
			return true, nil
		}
	}
	switch {
	case s.AnyPlatform:
		return false, nil
	case len(marks) == 0:
		return false, fmt.Errorf("the firmware never names this platform: %w", errElsewhere)
	}
	return false, fmt.Errorf("the firmware does not name this platform: %w", errElsewhere)
}
