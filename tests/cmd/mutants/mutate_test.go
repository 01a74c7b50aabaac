package main

import (
	"go/parser"
	"go/token"
	"slices"
	"testing"
)

func TestMutants(t *testing.T) {
	const text = `package p

func f(a, b int, s string) (bool, error) {
	if a < b && s+"x" == "yx" {
		return true, nil
	}
	for range a {
		if err := g(); err != nil {
			return false, err
		}
		continue
	}
	return a-1 == 0, nil
}
`
	all, err := mutants("p", "p.go", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, m := range all {
		keys = append(keys, m.old()+" → "+m.with)
		if _, err := parser.ParseFile(token.NewFileSet(), "p.go", m.changed(), 0); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
	want := []string{
		`a < b && s+"x" == "yx" → !(a < b && s+"x" == "yx")`, "&& → ||", "< → <=", "== → !=", "true → false",
		"err != nil → !(err != nil)", "!= → ==", "false → true", "err → error(nil)", "continue → break",
		"== → !=", "- → +",
	}
	slices.Sort(keys)
	slices.Sort(want)
	if !slices.Equal(keys, want) {
		t.Errorf("mutants:\n%q\nwant\n%q", keys, want)
	}
}
