package source

import (
	"testing"

	"github.com/belaydev/belay/internal/git"
)

// A ref of any spelling means a commit that is there, or is an error.
func FuzzResolveRef(f *testing.F) {
	for _, s := range []string{"", "main", "v1.0.0", "^1", ">=1 <2 || 3.x", "refs/heads/main", "abcdef1", "~>1.2.3-0", "*", "\x00"} {
		f.Add(s)
	}
	refs := git.Refs{Head: "main", Heads: map[string]string{"main": "c1", "^1": "c2"}, Tags: map[string]string{"v1.0.0": "c3", "v1.4.0": "c4", "v2.0.0-rc.1": "c5", "x": "c6"}}
	f.Fuzz(func(t *testing.T, ref string) {
		got, err := resolveRef("https://git.example.com/x", refs, ref, func(string) ([]string, error) { return nil, nil })
		if err != nil {
			return
		}
		for _, m := range []map[string]string{refs.Heads, refs.Tags} {
			for _, c := range m {
				if got.Commit == c {
					return
				}
			}
		}
		t.Fatalf("%q means %+v", ref, got)
	})
}
