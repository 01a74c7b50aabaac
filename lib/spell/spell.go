// Package spell finds what a mistyped word was meant to be.
package spell

import "strings"

// Closest returns the candidate that a word is most likely a slip of, or ""
// when none is near. Upper and lower case, and dashes and underscores, count
// as equal.
func Closest(word string, candidates []string) string {
	word = fold(word)
	best, nearest := "", 1+max(1, min(2, len(word)/3))
	for _, c := range candidates {
		if d := Distance(word, fold(c)); d < nearest {
			best, nearest = c, d
		}
	}
	return best
}

func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }

// Distance is the number of bytes to insert, delete or replace to make b of a
// (Levenshtein).
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
