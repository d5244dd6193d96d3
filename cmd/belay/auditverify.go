package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay/internal/ledger/verify"
	"github.com/belaydev/belay/internal/signature"
	"github.com/belaydev/belay/internal/term"
)

const auditVerifyLong = `Proves that a ledger is whole, in order, unchanged and signed. It needs no server:
LEDGER is the folder of a ledger or of any clone of it, a data directory, or a
URL; by default ledger.git in the data directory.

Of every branch ledger/WRITER it checks that the records are one chain without a
gap, that author, date, message and files of each commit are what its event says,
that manifests have the digests that were recorded, that deployments that end
began, that no object is missing or damaged, that time does not run backwards,
and that the checkpoints are signed by a trusted key.

Whom to trust has to come from outside the ledger. Give --signers FILE, in the
form of allowed signers of ssh-keygen(1), with the key that the server had when
it was set up: "git show ledger/WRITER:allowed_signers" prints it. Without it the
first key in the ledger is trusted, which proves that the ledger fits itself, not
where it comes from: somebody who can write everything could have written all of
it anew.

Records after the last checkpoint are signed by nobody yet; --max-unsigned makes
too many of them an error. That the newest records were not cut off shows only
another copy: --against URL-OR-FOLDER.

The first thing that is wrong is named first: its record, commit, file, and what
was expected.

Exit codes: 0 when all is well, 1 when something is wrong, 2 when the ledger, the
keys or the other copy could not be read.`

const auditVerifyExample = `  belay audit verify
  belay audit verify --signers ledger-keys --against https://git.example.com/ledger.git
  belay audit verify https://git.example.com/ledger.git --signers ledger-keys -o json
  belay audit verify ./ledger --repos https://git.example.com/fleet.git=./fleet`

// shownFindings is how many are printed; all are counted.
const shownFindings = 20

func newAuditVerify(env *env) *cobra.Command {
	cmd := &cobra.Command{Use: "verify [LEDGER]", Short: "Prove that a ledger is whole, unchanged and signed", Long: auditVerifyLong, Example: auditVerifyExample, Args: cobra.MaximumNArgs(1)}
	out := addOutput(cmd)
	var signers, data string
	o := verify.Options{}
	f := cmd.Flags()
	f.StringVar(&o.Against, "against", "", "another copy, a URL or folder, that must have the same history")
	f.StringVar(&signers, "signers", "", "file of allowed signers that are trusted to sign checkpoints (default: the ledger's own first key)")
	f.IntVar(&o.MaxUnsigned, "max-unsigned", -1, "how many records may stand after the last checkpoint; -1 for any number")
	f.DurationVar(&o.Tolerance, "time-tolerance", verify.DefaultTolerance, "how far time may run backwards from one record to the next")
	f.StringArrayVar(&o.Sources, "repos", nil, "repository whose commits must exist where records name them: URL, or URL=FOLDER to look in a clone; may be repeated")
	f.StringVar(&data, "data", "", "data directory of the server, whose ledger is verified when none is named (default: $XDG_DATA_HOME/belay, or ~/.local/share/belay)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Ledger = filepath.Join(cmp.Or(data, defaultDataDir()), ledgerDir)
		if len(args) == 1 {
			o.Ledger = ledgerIn(args[0])
		}
		o.Against = ledgerIn(o.Against)
		if signers != "" {
			keys, err := readSigners(signers)
			if err != nil {
				return unreadable(err)
			}
			o.Signers = keys
		}
		if _, err := os.Stat(o.Ledger); len(args) == 0 && errors.Is(err, fs.ErrNotExist) {
			return &usage{message: "there is no ledger at " + o.Ledger,
				hint: "name it or its URL (belay audit verify LEDGER), or the data directory of the server with --data"}
		}
		r, err := verify.Run(cmd.Context(), o)
		if err != nil {
			if r != nil && r.Total > 0 && *out == outputTable {
				env.printFindings(r)
			}
			return unreadable(err)
		}
		if *out != outputTable {
			err = env.write(*out, r)
		} else {
			env.printVerified(r)
		}
		if err == nil && r.Total > 0 {
			return errFound
		}
		return err
	}
	return cmd
}

// unreadable is an error that ends with the code for what cannot be read: it says
// nothing about the ledger.
func unreadable(err error) error {
	return &usage{message: err.Error(), hint: "nothing is proved, neither way: make it readable and verify again"}
}

