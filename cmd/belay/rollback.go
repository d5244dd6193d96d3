package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/term"
)

const rollbackLong = `  belay rollback guestbook                       what can I go back to?
  belay rollback guestbook --to 3f2a1b9          go back (shows it and asks first)
  belay rollback guestbook --to 3f2a1b9 --now --reason "checkout is down"
                                                 the same, and do not wait for Git
  belay release guestbook                        undo the hold that --now made

A rollback is a commit: the files that the application was made of at that
revision, and its definition, put back on top of the branch. Nothing else in the
repository changes, it cannot conflict, and automatic sync stays on. Before it is
pushed, the application is rendered from it and has to come out exactly as it was.

Other applications may be made of the same files. Those that would change are
listed, and nothing is pushed before you agree. In scripts, --yes agrees.

--now does not wait: the application is held at that revision at once, whatever
Git says, with your name, the --reason and an end (--for, 24h by default). The
hold overrides maintenance windows and dependencies, never spec.suspend. It ends
when Git says the same, with "belay release", or when its time is over. With
--hold-only no commit is made.

--change COMMIT takes back together all applications that a commit changed, each
to what it had before.

The server signs the commit ("belay signing-key" shows with what). Where commits
have to be signed and its key is not trusted, nothing is pushed, and it says so.

Where nothing may be pushed, --patch FILE writes the commit for "git am"; a patch
has no signature, "git am -S" gives it yours. A Project with
"rollback: {push: pullRequest}" has it pushed to a branch of its own.

REVISION may be abbreviated, a tag, or written as HEAD~1: so many commits before
the newest. DEPLOYMENT is the ID of a deployment on record.
With "-o json" the output is what was done, or with --dry-run what would be.`

const rollbackExample = `  belay rollback guestbook
  belay rollback guestbook --to 3f2a1b9 --dry-run
  belay rollback guestbook --to 3f2a1b9 --reason "breaks the checkout" --yes
  belay rollback guestbook --to 3f2a1b9 --now --for 4h --reason "checkout is down"
  belay rollback --change 8c01d22 --reason "bad base image"
  belay rollback guestbook --to 3f2a1b9 --patch back.patch`

type rollbackFlags struct {
	req   belay.RollbackRequest
	yes   bool
	patch string
	out   *output
}

func newRollback(env *env) *cobra.Command {
	var f rollbackFlags
	var last string
	cmd := &cobra.Command{
		Use: "rollback {APP [--to REVISION|DEPLOYMENT] | --change COMMIT}", Short: "Go back to an earlier revision, in Git",
		Long: rollbackLong, Example: rollbackExample,
		ValidArgsFunction: completeFirst(env.completeApplications),
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return fmt.Errorf("name one application")
			case (len(args) == 1) == (f.req.Change != ""):
				return fmt.Errorf("name an application, or a commit with --change")
			case f.req.Change != "" && f.req.To != "":
				return fmt.Errorf("--to and --change exclude each other")
			case f.req.Now && f.req.Reason == "":
				return fmt.Errorf("--now needs a --reason \"...\": it is recorded and shown")
			case f.req.HoldOnly && !f.req.Now:
				return fmt.Errorf("--hold-only goes with --now")
			case cmd.Flags().Changed("for") && !f.req.Now:
				return fmt.Errorf("--for goes with --now")
			case f.patch != "" && f.req.Now:
				return fmt.Errorf("--patch and --now exclude each other; hold with --now --hold-only first")
			}
			return nil
		},
	}
	f.out = addOutput(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.req.To, "to", "", "revision to go back to, or the ID of a deployment")
	fl.StringVar(&f.req.Change, "change", "", "take back all that this commit changed")
	fl.StringVar(&f.req.Reason, "reason", "", "why, for the commit and the record")
	fl.BoolVar(&f.req.DryRun, "dry-run", false, "show what would be done, and do nothing")
	fl.BoolVar(&f.req.Now, "now", false, "hold the application at that revision at once; needs --reason")
	fl.StringVar(&last, "for", "24h", "with --now: `time` that the hold lasts at most: 4h, 3d, up to 30d")
	fl.BoolVar(&f.req.HoldOnly, "hold-only", false, "with --now: make no commit")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask; agree to changes of other applications, too")
	fl.StringVar(&f.patch, "patch", "", "write the commit to this file for git am, and push nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := strings.Join(args, "")
		if f.req.Now {
			d, ok := parseAgo(last)
			if !ok {
				return &usage{message: fmt.Sprintf("--for is a time, not %q", last), hint: "for example 90m, 4h or 3d"}
			}
			f.req.For = d.String()
		}
		c, err := env.client()
		if err != nil {
			return err
		}
		if f.req.To == "" && f.req.Change == "" {
			return env.rollbackTargets(cmd.Context(), c, name, *f.out)
		}
		f.req.Author = git.Identity(cmd.Context(), ".")
		return env.rollback(cmd.Context(), c, name, &f)
	}
	return cmd
}

