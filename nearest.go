package belay

import (
	"fmt"
	"strings"
)

// Nearest is the name that got was most likely meant to be, or "".
func Nearest(got string, names []string) string {
	if len(got) > 64 {
		return ""
	}
	low := strings.ToLower(got)
	best, bestDistance := "", 1+len(got)/3
	for _, c := range names {
		lc := strings.ToLower(c)
		d := distance(low, lc)
		if len(low) >= 3 && (strings.HasPrefix(lc, low) || len(lc) >= 3 && strings.HasPrefix(low, lc)) {
			d = min(d, 1)
		}
		if d < bestDistance || d == bestDistance && best == "" {
			best, bestDistance = c, d
		}
	}
	return best
}

// NoSuch is the error for something of a kind that there is none of, with the
// nearest of the names that there are. hint says what lists them.
func NoSuch(kind, name string, names []string, hint string) *Error {
	return &Error{Code: CodeNotFound, Message: fmt.Sprintf("there is no %s %q", kind, name) + DidYouMean(name, names), Hint: hint}
}

// DidYouMean ends a message about a name that there is none of; it is "" where no
// other is near.
func DidYouMean(name string, names []string) string {
	if near := Nearest(name, names); near != "" {
		return fmt.Sprintf(", did you mean %q?", near)
	}
	return ""
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours between two words.
func distance(a, b string) int {
	ra, rb := []rune(a), []rune(b)
	before, last, cur := make([]int, len(rb)+1), make([]int, len(rb)+1), make([]int, len(rb)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(ra); i++ {
		cur[0] = i
		for j := 1; j <= len(rb); j++ {
			cost := 1
			if ra[i-1] == rb[j-1] {
				cost = 0
			}
			cur[j] = min(last[j]+1, cur[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && ra[i-1] == rb[j-2] && ra[i-2] == rb[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, last, cur = last, cur, before
	}
	return last[len(rb)]
}
