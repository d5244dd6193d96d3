package main

import (
	"cmp"
	"context"
	"os/user"
	"strings"

	"github.com/belaydev/belay/internal/git"
)

// actor is who runs this program, for the record, as far as it can go into a
// header: as they sign their commits, so that the record names one person in one
// way, or else by the name of the user. Empty if neither is known; the server says
// "api" then.
func actor() string {
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	who := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '_'
		}
		return r
	}, cmp.Or(git.User(context.Background()), name))
	return who[:min(len(who), 128)]
}