func readSigners(file string) (*signature.Keys, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the trusted keys: %w", err)
	}
	keys, err := signature.ParseAllowedSigners(b)
	if err == nil && keys.Len() == 0 {
		err = errors.New("there is no key in it")
	}
	if err != nil {
		return nil, fmt.Errorf("read the trusted keys: %s: %w", file, err)
	}
	return keys, nil
}

// printVerified prints a report for people.
func (e *env) printVerified(r *verify.Report) {
	p := e.printer()
	e.printFindings(r)
	for i := range r.Branches {
		b := &r.Branches[i]
		fmt.Fprintf(e.stdout, "%s: %s from %s to %s, newest commit %s\n", p.Paint(term.Bold, "ledger/"+term.Clean(b.Writer)),
			term.Count(b.Records, "record"), stamp(b.First), stamp(b.Last), shortRevision(b.Head))
		if b.Checkpoints == 0 {
			fmt.Fprintf(e.stdout, "  no checkpoint: nobody signed any of it\n")
		} else {
			fmt.Fprintf(e.stdout, "  %s with a good signature, the last is %s; %s after it\n", term.Count(b.Checkpoints, "checkpoint"), term.Clean(b.LastCheckpoint), unsignedText(b.Unsigned))
		}
		for _, k := range b.Keys {
			since := "given with --signers"
			if k.Since != "" {
				since = "since " + k.Since
			}
			fmt.Fprintf(e.stdout, "  key %s of %s, %s, signed %s\n", k.Fingerprint, term.CleanLine(k.Name), term.CleanLine(since), term.Count(k.Signed, "checkpoint"))
		}
		if b.Unfinished > 0 {
			fmt.Fprintf(e.stdout, "  %s: another followed before an end was on the record, as after a crash\n", term.Count(b.Unfinished, "deployment without an end"))
		}
		if b.Remote != "" {
			fmt.Fprintf(e.stdout, "  compared with %s: %s\n", term.CleanLine(r.Against), b.Remote)
		}
	}
	if r.SourceCommits > 0 {
		fmt.Fprintf(e.stdout, "%s of sources looked up\n", term.Count(r.SourceCommits, "commit"))
	}
	if r.OwnKeys {
		fmt.Fprintf(e.stdout, "%s the keys are the ledger's own: this proves that the ledger fits itself, not where it comes from.\n", p.Paint(term.Bold, "note:"))
		fmt.Fprintf(e.stdout, "  Compare the fingerprint with what you were told when the server was set up, or give the keys with --signers.\n")
	}
	if r.Total > 0 {
		fmt.Fprintf(e.stdout, "%s: %s in %s\n", p.Paint(term.Red, "WRONG"), term.Count(r.Total, "finding"), term.Count(r.Records, "record"))
		return
	}
	fmt.Fprintf(e.stdout, "%s: nothing wrong in %s\n", p.Paint(term.Green, "verified"), term.Count(r.Records, "record"))
}

func unsignedText(n int) string {
	if n == 0 {
		return "no record stands"
	}
	if n == 1 {
		return "1 record stands unsigned"
	}
	return fmt.Sprintf("%d records stand unsigned", n)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// printFindings prints what is wrong, first things first.
func (e *env) printFindings(r *verify.Report) {
	p := e.printer()
	for i, f := range r.Findings[:min(len(r.Findings), shownFindings)] {
		where := cmp.Or(f.Record, "ledger/"+f.Writer)
		if f.Commit != "" {
			where += " (commit " + shortRevision(f.Commit) + ")"
		}
		if f.Path != "" {
			where += ": " + f.Path
		}
		word := "also wrong:"
		if i == 0 {
			word = "first thing wrong:"
		}
		fmt.Fprintf(e.stdout, "%s %s: %s\n", p.Paint(term.Red, word), term.CleanLine(where), term.CleanLine(f.Message))
		if i > 0 {
			continue
		}
		for _, x := range [][2]string{{"commit", f.Commit}, {"expected", f.Want}, {"found", f.Got}} {
			if x[1] != "" {
				fmt.Fprintf(e.stdout, "  %-9s %s\n", x[0]+":", term.Truncate(term.CleanLine(x[1]), 200))
			}
		}
	}
	if n := r.Total - shownFindings; n > 0 {
		var counts []string
		for _, check := range slices.Sorted(maps.Keys(r.ByCheck)) {
			counts = append(counts, fmt.Sprintf("%s %d", check, r.ByCheck[check]))
		}
		fmt.Fprintf(e.stdout, "and %d more; in all: %s (\"-o json\" has the first thousand)\n", n, strings.Join(counts, ", "))
	}
}
