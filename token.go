package belay

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
)

// TokenOf identifies a set of names; it is what a confirmation in Git repeats. It
// has four characters for each, in which it differs from a digest of them all:
// what has been deleted cannot be named any more, and the token must fit what is
// left of its set when a deletion was interrupted, without anybody having
// remembered the set.
func TokenOf(names []string) string {
	marks := make([]string, len(names))
	for i, n := range names {
		marks[i] = mark(n)
	}
	slices.Sort(marks)
	return strings.Join(slices.Compact(marks), "")
}

// mark stands for a name. That an object which nobody confirmed has the mark of
// one of a hundred others happens once in five thousand times. Letters only, so
// that YAML takes a token for a string, quoted or not.
func mark(name string) string {
	sum := sha256.Sum256([]byte(name))
	n := binary.BigEndian.Uint32(sum[:])
	var m [markLength]byte
	for i := range m {
		m[i] = byte('a' + n%26)
		n /= 26
	}
	return string(m[:])
}

const markLength = 4

// TokenCovers tells whether a token confirms the set of names: the set that it
// was made of, or what is left of it. White space in the token does not matter:
// YAML folds long strings.
func TokenCovers(token string, names []string) bool {
	token = strings.Join(strings.Fields(token), "")
	if token == "" || len(token)%markLength != 0 {
		return false
	}
	marks := map[string]bool{}
	for m := range slices.Chunk([]byte(token), markLength) {
		marks[string(m)] = true
	}
	return !slices.ContainsFunc(names, func(n string) bool { return !marks[mark(n)] })
}
