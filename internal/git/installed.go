package git

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/xec"
)

// The oldest git that will do: it is the first with cat-file --batch-command.
const oldestMajor, oldestMinor = 2, 36

var versionLine = regexp.MustCompile(`^git version (\d+)\.(\d+)\S*`)

// CheckInstalled is an error where there is no git, or one that is too old: without
// it, whatever is done first fails, and blames something else.
func CheckInstalled(ctx context.Context) error {
	needed := fmt.Sprintf("install git %d.%d or newer, and see that PATH leads to it", oldestMajor, oldestMinor)
	path, err := xec.LookPath("git")
	if err != nil {
		return &belay.Error{Code: belay.CodeNotFound, Err: err, Message: "git is not installed, or not in PATH", Hint: needed}
	}
	out, err := command(nil, "version").Output(ctx, 1<<12)
	if err != nil {
		return &belay.Error{Code: belay.CodeUnavailable, Err: err, Message: fmt.Sprintf("%s does not run: %s", path, err), Hint: needed}
	}
	m := versionLine.FindStringSubmatch(string(out))
	if m == nil {
		return nil // some build that calls itself otherwise
	}
	if major, minor := number(m[1]), number(m[2]); major > oldestMajor || major == oldestMajor && minor >= oldestMinor {
		return nil
	}
	return &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("%s is too old: it is %s", path, m[0]), Hint: needed}
}

// number is what digits say; one that is too large is a very large one.
func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return math.MaxInt
	}
	return n
}
