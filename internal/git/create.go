package git

import (
	"context"
	"fmt"
)

// CreateRepository makes a repository of the files in dir: one commit of
// everything on a branch. Its configuration names a committer, so that it can be
// worked in on a machine where git knows nobody yet.
func CreateRepository(ctx context.Context, dir, branch, message string) error {
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=" + branch, "."},
		{"config", "user.name", "Belay"},
		{"config", "user.email", "belay@localhost"},
		// A rollback is pushed into it while somebody looks at the files.
		{"config", "receive.denyCurrentBranch", "updateInstead"},
		{"add", "--all", "."},
		{"commit", "--quiet", "--message=" + message},
	} {
		c := command(nil, args...)
		c.Dir = dir
		if err := c.Run(ctx); err != nil {
			return fmt.Errorf("make a repository in %s: %w", dir, err)
		}
	}
	return nil
}
