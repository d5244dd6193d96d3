package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/term"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
	// exitDiffers is for commands with --exit-code: what was asked about is not as it should be.
	exitDiffers = 3
)

// errDiffers ends a command with exitDiffers and without a message: what it
// printed says it all.
var errDiffers = errors.New("differs")

// errFound ends a command with exitError and without a message, likewise.
var errFound = errors.New("found something wrong")

// env is what commands have from the process.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	// log is set before a command runs.
	log *slog.Logger
	// checkpoint is called at named points of a sync; tests crash there.
	checkpoint func(string)

	server, logLevel, logFormat string
}

const rootLong = `Belay keeps running systems equal to what Git says.

"belay serve" reads definitions from a Git repository and keeps clusters equal to
them. The other commands ask a running server, at --server or BELAY_SERVER, or
work on a directory without one.

Nothing here changes what is desired: that is a commit.

Exit codes: 0 when all is well, 1 for an error, 2 when the command line is wrong,
and 3 with --exit-code when what was asked about is not as it should be. Errors
go to standard error as "error: ..." with a line "hint: ..." that says what to do.

Tables are for people and may change; "-o json" and "-o yaml" are for programs
and keep their form. Colour is used on terminals only and never with NO_COLOR.`

const rootExample = `  belay serve --repo https://git.example.com/fleet.git
  belay status
  belay sync guestbook --wait
  belay events --follow`

// newRoot makes the command and all below it.
func newRoot(env *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "belay",
		Short: "Keep running systems equal to what Git says",
		Long:  rootLong, Example: rootExample,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// Errors are printed in one place, as the design of messages wants them.
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(*cobra.Command, []string) error { return env.setLog() },
	}
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.PersistentFlags().StringVar(&env.server, "server", "", "address of the server (default: BELAY_SERVER, or "+client.DefaultServer+")")
	root.PersistentFlags().StringVar(&env.logLevel, "log-level", "info", "least level that is logged: debug, info, warn or error")
	root.PersistentFlags().StringVar(&env.logFormat, "log-format", "text", "form of the log: text or json")

	for _, g := range []*cobra.Group{{ID: groupRun, Title: "Run:"}, {ID: groupAsk, Title: "Ask and steer a server:"}, {ID: groupAuthor, Title: "Write definitions:"}} {
		root.AddGroup(g)
	}
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupRun, newServe(env), newDemo(env), newDrill(env))
	add(groupAsk, newStatus(env), newGet(env), newSync(env), newRollback(env), newRelease(env), newWait(env), newEvents(env), newHistory(env),
		newAudit(env), newDelivery(env), newSigningKey(env))
	add(groupAuthor, newLint(env), newRender(env), newPlan(env), newHealth(env))
	add("", newVersion(env), newCompletion(env))
	root.SetHelpCommand(newHelp(root))
	markUsageErrors(root)
	return root
}

// Groups of commands in the help.
const (
	groupRun    = "run"
	groupAsk    = "ask"
	groupAuthor = "author"
)

// newHelp is cobra's help command with errors like those of the others.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help for a command",
		Long:    "Shows what a command does, its flags and examples of it; the same as --help.",
		Example: "  belay help sync",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usageError(fmt.Sprintf("there is no command %q", strings.Join(args, " ")))
			}
			return cmd.Help()
		},
	}
}

// execute runs a command line and returns the exit code.
func (e *env) execute(ctx context.Context, args []string) int {
	e.log = slog.New(slog.DiscardHandler)
	root := newRoot(e)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errDiffers):
		return exitDiffers
	case errors.Is(err, errFound):
		return exitError
	case errors.Is(err, errNotRun):
		if ctx.Err() == nil || !errors.Is(err, context.Canceled) {
			e.printError(withoutMark(err))
		}
		return exitUsage
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		// Whoever pressed Ctrl-C knows why it ended.
		return exitError
	}
	e.printError(err)
	if _, ok := errors.AsType[*usage](err); ok {
		return exitUsage
	}
	return exitError
}

