package account

import (
	"os/exec"
	"strings"
	"testing"
)

// TestHash compares with crypt(3), by Perl.
func TestHash(t *testing.T) {
	made, err := hash("hunter2", "")
	if err != nil || !strings.HasPrefix(made, "$y$j9T$") {
		t.Fatal(made, err)
	}
	if again, err := hash("hunter2", made); err != nil || again != made {
		t.Errorf("the same password has another hash: %s, %s, %v", made, again, err)
	}
	if other, err := hash("hunter3", made); err != nil || other == made {
		t.Errorf("another password has the same hash: %v", err)
	}
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip("needs perl to ask crypt(3):", err)
	}
	out, err := exec.Command(perl, "-e", "print crypt($ARGV[0], $ARGV[1])", "hunter2", made).Output()
	if err != nil || string(out) != made {
		t.Errorf("crypt(3) says %q, %v; the hash is %q", out, err, made)
	}
}

func TestHashed(t *testing.T) {
	for password, want := range map[string]bool{
		"": true, "!": true, "*": true, "!!": true, "!*": true, "$6$salt$hash": true, "!$y$j9T$salt$hash": true,
		"kairos": false, "$100": false, "!important": false, "a$b$c$d": false,
	} {
		if hashed(password) != want {
			t.Errorf("%q", password)
		}
	}
}
