package main

import "github.com/spf13/cobra"

const completionLong = `Writes a script that makes a shell complete commands, flags and, where a server
answers, names of applications.

For the shell you are in:

  bash:        source <(belay completion bash)
  zsh:         source <(belay completion zsh)
  fish:        belay completion fish | source
  powershell:  belay completion powershell | Out-String | Invoke-Expression

Put that line into the file that your shell reads at its start to keep it.`

func newCompletion(env *env) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion {bash|zsh|fish|powershell}", Short: "Write a completion script for a shell",
		Long: completionLong, Example: "  source <(belay completion bash)",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "zsh":
				return root.GenZshCompletion(env.stdout)
			case "fish":
				return root.GenFishCompletion(env.stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(env.stdout)
			}
			return root.GenBashCompletionV2(env.stdout, true)
		},
	}
}