// rollbackTargets lists what an application can go back to.
func (e *env) rollbackTargets(ctx context.Context, c *client.Client, name string, o output) error {
	targets, err := c.RollbackTargets(ctx, name)
	if err != nil {
		return err
	}
	if o != outputTable {
		return e.write(o, struct {
			Targets []belay.RollbackTarget `json:"targets"`
		}{targets})
	}
	t := term.NewTable("REVISION", "DEPLOYMENT", "WHEN", "BY", "WHAT")
	for _, r := range targets {
		what := r.Subject
		if r.Result != "" {
			what = string(r.Result) + ": " + what
		}
		if r.Current {
			what = "(now) " + what
		}
		when := ""
		if !r.Time.IsZero() {
			when = r.Time.Local().Format("2006-01-02 15:04")
		}
		t.Row(term.Text(shortRevision(r.Revision)), term.Text(r.Deployment), term.Text(when), term.Text(r.Author), term.Text(what))
	}
	if err := e.printer().Print(t); err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "\nGo back with: belay rollback %s --to REVISION\n", term.Clean(name))
	return err
}

// rollback shows what would be done, asks, and does it.
func (e *env) rollback(ctx context.Context, c *client.Client, name string, f *rollbackFlags) error {
	if !f.req.DryRun && f.patch == "" && !f.yes && !e.interactive() {
		return usageError("this is no terminal to ask on: look at it with --dry-run, then agree with --yes")
	}
	look := f.req
	look.DryRun = true
	plan, err := c.Rollback(ctx, name, look)
	if err != nil {
		return err
	}
	switch {
	case f.req.DryRun && *f.out != outputTable:
		return e.write(*f.out, plan)
	case f.patch != "":
		return e.writePatches(f.patch, &plan)
	}
	refused := error(nil)
	if !f.req.DryRun && plan.Problem != nil && plan.Hold == nil { // nothing would come of it
		refused, plan.Problem = plan.Problem, nil
	}
	if *f.out == outputTable {
		if err := e.showRollback(&plan, true); err != nil {
			return err
		}
	}
	if f.req.DryRun || refused != nil {
		return refused
	}
	if len(plan.Commits) == 0 && plan.Hold == nil && plan.Problem == nil {
		if *f.out != outputTable {
			return e.write(*f.out, plan)
		}
		return nil
	}
	if !f.yes {
		if ok, err := e.ask("Go back?"); err != nil || !ok {
			return err
		}
	}
	do := f.req
	for _, o := range plan.Others {
		do.Others = append(do.Others, o.Application)
	}
	done, err := c.Rollback(ctx, name, do)
	if err != nil {
		return err
	}
	if *f.out != outputTable {
		err = e.write(*f.out, done)
	} else {
		err = e.showDone(&done)
	}
	if err == nil && done.Problem != nil {
		return done.Problem
	}
	return err
}

// showRollback says what would be done.
func (e *env) showRollback(r *belay.Rollback, diffs bool) error {
	p := e.printer()
	var b strings.Builder
	for _, a := range r.Applications {
		fmt.Fprintf(&b, "%s goes back to %s", p.Paint(term.Bold, term.Clean(a.Application)), shortRevision(a.Revision))
		if a.Deployment != "" {
			fmt.Fprintf(&b, " (deployment %s)", term.Clean(a.Deployment))
		}
		if a.From != "" && a.From != a.Revision {
			fmt.Fprintf(&b, ", from %s", shortRevision(a.From))
		}
		b.WriteByte('\n')
	}
	if r.Hold != nil {
		who := "It is"
		switch names := held(r); {
		case len(r.Applications) == 1:
		case len(names) == 1:
			who = names[0] + " is"
		default:
			who = strings.Join(names, " and ") + " are"
		}
		fmt.Fprintf(&b, "\n%s held there at once, until Git says the same, %s at the latest.\n", who, r.Hold.Until.Local().Format("2006-01-02 15:04"))
	}
	for _, c := range r.Commits {
		fmt.Fprintf(&b, "\nCommit to %s of %s:\n", term.Clean(c.Branch), term.Clean(c.Repo))
		for _, f := range c.Files {
			fmt.Fprintf(&b, "  %-8s %s\n", f.Change, term.Clean(f.Path))
		}
		if c.Signer != "" {
			fmt.Fprintf(&b, "It is signed by %s.\n", term.Clean(c.Signer))
		} else {
			fmt.Fprintf(&b, "It is not signed: %s.\n", term.Clean(c.Unsigned))
		}
	}
	if len(r.Commits) == 0 && r.Problem == nil && r.Hold == nil {
		b.WriteString("\nGit says the same already: there is nothing to commit.\n")
	}
	if len(r.Others) > 0 {
		fmt.Fprintf(&b, "\n%s\n", p.Paint(term.Yellow, "Made of the same files, these change with it:"))
		for _, o := range r.Others {
			fmt.Fprintf(&b, "  %s: %s\n", term.Clean(o.Application), term.Clean(o.Message))
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "\nnote: %s\n", term.Clean(n))
	}
	if _, err := fmt.Fprintln(p, strings.TrimRight(b.String(), "\n")); err != nil {
		return err
	}
	if r.Problem != nil {
		e.printError(r.Problem)
	}
	if diffs && len(r.Previews) > 0 {
		if _, err := fmt.Fprintln(p); err != nil {
			return err
		}
		return p.Previews(r.Previews)
	}
	return nil
}

