package sops

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/getsops/sops/v3"

	"github.com/belaydev/belay"
)

// mark is what stands for an encrypted text. It follows from the ciphertext, so
// that it is the same on every machine and with or without keys: it ends up in
// names that Kustomize makes and in checksums of templates.
func mark(encrypted string) string { return belay.SealedPrefix + belay.Digest([]byte(encrypted)) }

// seal makes the text and the marks.
func (f *File) seal() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the library gave up on it (%T)", r)
		}
	}()
	for _, l := range leaves(f.tree.Branches) {
		m := ""
		if s, ok := l.(string); ok && value.MatchString(s) {
			m = mark(s)
			f.marks = append(f.marks, m)
		}
		f.leaves = append(f.leaves, m)
	}
	switch f.format {
	case formatBinary, formatINI: // they are only ever passed on as a whole
		m := mark(string(f.data))
		f.text, f.marks = []byte(m), []string{m}
		return nil
	case formatDotenv:
		f.text = dotenvLine.ReplaceAll(f.marked(f.data), nil)
		return nil
	case formatYAML:
		f.text = withoutMetadata(f.marked(f.data))
		if f.sound() {
			return nil
		}
	}
	return f.emit()
}

// dotenvLine is what SOPS adds to an env file.
var dotenvLine = regexp.MustCompile(`(?m)^sops_[^\n]*\n?`)

func (f *File) marked(data []byte) []byte {
	return value.ReplaceAllFunc(data, func(b []byte) []byte { return []byte(mark(string(b))) })
}

// withoutMetadata empties the lines of the top-level key sops in block style.
func withoutMetadata(data []byte) []byte {
	var out []byte
	inside := false
	for line := range bytes.Lines(data) {
		switch {
		case yamlMeta.Match(line):
			inside = true
		case inside && !bytes.ContainsAny(line[:1], " \t\r\n#"):
			inside = false
		}
		if !inside {
			out = append(out, line...)
		} else if bytes.HasSuffix(line, []byte("\n")) {
			out = append(out, '\n')
		}
	}
	return append(bytes.TrimRight(out, "\n"), '\n')
}

// sound reports whether the text has the values of the tree and no other.
func (f *File) sound() bool {
	branches, err := f.format.store().LoadPlainFile(f.text)
	if err != nil {
		return false
	}
	for _, b := range branches {
		if f.format.store().HasSopsTopLevelKey(b) {
			return false
		}
	}
	got, want := leaves(branches), leaves(f.tree.Branches)
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if m := f.leaves[i]; m != "" && got[i] != m || m == "" && !same(got[i], want[i]) {
			return false
		}
	}
	return true
}

func same(a, b any) bool {
	x, errX := sops.ToBytes(a)
	y, errY := sops.ToBytes(b)
	if errX != nil || errY != nil {
		return a == nil && b == nil
	}
	return bytes.Equal(x, y)
}

// emit writes the tree anew with the marks; lines are lost.
func (f *File) emit() (err error) {
	branches, ok := replace(f.tree.Branches, func(v any) any {
		if s, ok := v.(string); ok && value.MatchString(s) {
			return mark(s)
		}
		return v
	}).(sops.TreeBranches)
	if !ok {
		return errors.New("not a tree")
	}
	text, err := f.format.store().EmitPlainFile(branches)
	f.text = f.marked(text) // comments, too
	return err
}

// leaves are the values of a tree in the order in which SOPS walks it; a comment
// among the items of a list is one.
func leaves(v any) []any {
	var out []any
	walk(v, func(l any) { out = append(out, l) })
	return out
}

func walk(v any, leaf func(any)) {
	switch v := v.(type) {
	case sops.TreeBranches:
		for _, b := range v {
			walk(b, leaf)
		}
	case sops.TreeBranch:
		for _, it := range v {
			if _, comment := it.Key.(sops.Comment); !comment {
				walk(it.Value, leaf)
			}
		}
	case []any:
		for _, e := range v {
			walk(e, leaf)
		}
	default:
		leaf(v)
	}
}

// replace copies a tree with other leaves.
func replace(v any, leaf func(any) any) any {
	switch v := v.(type) {
	case sops.TreeBranches:
		out := make(sops.TreeBranches, len(v))
		for i, b := range v {
			out[i], _ = replace(b, leaf).(sops.TreeBranch) // it is one
		}
		return out
	case sops.TreeBranch:
		out := slices.Clone(v)
		for i := range out {
			if _, comment := out[i].Key.(sops.Comment); !comment {
				out[i].Value = replace(out[i].Value, leaf)
			}
		}
		return out
	case []any:
		out := slices.Clone(v)
		for i := range out {
			out[i] = replace(out[i], leaf)
		}
		return out
	}
	return leaf(v)
}