// printError writes an error for people: each of joined ones by itself.
func (e *env) printError(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			e.printError(err)
		}
		return
	}
	p := term.New(e.stderr, e.getenv)
	message, hint := err.Error(), ""
	if u, ok := errors.AsType[*usage](err); ok {
		message, hint = u.message, u.hint
	} else if b, ok := errors.AsType[*belay.Error](err); ok {
		whole := b.Error()
		// What was wrapped around it stays; the hint gets a line of its own.
		message = strings.Replace(message, whole, term.ErrorLine(b), 1)
		hint = b.Hint
	}
	// Standard error is the last resort: that it cannot be written to can be told nobody.
	_, _ = fmt.Fprintf(e.stderr, "%s %s\n", p.Paint(term.Red, "error:"), cleanLines(message))
	if hint != "" {
		_, _ = fmt.Fprintf(e.stderr, "%s %s\n", p.Paint(term.Bold, "hint:"), cleanLines(hint))
	}
}

// cleanLines cleans text from outside line by line.
func cleanLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i := range lines {
		lines[i] = term.CleanLine(strings.TrimRight(lines[i], " \t\r"))
	}
	return strings.Join(lines, "\n")
}

// usage is an error of the command line.
type usage struct{ message, hint string }

func (u *usage) Error() string { return u.message }

// usageError makes an error that ends with exitUsage.
func usageError(message string) error {
	return &usage{message: message}
}

// flagError words what is wrong with a flag. What Go's parsers say of a number or
// a span of time is for programmers.
func flagError(err error) error {
	bad, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return usageError(err.Error())
	}
	is := map[string]string{"int": "a whole number", "uint": "a whole number that is not negative", "duration": "a span of time such as 30s, 5m or 1h", "bool": "true or false"}[bad.GetFlag().Value.Type()]
	if is == "" {
		return usageError(err.Error())
	}
	return usageError(fmt.Sprintf("--%s is %s, not %q", bad.GetFlag().Name, is, bad.GetValue()))
}

// noSuchCommand is for commands that have others below them.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	u := &usage{message: fmt.Sprintf("there is no command \"%s %s\"", cmd.CommandPath(), args[0]), hint: "\"" + cmd.CommandPath() + " --help\" lists the commands"}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		u.hint = fmt.Sprintf("did you mean \"%s %s\"?", cmd.CommandPath(), near[0])
	}
	return u
}

// markUsageErrors makes errors about arguments usage errors.
func markUsageErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil {
				err = cmd.ValidateRequiredFlags() // cobra asks later, and its error is none of the command line
			}
			if err == nil {
				return nil
			}
			if _, ok := errors.AsType[*usage](err); ok {
				return err
			}
			message := err.Error()
			if strings.HasPrefix(message, "unknown command ") { // cobra's word for the first argument of one that takes none
				message = fmt.Sprintf("%q takes no arguments, but there is %q", cmd.CommandPath(), args[0])
			}
			return &usage{message: message, hint: "usage: " + cmd.UseLine()}
		}
	}
	for _, c := range cmd.Commands() {
		markUsageErrors(c)
	}
}

// setLog makes the logger that the flags ask for.
func (e *env) setLog() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(e.logLevel)); err != nil {
		return usageError(fmt.Sprintf("--log-level is debug, info, warn or error, not %q", e.logLevel))
	}
	opts := &slog.HandlerOptions{Level: level}
	switch e.logFormat {
	case "text":
		e.log = slog.New(slog.NewTextHandler(e.stderr, opts))
	case "json":
		e.log = slog.New(slog.NewJSONHandler(e.stderr, opts))
	default:
		return usageError(fmt.Sprintf("--log-format is text or json, not %q", e.logFormat))
	}
	return nil
}

// client connects to the server that the flags and the environment name.
func (e *env) client() (*client.Client, error) {
	server := e.server
	if server == "" {
		server = e.getenv("BELAY_SERVER")
	}
	c, err := client.New(server)
	if err != nil {
		return nil, err
	}
	c.Who = actor
	return c, nil
}