// held are the names of applications that are held, or would be.
func held(r *belay.Rollback) []string {
	var names []string
	for i := range r.Applications {
		if r.Applications[i].Held {
			names = append(names, term.Clean(r.Applications[i].Application))
		}
	}
	return names
}

// showDone says what was done.
func (e *env) showDone(r *belay.Rollback) error {
	var b strings.Builder
	for i := range r.Applications {
		if a := &r.Applications[i]; a.Held && r.Hold != nil {
			fmt.Fprintf(&b, "%s is held at %s until %s.\n", term.Clean(a.Application), shortRevision(a.Revision), r.Hold.Until.Local().Format("2006-01-02 15:04"))
		}
	}
	for _, c := range r.Commits {
		if !c.Pushed {
			continue
		}
		fmt.Fprintf(&b, "Commit %s was pushed to %s of %s.\n", shortRevision(c.Commit), term.Clean(c.Branch), term.Clean(c.Repo))
		switch {
		case c.Compare != "":
			fmt.Fprintf(&b, "Open a pull request into %s: %s\n", term.Clean(c.Into), term.Clean(c.Compare))
		case c.Into != "":
			fmt.Fprintf(&b, "Open a pull request into %s, or merge it: git merge %s\n", term.Clean(c.Into), term.Clean(c.Branch))
		}
	}
	_, err := io.WriteString(e.stdout, b.String())
	return err
}

// writePatches writes the commits as files for git am. A patch has no signature, so
// it is not told what that of the commit would be.
func (e *env) writePatches(file string, r *belay.Rollback) error {
	shown := *r
	shown.Problem, shown.Commits = nil, slices.Clone(r.Commits)
	for i := range shown.Commits {
		shown.Commits[i].Signer, shown.Commits[i].Unsigned = "", "a patch has no signature"
		if shown.Commits[i].MustBeSigned {
			shown.Commits[i].Unsigned += ", and to be deployed it needs one: git am -S signs it as you"
		}
	}
	if err := e.showRollback(&shown, false); err != nil {
		return err
	}
	for i, c := range r.Commits {
		name := file
		if i > 0 {
			name = fmt.Sprintf("%s.%d", file, i+1)
		}
		if err := os.WriteFile(name, []byte(c.Patch), 0o644); err != nil {
			return fmt.Errorf("write the patch: %w", err)
		}
		am := "git am"
		if c.MustBeSigned {
			am += " -S"
		}
		if _, err := fmt.Fprintf(e.stdout, "\nWrote %s; in a clone of %s on %s: %s %s && git push\n", name, term.Clean(c.Repo), term.Clean(c.Branch), am, name); err != nil {
			return err
		}
	}
	return nil
}

// interactive says whether there is somebody to ask.
func (e *env) interactive() bool {
	in, ok := e.stdin.(*os.File)
	if !ok {
		return false
	}
	st, err := in.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && term.IsTerminal(e.stdout)
}

// ask asks a question that is answered with yes or no.
func (e *env) ask(question string) (bool, error) {
	if _, err := fmt.Fprintf(e.stdout, "\n%s [y/N] ", question); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(e.stdin).ReadString('\n')
	if err != nil && line == "" {
		return false, nil
	}
	return slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(line))), nil
}

const releaseLong = `Ends the hold that "belay rollback --now" or an automatic rollback made. The
application is then made equal to what Git says now, as its sync policy and
windows allow: if Git still says what was rolled back, that comes back. After an
automatic rollback it is not rolled back by itself a second time.`

func newRelease(env *env) *cobra.Command {
	var req belay.ReleaseRequest
	cmd := &cobra.Command{
		Use: "release APP", Short: "End the hold of an application",
		Long: releaseLong, Example: "  belay release guestbook\n  belay release guestbook --reason \"the database is back\"",
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeFirst(env.completeApplications),
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the record")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := env.client()
		if err != nil {
			return err
		}
		if err := c.Release(cmd.Context(), args[0], req); err != nil {
			return err
		}
		_, err = fmt.Fprintf(env.stdout, "%s: released\n", term.Clean(args[0]))
		return err
	}
	return cmd
}

// Rollback implements server.Engine.
func (e electing) Rollback(ctx context.Context, name string, req belay.RollbackRequest, actor string) (belay.Rollback, error) {
	if err := e.standingBy(); err != nil {
		return belay.Rollback{}, err
	}
	return e.Engine.Rollback(ctx, name, req, actor)
}

// RollbackTargets implements server.Engine.
func (e electing) RollbackTargets(ctx context.Context, name string) ([]belay.RollbackTarget, error) {
	if err := e.standingBy(); err != nil {
		return nil, err
	}
	return e.Engine.RollbackTargets(ctx, name)
}

// Release implements server.Engine.
func (e electing) Release(ctx context.Context, name string, req belay.ReleaseRequest, actor string) error {
	if err := e.standingBy(); err != nil {
		return err
	}
	return e.Engine.Release(ctx, name, req, actor)
}
