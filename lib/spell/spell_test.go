package spell

import "testing"

func TestClosest(t *testing.T) {
	candidates := []string{"hostname", "users", "files", "if", "if_files", "k3s", "k0s", "bind-pcrs"}
	for word, want := range map[string]string{
		"hostnam": "hostname", "Hostname": "hostname", "hostnmae": "hostname", "user": "users", "fils": "files", "file": "files",
		"bind_pcrs": "bind-pcrs", "if-files": "if_files", "fi": "if", "k3s": "k3s", "k8s": "k3s",
		"my-provider": "", "hosts": "", "": "", "x": "",
	} {
		if got := Closest(word, candidates); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"same", "same", 0}, {"ab", "ba", 1}, {"azuer", "azure", 1}, {"ca", "abc", 3}} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("%s, %s: got %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
