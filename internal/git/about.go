package git

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Landed is when a commit came into being: unlike the time of its author, that of
// a commit that was rebased or merged late.
func (m *Mirror) Landed(ctx context.Context, commit string) (time.Time, error) {
	lines, err := m.logOf(ctx, commit, nil, "log", "--no-color", "-1", "--format=%ct")
	if err != nil {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseInt(strings.Join(lines, ""), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("time of commit %s in %s: %w", commit, m.display, err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// Identity is the user that git knows in a directory, "Name <address>"; "" for none.
func Identity(ctx context.Context, dir string) string {
	get := func(key string) string {
		c := command(nil, "config", "--get", key)
		c.Env, c.Dir = []string{"LC_ALL=C"}, dir // the user's own settings are what is asked for
		out, err := c.Output(ctx, 4096)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	name, mail := get("user.name"), get("user.email")
	switch {
	case name == "":
		return mail
	case mail == "":
		return name
	}
	return name + " <" + mail + ">"
}
