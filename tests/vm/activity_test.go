package vm

import (
	"errors"
	"io"
	"net"
	"os/exec"
	"testing"
	"time"
)

// TestWatchdog goes through machines that must be given up, and others that must not.
func TestWatchdog(t *testing.T) {
	sampling := machinePatience.sample
	hour := int(time.Hour / sampling)
	tests := []struct {
		name    string
		samples int
		next    func(i int, a *activity) // what changes from one sample to the next
		stalls  time.Duration            // when it is given up; 0: never
	}{
		{"stands still", hour, func(int, *activity) {}, machinePatience.idle},
		{"only its timers run", hour, func(_ int, a *activity) { a.CPU += sampling / 20 }, machinePatience.idle},
		{"an endless loop", hour, func(_ int, a *activity) { a.CPU += 2 * sampling }, machinePatience.spin / 2},
		{"a busy host gives it nothing", hour, func(_ int, a *activity) { a.Wanting = true }, 0},
		{"a busy host gives it little", hour, func(_ int, a *activity) { a.CPU += sampling / 8 }, 0},
		{"says something every three minutes", hour, func(i int, a *activity) {
			if i%36 == 0 {
				a.Signs++
			}
		}, 0},
		{"computes, and writes every six minutes", hour, func(i int, a *activity) {
			a.CPU += 2 * sampling
			if i%72 == 0 {
				a.Signs++
			}
		}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dog := watchdog{patience: machinePatience}
			var now activity
			var passed, gaveUp time.Duration
			for i := range test.samples {
				test.next(i, &now)
				passed += sampling
				if err := dog.take(sampling, now); err != nil {
					if !errors.Is(err, ErrStalled) {
						t.Fatal(err)
					}
					gaveUp = passed
					break
				}
			}
			if gaveUp != test.stalls {
				t.Errorf("given up after %s, want %s (0 is never)", gaveUp, test.stalls)
			}
		})
	}
}

// TestWatchdogSuspended lets the whole host stand still for an hour: it is one sample, and no reason.
func TestWatchdogSuspended(t *testing.T) {
	dog := watchdog{patience: machinePatience}
	if err := dog.take(time.Hour, activity{}); err != nil {
		t.Error(err)
	}
}

// TestNews tells what says something from what only shows that systemd waits.
func TestNews(t *testing.T) {
	for text, want := range map[string]bool{
		"":                         false,
		"\n":                       false,
		"[  OK  ] Reached target":  true,
		"[    1.234567] usb 1-1\n": true,
		"\x1bM\r\x1b[K[ \x1b[0;31m*\x1b[0;1;31m*\x1b[0m\x1b[0;31m*\x1b[0m  ] Job dev-x.device/start running (5s / no limit)\r\n": false,
		"[ *":                          false,
		"[ ***  ] A start job\n[ OK ]": true,
		"login: ":                      true,
	} {
		if got := news([]byte(text)); got != want {
			t.Errorf("%q says something: %t, want %t", text, got, want)
		}
	}
}

// TestConsoleSigns counts what a console said, in pieces as they come.
func TestConsoleSigns(t *testing.T) {
	host, device := net.Pipe()
	c := newConsole()
	done := make(chan struct{})
	go func() { defer close(done); c.follow(host, func([]byte) {}) }()
	for _, text := range []string{"[ **", "*  ] A start job is running (1s / no limit)\r\n", "[  ***", " ] A start job is running (2s / no limit)\r\n"} {
		io.WriteString(device, text)
	}
	io.WriteString(device, "[  OK  ] Done.\r\n")
	device.Close()
	<-done
	if c.signs() != 1 {
		t.Errorf("%d pieces said something, want 1", c.signs())
	}
}

// TestRunToEnd gives up programs that stand still or turn in circles, and lets another one end that says
// something now and then.
func TestRunToEnd(t *testing.T) {
	impatient := patience{sample: 10 * time.Millisecond, idle: 300 * time.Millisecond, spin: 300 * time.Millisecond}
	for script, want := range map[string]error{
		"echo begin; exec sleep 1000":                                               ErrStalled,
		"echo begin; while :; do :; done":                                           ErrStalled,
		"printf 'KVM inter'; printf 'nal error. Suberror: 1\n'; exec sleep 1000":    errInternal,
		"exec 3<> <(:); for i in {1..20}; do echo $i; read -t 0.05 <&3; done; true": nil,
	} {
		said, err := untilStill(t.Context(), exec.Command("bash", "-c", script), impatient)
		if !errors.Is(err, want) || said == "" {
			t.Errorf("%s: got %v, want %v; it said %q", script, err, want, said)
		}
	}
}

// TestProcessors reads what the kernel says of a process that computes, and of one that waits.
func TestProcessors(t *testing.T) {
	for script, busy := range map[string]bool{"while :; do :; done": true, "read line": false} {
		cmd := exec.Command("bash", "-c", script)
		open, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for {
			used, wanting := processors(cmd.Process.Pid)
			if wanting == busy && (used >= 50*time.Millisecond) == busy {
				break
			}
		}
		open.Close()
		cmd.Process.Kill()
		cmd.Wait()
	}
	if used, wanting := processors(0); used != 0 || wanting {
		t.Errorf("no process: used %s, wants more: %t", used, wanting)
	}
}
