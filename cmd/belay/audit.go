package main

import "github.com/spf13/cobra"

const auditLong = `The ledger is the record of what Belay did: one event, one commit, in a
Git repository of its own. These commands read it.`

func newAudit(env *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "Read and check the record", Long: auditLong, Example: "  belay audit verify", Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAuditVerify(env))
	return cmd
}
