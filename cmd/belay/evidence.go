package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/evidence"
	"github.com/belaydev/belay/internal/evidence/report"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/ledger/verify"
	"github.com/belaydev/belay/internal/term"
	"github.com/belaydev/belay/internal/version"
)

const exportLong = `Writes the evidence of a period down: every change that reached a cluster with its
authors, reviewers, approvers, tests and deployments; what departed from the
practice (changes nobody reviewed, manual changes in a cluster, holds, overridden
windows, rewritten history, refused signatures, denied access, failures); and the
figures of delivery. It is what SOC 2 CC8.1 and ISO/IEC 27001:2022 A.8.32 ask for.

Use it to prepare an audit. The page says for each section which control it is
evidence for, and what it cannot know: an approval that was only given in the web
page of a forge is not in the commit, and so not here.

Formats: html is one page that needs no other file, for reading and for printing;
csv has a row for each deployment of each change, and for each exception; jsonl has
one object a line, for programs.

--from and --to are whole days of the local time zone, both included (2026-11-01),
or moments (2026-11-01T08:00:00Z, the second not included). Without --to the period
ends now. The same records give the same report whenever it is made.

With --ledger the report is made from a ledger or a clone of it, without a server.
It is verified first, as "belay audit verify" does, and the page says how that went;
what does not verify is written even so, and the command ends with an error.`

const exportExample = `  belay audit export --from 2026-10-01 --to 2026-12-31 --output q4.html
  belay audit export --from 2026-11-01 --format csv --project shop --output november.csv
  belay audit export --from 2026-11-01 --format jsonl --ledger ./ledger.git --signers keys`

// exportFlags are those of "belay audit export".
type exportFlags struct {
	format, output  string
	from, to        string
	scope           evidence.Scope
	ledger, signers string
	unverified      bool
}

func newAuditExport(env *env) *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use: "export --from DAY", Short: "Write the evidence of a period down, for an audit",
		Long: exportLong, Example: exportExample, Args: cobra.NoArgs,
	}
	where := addLedger(cmd)
	cmd.Flags().StringVar(&f.format, "format", "html", "html, csv or jsonl")
	cmd.Flags().StringVar(&f.output, "output", "", "`file` to write (default: standard output)")
	cmd.Flags().StringVar(&f.from, "from", "", "first `day` of the period, or the moment it begins")
	cmd.Flags().StringVar(&f.to, "to", "", "last `day` of the period, or the moment it ends (default: now)")
	addScope(cmd, &f.scope)
	cmd.Flags().StringVar(&f.scope.Application, "app", "", "only this `application`")
	cmd.Flags().StringVar(&f.signers, "signers", "", "with --ledger: `file` of allowed signers that are trusted (default: the ledger's own first key)")
	cmd.Flags().BoolVar(&f.unverified, "no-verify", false, "with --ledger: do not verify the ledger first")
	cmd.MarkFlagsMutuallyExclusive("signers", "no-verify")
	// The errors are of flags that are not there.
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"html", "csv", "jsonl"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("app", env.completeApplications)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f.ledger = *where
		return env.export(cmd.Context(), &f)
	}
	return cmd
}

// addScope adds the flags that narrow a report.
func addScope(cmd *cobra.Command, s *evidence.Scope) {
	cmd.Flags().StringVar(&s.Project, "project", "", "only applications of this `project`")
	cmd.Flags().StringVar(&s.Cluster, "cluster", "", "only what was delivered to this `cluster`")
}

func (e *env) export(ctx context.Context, f *exportFlags) error {
	if !slices.Contains([]string{"html", "csv", "jsonl"}, f.format) {
		return usageError(fmt.Sprintf("--format is html, csv or jsonl, not %q", f.format))
	}
	if f.from == "" {
		return &usage{message: "say of which period: --from DAY is missing", hint: "for example --from 2026-10-01 --to 2026-12-31"}
	}
	now := time.Now()
	p, err := parsePeriod(f.from, f.to, now)
	if err != nil {
		return err
	}
	if f.format == "html" && f.output == "" && term.IsTerminal(e.stdout) {
		return &usage{message: "a page is not for a terminal", hint: "name a file with --output, or choose --format csv or jsonl"}
	}
	src := report.Source{Generated: now.In(p.From.Location()).Truncate(time.Second), Program: "belay " + version.Get().Version}
	where, done, err := e.proven(ctx, f, &src)
	if err != nil {
		return err
	}
	defer done()
	return e.withRecord(ctx, where, func(rec recordReader) error {
		r, err := collect(ctx, rec, p, f.scope)
		if err != nil {
			return err
		}
		if err := e.writeReport(f, r, src); err != nil {
			return err
		}
		if v := src.Verified; v != nil && !v.Passed {
			return &belay.Error{Code: belay.CodeInvalid, Message: "the report is written, but its ledger does not verify: " + v.Message, Hint: "belay audit verify names all that is wrong"}
		}
		return nil
	})
}

