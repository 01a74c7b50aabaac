package source

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/lib/exit"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Whoever pulls the wrong image reads which platforms there are, and which one is
// wanted.
func TestPlatformMessages(t *testing.T) {
	o := opener{opts: Options{Architecture: "amd64"}}
	for want, p := range map[string]imgspecv1.Platform{
		"for linux/arm/v7, not for linux/amd64":   {OS: "linux", Architecture: "arm", Variant: "v7"},
		"for windows/amd64, not for linux/amd64":  {OS: "windows", Architecture: "amd64"},
		"for linux/riscv64, not for linux/amd64":  {Architecture: "riscv64"},
		"does not name its architecture":          {OS: "linux"},
		"for windows/unknown, not for":            {OS: "windows"},
		"for linux/x86_64, not for linux/amd64":   {OS: "linux", Architecture: "x86_64"},
		"for freebsd/arm64/v8, not for linux/amd": {OS: "freebsd", Architecture: "arm64", Variant: "v8"},
	} {
		err := o.checkPlatform(&imgspecv1.Image{Platform: p})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(exit.HintOf(err)+err.Error(), "architecture") {
			t.Errorf("%+v: %v, want %q (hint: %s)", p, err, want, exit.HintOf(err))
		}
	}
	for want, platforms := range map[string][]string{
		"no image for linux/amd64, only for linux/arm/v7, linux/arm/v6, linux/arm64/v8": {
			`"os":"linux","architecture":"arm","variant":"v7"`, `"os":"linux","architecture":"arm","variant":"v6"`, `"os":"linux","architecture":"arm64","variant":"v8"`},
		"no image for linux/amd64, only for windows/amd64":     {`"os":"windows","architecture":"amd64"`, `"os":"windows","architecture":"amd64","os.version":"2"`},
		"no image for linux/amd64, only for linux/amd64/v3":    {`"os":"linux","architecture":"amd64","variant":"v3"`},
		"no image for linux/amd64, only for linux/arm64":       {`"os":"linux","architecture":"arm64"`, `"os":"unknown","architecture":"unknown"`, ``},
		"no image for linux/amd64, the list names no platform": {``, `"os":"unknown","architecture":"unknown"`},
	} {
		var list []string
		for _, p := range platforms {
			list = append(list, fmt.Sprintf(`{"platform":{%s}}`, p))
		}
		raw := fmt.Sprintf(`{"manifests":[%s]}`, strings.Join(list, ","))
		if err := noInstance([]byte(raw), "amd64", errors.New("none")); err.Error() != want {
			t.Errorf("%s: %v, want %q", raw, err, want)
		}
	}
}
