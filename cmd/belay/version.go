package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/version"
)

// versions is the output of "belay version -o json".
type versions struct {
	Client belay.Build `json:"client"`
	// Server is left out where none answers.
	Server *belay.Build `json:"server,omitempty"`
}

func newVersion(env *env) *cobra.Command {
	var clientOnly bool
	cmd := &cobra.Command{
		Use: "version", Short: "Show the versions of this program and of the server",
		Long: `Shows what this program was built from: version of the module, commit, Go version
and platform; and the same of the server, if one answers. That none answers is
no error.

With "-o json" the output is {"client": {...}, "server": {...}}; "server" is left
out where none answers.`,
		Example: "  belay version\n  belay version --client\n  belay version -o json",
		Args:    cobra.NoArgs,
	}
	out := addOutput(cmd)
	cmd.Flags().BoolVar(&clientOnly, "client", false, "do not ask a server")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := versions{Client: version.Get()}
		server := ""
		if !clientOnly {
			c, err := env.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), versionPatience)
			defer cancel()
			if b, err := c.Version(ctx); err == nil {
				v.Server = &b
				server = "server: " + version.String(b) + " at " + c.Server() + "\n"
			} else {
				server = "server: none answers at " + c.Server() + "\n"
			}
		}
		if *out != outputTable {
			return env.write(*out, v)
		}
		_, err := fmt.Fprintf(env.stdout, "belay:  %s\n%s", version.String(v.Client), server)
		return err
	}
	return cmd
}
