package main

import "testing"

func TestApplyNowIsAnActionOfItsOwn(t *testing.T) {
	for now, want := range map[string]int{"true": 1, "1": 1, "false": 0} {
		if have := widensApply(map[string]string{"now": now}); len(have) != want {
			t.Errorf("now: %s: %v", now, have)
		}
	}
	if have := widensApply(map[string]string{}); have != nil {
		t.Errorf("without now: %v", have)
	}
}