// proven finds the ledger and verifies it, before anything is read from it. A
// server's can be verified where it is alone.
func (e *env) proven(ctx context.Context, f *exportFlags, src *report.Source) (where string, done func(), err error) {
	if f.ledger == "" {
		if f.signers != "" || f.unverified {
			return "", nil, &usage{message: "--signers and --no-verify need --ledger", hint: "the ledger of a server is verified where it is, or in a clone: belay audit verify LEDGER"}
		}
		c, err := e.client()
		if err != nil {
			return "", nil, err
		}
		src.Ledger = "the ledger of a server"
		if at, err := git.CleanURL(c.Server()); err == nil {
			src.Ledger = "the ledger of the server at " + at
		}
		return "", func() {}, nil
	}
	src.Ledger = f.ledger
	if _, err := os.Stat(f.ledger); err != nil {
		// No address with a password in it goes into a report.
		if src.Ledger, err = git.CleanURL(f.ledger); err != nil {
			src.Ledger = "a clone"
		}
	}
	dir, _, done, err := e.ledgerAt(ctx, f.ledger)
	if err != nil || f.unverified {
		return dir, done, err
	}
	o := verify.Options{Ledger: dir, MaxUnsigned: -1}
	if f.signers != "" {
		if o.Signers, err = readSigners(f.signers); err != nil {
			done()
			return "", nil, err
		}
	}
	r, err := verify.Run(ctx, o)
	if err != nil {
		done()
		return "", nil, fmt.Errorf("verify the ledger: %w", err)
	}
	src.Verified = verdict(r)
	return dir, done, nil
}

// verdict says in a line what came of verifying a ledger.
func verdict(r *verify.Report) *report.Verified {
	if r.Total > 0 {
		f := r.Findings[0]
		msg := f.Message
		if f.Record != "" {
			msg = "record " + f.Record + ": " + msg
		}
		if r.Total > 1 {
			msg += fmt.Sprintf(" (and %d more)", r.Total-1)
		}
		return &report.Verified{Message: msg}
	}
	checkpoints, unsigned := 0, 0
	for i := range r.Branches {
		checkpoints += r.Branches[i].Checkpoints
		unsigned += r.Branches[i].Unsigned
	}
	msg := fmt.Sprintf("%s in the whole ledger, %s", term.Count(r.Records, "record"), term.Count(checkpoints, "signed checkpoint"))
	if unsigned > 0 {
		msg += fmt.Sprintf(", %s after the last one", term.Count(unsigned, "record"))
	}
	if r.OwnKeys {
		msg += "; the keys were the ledger's own, so that this proves that it fits itself and not where it comes from"
	} else {
		msg += "; the keys were given from outside"
	}
	return &report.Verified{Passed: true, Message: msg}
}

func (e *env) writeReport(f *exportFlags, r *evidence.Report, src report.Source) error {
	write := func(w io.Writer) error {
		switch f.format {
		case "csv":
			return report.CSV(w, r)
		case "jsonl":
			return report.JSONL(w, r, src)
		}
		return report.HTML(w, r, src)
	}
	if f.output == "" {
		out := bufio.NewWriter(e.stdout)
		if err := write(out); err != nil {
			return err
		}
		return out.Flush()
	}
	if err := writeFile(f.output, write); err != nil {
		return err
	}
	s := &r.Summary
	_, err := fmt.Fprintf(e.stderr, "%s: %s, %s, %s\n", f.output, term.Count(s.Changes, "change"), term.Count(s.Deployments, "deployment"), term.Count(len(r.Exceptions), "exception"))
	return err
}

// writeFile replaces a file once the new one is whole.
func writeFile(name string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // the error says what matters
		}
	}()
	if err := write(f); err != nil {
		_ = f.Close() // likewise
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// mostWindows is into how many parts a period is asked for: the records come newest
// first, and are wanted oldest first without holding all of them.
const mostWindows = 32

// collect makes the report of a period.
func collect(ctx context.Context, rec recordReader, p evidence.Period, s evidence.Scope) (*evidence.Report, error) {
	if err := onRecord(ctx, rec, s); err != nil {
		return nil, err
	}
	c := evidence.Collect(p, s)
	step := max(p.To.Sub(p.From)/mostWindows, 24*time.Hour)
	for from := p.From; from.Before(p.To); from = from.Add(step) {
		to := from.Add(step)
		if to.After(p.To) {
			to = p.To
		}
		q := belay.RecordQuery{From: from, To: to, Limit: belay.MaxPage}
		var window []belay.Record
		for {
			records, next, err := rec.Records(ctx, q)
			if err != nil {
				return nil, fmt.Errorf("read the record: %w", err)
			}
			window = append(window, records...)
			if next == "" {
				break
			}
			q.After = next
		}
		for i := range slices.Backward(window) {
			c.Add(&window[i])
		}
	}
	for _, id := range c.Missing() {
		d, err := rec.Deployment(ctx, id)
		switch {
		case err == nil:
			c.Began(&d)
		case belay.CodeOf(err) != belay.CodeNotFound: // its beginning is not on record: the end says what is known
			return nil, fmt.Errorf("read deployment %s: %w", id, err)
		}
	}
	return c.Report(), nil
}

// parsePeriod reads --from and --to. Days are whole days of the local zone.
func parsePeriod(from, to string, now time.Time) (evidence.Period, error) {
	p := evidence.Period{To: now.Truncate(time.Second)}
	var err error
	if p.From, _, err = parseMoment("--from", from, now); err != nil {
		return p, err
	}
	if to != "" {
		var day bool
		if p.To, day, err = parseMoment("--to", to, now); err != nil {
			return p, err
		}
		if day {
			p.To = p.To.AddDate(0, 0, 1)
		}
	}
	if !p.From.Before(p.To) {
		return p, &usage{message: fmt.Sprintf("the period ends (%s) before it begins (%s)", p.To.Format(time.RFC3339), p.From.Format(time.RFC3339)), hint: "--from is the earlier one"}
	}
	return p, nil
}

func parseMoment(flag, s string, now time.Time) (t time.Time, day bool, err error) {
	if t, day, err = parseWhen(s, now); err != nil {
		return t, day, &usage{message: fmt.Sprintf("%s is a day or a moment, not %q", flag, s), hint: "for example 2026-11-01 or 2026-11-01T08:00:00+01:00"}
	}
	return t, day, nil
}
