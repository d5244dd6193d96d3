package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay/internal/term"
)

const signingKeyLong = `Shows the public key of the server that signs the commits that rollbacks make in
your repositories, as a line of a file of allowed signers: for git, for files that
spec.signatures.keys of a Project names, and for --config-signers.

"-o yaml" and "-o json" have it in parts: "committer" and "key" are the name and the
key of an entry of spec.signatures.signers; a forge takes "key" as a signing key of
the account whose address the committer has.`

const signingKeyExample = `  belay signing-key
  belay signing-key >> allowed_signers
  belay signing-key -o json | jq -r .key
  git -c gpg.ssh.allowedSignersFile=allowed_signers verify-commit COMMIT`

func newSigningKey(env *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "signing-key", Short: "Show the key that signs the commits of rollbacks",
		Long: signingKeyLong, Example: signingKeyExample, Args: cobra.NoArgs,
	}
	out := addOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := env.client()
		if err != nil {
			return err
		}
		signer, err := c.CommitSigner(cmd.Context())
		if err != nil {
			return err
		}
		if *out != outputTable {
			return env.write(*out, signer)
		}
		_, err = fmt.Fprintln(env.stdout, term.Clean(signer.AllowedSigner))
		return err
	}
	return cmd
}
