package belay

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Record is one event as the ledger keeps it.
type Record struct {
	// Writer is who wrote it; its records stand on the branch ledger/WRITER.
	Writer string `json:"writer" doc:"Which server wrote it."`
	// Seq counts the records of a writer from 1, without a gap.
	Seq uint64 `json:"seq" doc:"Counts the records of its writer from 1, without a gap."`
	// Commit is the commit of the ledger that it is; the record itself does not hold it.
	Commit string `json:"commit,omitempty" doc:"Commit of the ledger that holds it."`
	// Event is what happened. Its own Seq is 0: that is of a process.
	Event Event `json:"event" doc:"What happened."`
}

// ID is how people name the record: WRITER/SEQ.
func (r *Record) ID() string { return RecordID(r.Writer, r.Seq) }

// RecordID names a record of a ledger.
func RecordID(writer string, seq uint64) string {
	return writer + "/" + strconv.FormatUint(seq, 10)
}

// ParseRecordID splits "WRITER/SEQ" or "SEQ"; of the second the writer is empty,
// which means the only one. ok is false for anything else.
func ParseRecordID(s string) (writer string, seq uint64, ok bool) {
	number := s
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		writer, number = s[:i], s[i+1:]
		if writer == "" {
			return "", 0, false
		}
	}
	if number == "" || number[0] == '0' || number[0] == '+' {
		return "", 0, false
	}
	seq, err := strconv.ParseUint(number, 10, 63)
	return writer, seq, err == nil
}

// AuthorText is text of people as a name or an address in the author of a Git
// commit: without what has a meaning in that line, and without what Git itself
// strips from both ends.
func AuthorText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == '<' || r == '>' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return strings.Trim(strings.Join(strings.Fields(s), " "), ".,:;\"\\' ")
}

// Result is how something ended.
type Result string

// The results.
const (
	Succeeded  Result = "succeeded"
	Failed     Result = "failed"
	Superseded Result = "superseded" // by a newer commit
)

// Detail is what the record has of an event beyond a line.
type Detail struct {
	// Commits are what a source brought, or a deployment brings: newest first.
	Commits []Commit `json:"commits,omitempty" doc:"Commits that it brings, newest first."`
	// MoreCommits counts those that are not listed.
	MoreCommits int `json:"moreCommits,omitempty" doc:"How many more commits it brings."`
	// Sources are the revisions of everything an application is made of.
	Sources []SourceRevision `json:"sources,omitempty" doc:"Revisions of everything the application is made of."`
	// Previous is the revision that was deployed before; empty for the first.
	Previous string `json:"previous,omitempty" doc:"Revision that was deployed before."`
	// Objects are what a deployment writes (at its start), and what became of each (at its end).
	Objects []ObjectResult `json:"objects,omitempty" doc:"Objects that are written, and what became of each."`
	// Drift says how an object departed from Git, and by whom.
	Drift *Drift `json:"drift,omitempty" doc:"How the object departed from Git, and by whom."`
	// Hold is the hold that begins or ends.
	Hold *Hold `json:"hold,omitempty" doc:"The hold that begins or ends."`
	// Manifests are what the cluster was made equal to, secret values redacted.
	// Records hold them as files; they are no part of the event itself.
	Manifests []Manifest `json:"-"`
	// Complete is true where Manifests are all that is to be on record of the
	// application, whatever was before.
	Complete bool `json:"-"`
	// Cleared is true when nothing of the application is left in the cluster.
	Cleared bool `json:"cleared,omitempty" doc:"Whether the application is gone from the cluster."`
}

// Applied are the Manifests; none of no Detail.
func (d *Detail) Applied() []Manifest {
	if d == nil {
		return nil
	}
	return d.Manifests
}

// Commit is a commit of a source.
type Commit struct {
	ID        string    `json:"id" doc:"Full id."`
	Author    string    `json:"author" doc:"Name <email> of the author."`
	Committer string    `json:"committer,omitempty" doc:"Name <email> of the committer, where that is somebody else."`
	Time      time.Time `json:"time" doc:"When it was authored."`
	Subject   string    `json:"subject" doc:"First line of its message."`
	// Reviewers are those whom its message names in Reviewed-by, Acked-by and
	// Approved-by lines, and who merged it, where that is not the author.
	Reviewers []string `json:"reviewers,omitempty" doc:"Who reviewed it, as far as its message and its merge tell."`
	// Approvers are those whom its message names in Approved-by lines.
	Approvers []string `json:"approvers,omitempty" doc:"Who approved it, as its message says."`
	// Merge is true for a commit with more than one parent.
	Merge bool `json:"merge,omitempty" doc:"Whether it merges."`
	// Signer is the key or identity of its verified signature.
	Signer string `json:"signer,omitempty" doc:"Whose signature it carries, where that was verified."`
}

