// Package spell suggests corrections for mistyped words.
package spell

import "strings"

// Closest returns the candidate that is most similar to a word, or "" when none is
// similar. It ignores case and the difference between dashes and underscores.
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

// Distance returns the number of bytes to insert, delete or replace, and of neighbours
// to swap, that turns a into b (Damerau-Levenshtein distance, optimal string
// alignment).
func Distance(a, b string) int {
	var before []int // the row above the one above
	above := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := above[j-1]
			if a[i-1] != b[j-1] {
				cost++
			}
			row[j] = min(cost, above[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}
