package source

import (
	"errors"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
)

func TestResolveRef(t *testing.T) {
	id := func(c string) string { return strings.Repeat(c, 40) }
	refs := git.Refs{Head: "main",
		Heads: map[string]string{"main": id("a"), "both": id("b"), "release/1.x": id("c"), "1.2.3": id("9")},
		Tags: map[string]string{"both": id("d"), "v1.0.0": id("1"), "v1.2.0": id("2"), "v2.0.0-rc.1": id("3"), "v1.10.0": id("4"),
			"2.0.0-beta.1": id("5"), "not-a-version": id("6"), "v0.9.0": id("7"), "v1": id("8")}}
	commits := func(prefix string) ([]string, error) {
		var out []string
		for _, c := range []string{id("e"), "eeeeeee" + id("0")[7:], id("f")} {
			if strings.HasPrefix(c, prefix) {
				out = append(out, c)
			}
		}
		return out, nil
	}
	for ref, want := range map[string]string{
		"": id("a"), "HEAD": id("a"), "main": id("a"), "refs/heads/main": id("a"),
		"both": id("b"), "refs/tags/both": id("d"), "release/1.x": id("c"),
		"^1.0.0": id("4"), "1.x": id("4"), "~1.2": id("2"), ">=1.0.0 <1.10.0": id("2"), "*": id("4"), "<1.0.0": id("7"),
		">=2.0.0-0": id("3"), "^2.0.0-beta": id("3"), "1.0.0": id("1"), "1.2.3": id("9"), "v1": id("8"),
		id("f"): id("f"), "FFFFFFF": id("f"), "eeeeeeee": id("e"),
	} {
		if got, err := resolveRef("r", refs, ref, commits); got.Commit != want || err != nil {
			t.Errorf("%q = %.7s, %v, want %.7s", ref, got.Commit, err, want)
		}
	}
	for ref, want := range map[string]string{
		"mian":      "repository r: has no branch, tag or commit mian (did you mean main?)",
		"1.0":       "", // a range
		"^3.0.0":    "repository r: has no tag in the range ^3.0.0 (the highest version is v2.0.0-rc.1)",
		"^2.0.0":    "has no tag in the range ^2.0.0",
		"eeeeeee":   "has several commits whose ids begin with eeeeeee",
		"abcdef":    "has no branch, tag or commit abcdef (its branches are 1.2.3, both, main, release/1.x)",
		"bcdefab":   "has no branch, tag or commit bcdefab",
		"refs/x":    "has no branch",
		"release/1": "did you mean release/1.x?",
	} {
		_, err := resolveRef("r", refs, ref, commits)
		if want == "" {
			if err != nil {
				t.Errorf("%q: %v", ref, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || belay.CodeOf(err) != belay.CodeNotFound {
			t.Errorf("%q: %v, want %q", ref, err, want)
		}
	}
	if _, err := resolveRef("r", git.Refs{}, "main", commits); err == nil || !strings.Contains(err.Error(), "push a branch") {
		t.Errorf("an empty repository: %v", err)
	}
	if _, err := resolveRef("r", git.Refs{Head: "main"}, "", commits); err == nil {
		t.Error("HEAD of an empty repository")
	}
	if _, err := resolveRef("r", refs, "1234567", func(string) ([]string, error) { return nil, errors.New("broken") }); err == nil {
		t.Error("an error of the mirror is lost")
	}
}
