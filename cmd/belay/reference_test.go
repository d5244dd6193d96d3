package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

//go:generate go test . -run ^TestReference$ -update

var update = flag.Bool("update", false, "rewrite the documents and scripts that are generated from the code")

// TestReference keeps docs/reference/cli.md equal to what the commands say of themselves.
func TestReference(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "reference", "cli.md")
	var b bytes.Buffer
	b.WriteString("# Command line\n\nGenerated from the commands themselves; `belay COMMAND --help` shows the same.\n")
	root := newRoot(&env{getenv: func(string) string { return "" }, stdin: strings.NewReader(""), stdout: &b, stderr: &b})
	document(&b, root)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Errorf("%s is stale; run: go generate ./cmd/belay", file)
	}
}

// document appends the section of a command and those below it.
func document(b *bytes.Buffer, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n", cmd.CommandPath(), cmd.Short)
	if cmd.Runnable() && !cmd.HasSubCommands() {
		fmt.Fprintf(b, "    %s\n\n", cmd.UseLine())
	}
	// The text is laid out for terminals; it keeps its lines here.
	fmt.Fprintf(b, "```text\n%s\n```\n", strings.TrimSpace(cmd.Long))
	if cmd.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n\n```sh\n%s\n```\n", dedent(cmd.Example))
	}
	flags(b, "Flags", cmd.NonInheritedFlags())
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			document(b, c)
		}
	}
}

func flags(b *bytes.Buffer, title string, set *pflag.FlagSet) {
	if !set.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, "\n%s:\n\n```text\n%s```\n", title, set.FlagUsages())
}

func dedent(s string) string {
	lines := strings.Split(strings.Trim(s, "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, "  ")
	}
	return strings.Join(lines, "\n")
}

// Every command says what it is for, when to use it, and shows how.
func TestCommandsExplainThemselves(t *testing.T) {
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%q lacks a short text, a long one or an example", cmd.CommandPath())
		}
		if strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%q: its short text ends with a dot", cmd.CommandPath())
		}
		for l := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if n := len([]rune(strings.TrimRight(l, "\n"))); n > 100 {
				t.Errorf("%q has a line of %d characters: %s", cmd.CommandPath(), n, l)
			}
		}
		if cmd.Args == nil && cmd.ValidArgsFunction == nil && cmd.Name() != "help" {
			t.Errorf("%q does not say which arguments it takes", cmd.CommandPath())
		}
		cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%q: --%s is not explained", cmd.CommandPath(), f.Name)
			}
		})
		for _, c := range cmd.Commands() {
			visit(c)
		}
	}
	visit(newRoot(&env{getenv: func(string) string { return "" }}))
}
