// Package verify proves, from a ledger's objects alone, that its records are
// whole, in order, as they were written, and signed. It works offline on any
// clone, needs no server, and shares with the writer of the ledger nothing but
// the format of a record: were it the same code, both would be wrong together.
//
// Every object that a branch reaches is read and hashed here; what git says of
// the history is only a hint where to look. The repository is somebody else's:
// nothing in its configuration is run.
//
// It must not know how a ledger is written, nor who asks.
package verify

import (
	"context"
	"fmt"
	"time"

	"github.com/belaydev/belay/internal/signature"
)

// DefaultTolerance is how far time may run backwards from one record to the next:
// clocks are set, and events of one moment are not written in their order.
const DefaultTolerance = 5 * time.Minute

// most is how many findings are kept; all are counted.
const most = 1000

// Options of Run.
type Options struct {
	// Ledger is a folder with a repository, bare or not, or a URL of one.
	Ledger string
	// Against is another copy, a folder or URL, that must have the same history.
	Against string
	// Signers are the keys that are trusted to sign checkpoints. Without them the
	// first key in the ledger itself is, which proves that the ledger fits itself.
	Signers *signature.Keys
	// MaxUnsigned is how many records may stand after the last checkpoint of a
	// branch; negative for any number.
	MaxUnsigned int
	// Tolerance is how far time may run backwards; DefaultTolerance when 0.
	Tolerance time.Duration
	// Sources are repositories whose commits must be there when records name them:
	// "URL", or "URL=FOLDER" to look in a clone.
	Sources []string
	// Env are variables "NAME=value" for commands that reach a remote.
	Env []string
}

// Finding is one thing that is wrong.
type Finding struct {
	// Check names what was checked: see the constants.
	Check string `json:"check"`
	// Writer is the branch, Record the ID of the record, as far as there is one.
	Writer string `json:"writer,omitempty"`
	Record string `json:"record,omitempty"`
	Commit string `json:"commit,omitempty"`
	Path   string `json:"path,omitempty"`
	// Message says what is wrong; Want and Got what was expected and found.
	Message string `json:"message"`
	Want    string `json:"want,omitempty"`
	Got     string `json:"got,omitempty"`
}

// What is checked.
const (
	CheckObjects    = "objects"    // an object is missing or damaged
	CheckChain      = "chain"      // the records are no single chain
	CheckSequence   = "sequence"   // a number is missing or twice
	CheckRecord     = "record"     // the event itself cannot be read, or is of another writer
	CheckCommit     = "commit"     // author, date or message are not what the event says
	CheckFiles      = "files"      // the commit changes other files than the event says
	CheckManifest   = "manifest"   // a manifest is not the one that was recorded
	CheckDeployment = "deployment" // starts and ends of deployments do not fit
	CheckSignature  = "signature"  // a checkpoint's signature does not count
	CheckUnsigned   = "unsigned"   // too many records after the last checkpoint
	CheckKeys       = "keys"       // the keys were changed by somebody without one
	CheckTime       = "time"       // time runs backwards
	CheckRemote     = "remote"     // another copy has another history
	CheckSource     = "source"     // a commit of a source does not exist
)

// Branch is what was found of one writer.
type Branch struct {
	Writer  string    `json:"writer"`
	Head    string    `json:"head"`
	Records int       `json:"records"`
	First   time.Time `json:"first,omitzero"`
	Last    time.Time `json:"last,omitzero"`
	// Checkpoints counts those whose signature counts; LastCheckpoint is the ID of
	// the newest, Unsigned the number of records after it.
	Checkpoints    int    `json:"checkpoints"`
	LastCheckpoint string `json:"lastCheckpoint,omitempty"`
	Unsigned       int    `json:"unsigned"`
	// Unfinished counts deployments that another followed before an end of theirs was
	// on the record, as after a crash.
	Unfinished int `json:"unfinished,omitempty"`
	// Keys signed, or may have.
	Keys []Key `json:"keys,omitempty"`
	// Remote says how the other copy stands to this one.
	Remote string `json:"remote,omitempty"`
}

// Key is a key that was trusted.
type Key struct {
	Fingerprint string `json:"fingerprint"`
	Name        string `json:"name"`
	// Since is the record that brought it; empty for one that was given.
	Since string `json:"since,omitempty"`
	// Signed counts the checkpoints by it.
	Signed int `json:"signed"`
}

// Report is the outcome.
type Report struct {
	Ledger string `json:"ledger"`
	// OwnKeys is true when no keys were given: the ledger vouches for itself.
	OwnKeys  bool     `json:"ownKeys"`
	Against  string   `json:"against,omitempty"`
	Branches []Branch `json:"branches"`
	Records  int      `json:"records"`
	// SourceCommits counts the commits of sources that were looked up.
	SourceCommits int `json:"sourceCommits,omitempty"`
	// Total counts what is wrong; Findings are the first of them, in order.
	Total    int            `json:"total"`
	ByCheck  map[string]int `json:"byCheck,omitempty"`
	Findings []Finding      `json:"findings,omitempty"`
}

func (r *Report) add(f Finding) {
	r.Total++
	if r.ByCheck == nil {
		r.ByCheck = map[string]int{}
	}
	r.ByCheck[f.Check]++
	if len(r.Findings) < most {
		r.Findings = append(r.Findings, f)
	}
}

// Run verifies a ledger. An error means that it could not be read; what is wrong
// in what could be read stands in the report, which comes with an error too.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Tolerance == 0 {
		o.Tolerance = DefaultTolerance
	}
	report := &Report{Ledger: clean(o.Ledger), OwnKeys: o.Signers == nil}
	repo, err := open(ctx, o.Ledger, o.Env)
	if err != nil {
		return report, err
	}
	defer repo.close()
	branches, err := repo.branches(ctx, report)
	if err != nil {
		return report, err
	}
	if len(branches) == 0 && report.Total == 0 {
		return report, fmt.Errorf("%s has no branch ledger/*: it is no ledger, or an empty one", clean(o.Ledger))
	}
	v := &verifier{ctx: ctx, o: &o, repo: repo, report: report, starts: map[string]bool{}, sources: map[string]*named{}}
	defer v.close()
	for _, b := range branches {
		if err := v.branch(b); err != nil {
			return report, fmt.Errorf("read the branch ledger/%s: %w", b.writer, err)
		}
	}
	v.foreign()
	if o.Against != "" {
		report.Against = clean(o.Against)
		if err := v.against(branches); err != nil {
			return report, err
		}
	}
	return report, v.lookUpSources()
}
