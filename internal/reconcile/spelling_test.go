package reconcile

import "testing"

func TestCutSteps(t *testing.T) {
	for text, want := range map[string]struct {
		base string
		back int
	}{
		"HEAD": {"HEAD", 0}, "HEAD~1": {"HEAD", 1}, "HEAD~": {"HEAD", 1}, "HEAD^": {"HEAD", 1}, "HEAD^^": {"HEAD", 2}, "HEAD~2^~": {"HEAD", 4}, "HEAD^1": {"HEAD", 1},
		"HEAD~0": {"HEAD", 0}, "@~3": {"@", 3}, "3f2a1b9~12": {"3f2a1b9", 12}, "release/1.2~1": {"release/1.2", 1}, "v1.2^": {"v1.2", 1},
		// Not steps: the second parent, ranges of versions, what git finds in its own log.
		"HEAD^2": {"HEAD^2", 0}, "~1.2": {"~1.2", 0}, "^1": {"^1", 0}, ">=1 <2": {">=1 <2", 0}, "main@{1}": {"main@{1}", 0}, "HEAD~99999999999999999999": {"HEAD~99999999999999999999", 0},
		"main/12": {"main/12", 0}, "": {"", 0},
	} {
		if base, back := cutSteps(text); base != want.base || back != want.back {
			t.Errorf("%q is %d before %q", text, back, base)
		}
	}
}