// ObjectResult is one object of a deployment.
type ObjectResult struct {
	Verb Verb     `json:"verb" doc:"What is done."`
	ID   ObjectID `json:"id" doc:"The object."`
	// Hook is the phase of a hook.
	Hook HookPhase `json:"hook,omitempty" doc:"Phase of a hook."`
	// Digest identifies the manifest; for a Secret it is keyed.
	Digest string `json:"digest,omitempty" doc:"Digest of the manifest."`
	// Result is empty before it is known.
	Result Result `json:"result,omitempty" doc:"What became of it."`
	// Error says why it failed.
	Error   string  `json:"error,omitempty" doc:"Why it failed."`
	Seconds float64 `json:"seconds,omitempty" doc:"How long the write took, in seconds."`
}

// Manifest is one object as it was applied, without secret values.
type Manifest struct {
	ID ObjectID
	// Raw is JSON with sorted keys; nil takes the object out of the record.
	Raw json.RawMessage
	// File is Raw as the file that holds it on the record; nil where nobody made it yet.
	File []byte
	// SHA256 is of the file that holds it, where that is the same as on the record
	// of the deployment before; there is no Raw then, and the file stays.
	SHA256 string
}

// Deployment is one sync of one application: the record of its start and, once it
// ended, of its end.
type Deployment struct {
	// ID is the RecordID of its start.
	ID          string    `json:"id" doc:"Names the deployment: the ID of the record of its start."`
	Application string    `json:"application" doc:"Application that was deployed."`
	Project     string    `json:"project,omitempty" doc:"Its project."`
	Cluster     string    `json:"cluster" doc:"Cluster it was deployed to."`
	Repo        string    `json:"repo,omitempty" doc:"Its repository."`
	Revision    string    `json:"revision,omitempty" doc:"Commit that was deployed."`
	Change      string    `json:"change,omitempty" doc:"Commit of the config repository that led to it."`
	Previous    string    `json:"previous,omitempty" doc:"Revision that was deployed before."`
	Actor       string    `json:"actor,omitempty" doc:"Author of the commit, or who asked for it."`
	Reason      string    `json:"reason,omitempty" doc:"Why, where somebody said."`
	Message     string    `json:"message" doc:"How it stands, for people."`
	Plan        string    `json:"plan,omitempty" doc:"Digest of its plan."`
	Started     time.Time `json:"started" doc:"When it began."`
	// Ended is zero while it runs.
	Ended  time.Time `json:"ended,omitzero" doc:"When it ended."`
	Result Result    `json:"result,omitempty" doc:"How it ended: succeeded, failed or superseded; empty while it runs."`

	Sources     []SourceRevision `json:"sources,omitempty" doc:"Revisions of everything it is made of."`
	Commits     []Commit         `json:"commits,omitempty" doc:"Commits that it brought, newest first."`
	MoreCommits int              `json:"moreCommits,omitempty" doc:"How many more commits it brought."`
	Objects     []ObjectResult   `json:"objects,omitempty" doc:"Objects that it wrote."`
	// Manifests are the files of the ledger with what it applied.
	Manifests []ManifestFile `json:"manifests,omitempty" doc:"Manifests as they were applied: files of the ledger, each with its digest."`
}

// ManifestFile is a manifest in the tree of the ledger.
type ManifestFile struct {
	// Path is relative to the directory of the application.
	Path string `json:"path" doc:"Path below the directory of the application."`
	// SHA256 of the file, in hexadecimal.
	SHA256 string `json:"sha256" doc:"SHA-256 of the file."`
}

// Hold keeps an application at an earlier revision in spite of what Git says now.
// It is made by a rollback that cannot wait for Git, and always ends.
type Hold struct {
	Application string `json:"application" doc:"Application that is held."`
	Cluster     string `json:"cluster,omitempty" doc:"Its cluster."`
	// Revision it is held at, and Config the commit of the config repository whose
	// definition holds.
	Revision string `json:"revision" doc:"Revision it is held at."`
	Config   string `json:"config,omitempty" doc:"Commit of the config repository whose definition of the application holds."`
	// Sources are where everything stood that the application was made of.
	Sources []SourceRevision `json:"sources,omitempty" doc:"Revisions of everything it was made of."`
	// Desired is the digest of the state that it is held at.
	Desired string `json:"desired,omitempty" doc:"Digest of the desired state that it is held at."`
	// Bad is the revision that was rolled back, Digest what it desired: the same is
	// not tried again.
	Bad    string `json:"bad,omitempty" doc:"Revision that was rolled back."`
	Digest string `json:"digest,omitempty" doc:"Digest of the desired state that was rolled back."`
	By     string `json:"by" doc:"Who holds it."`
	Reason string `json:"reason" doc:"Why."`
	// Automatic is true for one that Belay made because a deployment went wrong.
	Automatic bool      `json:"automatic,omitempty" doc:"Whether Belay made it because a deployment went wrong."`
	Since     time.Time `json:"since" doc:"Since when."`
	Until     time.Time `json:"until" doc:"When it ends by itself."`
	// Commit is the commit that will end it once it is in Git; Branch where it
	// waits to be merged.
	Commit string `json:"commit,omitempty" doc:"Commit that restores the inputs in Git."`
	Branch string `json:"branch,omitempty" doc:"Branch on which that commit waits to be merged."`
}
