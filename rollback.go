package belay

import "time"

// TreeEntry is what stands at one path of a commit; links are not followed. The
// zero value is nothing.
type TreeEntry struct {
	// Mode as Git writes it: 100644, 100755, 120000, 160000 or 40000.
	Mode string
	// ID of the object.
	ID string
}

// The modes of a [TreeEntry].
const (
	ModeFile      = "100644"
	ModeExec      = "100755"
	ModeLink      = "120000"
	ModeSubmodule = "160000"
	ModeDir       = "40000"
)

// IsDir says whether it is a directory.
func (e TreeEntry) IsDir() bool { return e.Mode == ModeDir }

// IsFile says whether it is a regular file, executable or not.
func (e TreeEntry) IsFile() bool { return e.Mode == ModeFile || e.Mode == ModeExec }

// TreeEdit makes one path of a commit something else.
type TreeEdit struct {
	// Path of a file, link or submodule.
	Path string
	// Entry that it becomes; the zero value removes it. Without an ID it is a file
	// with Content.
	Entry   TreeEntry
	Content []byte
}

// NewCommit is a commit to be made.
type NewCommit struct {
	// Parent is the commit that it changes.
	Parent string
	Edits  []TreeEdit
	// Author is "Name <address>", or a name; Committer likewise, Belay itself for "".
	Author, Committer string
	Message           string
	// Sign makes of a raw commit one with a signature; nil leaves it as it is.
	Sign func(raw []byte) (signed []byte, err error)
}

// CommitSigner is whose signature the commits of a server have.
type CommitSigner struct {
	// Committer of the commits, "Name <address>".
	Committer string `json:"committer" doc:"Committer of the commits that this server makes, as Name <address>."`
	// Key is the public key.
	Key string `json:"key" doc:"Public SSH key that signs them: what spec.signatures.signers of a Project and forges take."`
	// Fingerprint of the key, as ssh-keygen(1) prints it.
	Fingerprint string `json:"fingerprint" doc:"Fingerprint of the key, as ssh-keygen prints it."`
	// AllowedSigner is the key as a line of a file of allowed signers.
	AllowedSigner string `json:"allowedSigner" doc:"The same as a line of a file of allowed signers."`
}

// String is "NAME <ADDRESS> (FINGERPRINT)".
func (s CommitSigner) String() string { return s.Committer + " (" + s.Fingerprint + ")" }

// RollbackRequest asks that applications become what they were at an earlier
// revision. Either To or Change is set.
type RollbackRequest struct {
	// To is a revision of the application, or the ID of a deployment.
	To string `json:"to,omitempty" doc:"Revision to go back to, which may be abbreviated, or the ID of a deployment." maxLength:"256"`
	// Change rolls back together what this commit of the config repository changed,
	// each application to what it had before.
	Change string `json:"change,omitempty" doc:"Commit whose applications go back together, each to what it had before." maxLength:"256"`
	// Reason is why; a hold needs one.
	Reason string `json:"reason,omitempty" doc:"Why, for the record. With now it is required." maxLength:"1024"`
	// DryRun tells what would be done.
	DryRun bool `json:"dryRun,omitempty" doc:"Only tell what would be done."`
	// Now holds the application at the revision at once.
	Now bool `json:"now,omitempty" doc:"Hold the application at that revision at once, until Git says the same."`
	// For is how long a hold lasts at most, a Go duration. Default 24h.
	For string `json:"for,omitempty" doc:"How long a hold lasts at most, such as 4h; 24h by default, 720h at most."`
	// HoldOnly makes no commit.
	HoldOnly bool `json:"holdOnly,omitempty" doc:"With now: make no commit."`
	// Author of the commit, "Name <address>".
	Author string `json:"author,omitempty" doc:"Author of the commit, as Name <address>." maxLength:"256"`
	// Others are the applications that may change with it.
	Others []string `json:"others,omitempty" doc:"Other applications that may change with it. One that is not listed refuses the request."`
}

// Rollback is what a rollback does, or did.
type Rollback struct {
	// Applications that go back.
	Applications []RolledBack `json:"applications" doc:"Applications that go back, sorted by name."`
	// Commits are one for each branch of a repository.
	Commits []RollbackCommit `json:"commits" doc:"Commits that bring that about, one for each branch of a repository."`
	// Others are applications whose desired state changes with it.
	Others []RollbackOther `json:"others,omitempty" doc:"Other applications that change with it, sorted by name."`
	// Notes are what people should know.
	Notes []string `json:"notes,omitempty" doc:"What is to be known of it."`
	// Previews are what changes in the clusters; only of a dry run.
	Previews []Preview `json:"previews,omitempty" doc:"What would change in the clusters; only of a dry run."`
	// Hold is the one that began, or would; of several applications the first one's.
	Hold *Hold `json:"hold,omitempty" doc:"The hold that begins with it; of several applications that of the first."`
	// Problem is why there is a hold and no commit, or why the commit of a dry run
	// would not be pushed.
	Problem *Error `json:"problem,omitempty" doc:"Why no commit was made although the hold began; of a dry run, why none would be pushed."`
}

// RolledBack is one application that goes back.
type RolledBack struct {
	Application string `json:"application" doc:"Name of the application."`
	// Revision that it goes back to, and that it is at.
	Revision string `json:"revision" doc:"Revision that it goes back to."`
	From     string `json:"from" doc:"Revision that it leaves."`
	// Config is the commit of the config repository whose definition comes back.
	Config     string `json:"config,omitempty" doc:"Commit of the config repository whose definition comes back."`
	Deployment string `json:"deployment,omitempty" doc:"Deployment that it goes back to."`
	// Digest of the desired state then.
	Digest string `json:"digest" doc:"Digest of its desired state at that revision."`
	// Held is true where a hold begins with it, or would.
	Held bool `json:"held,omitempty" doc:"Whether it is held there."`
	// Same is true where nothing has to change.
	Same bool `json:"same,omitempty" doc:"Whether Git says the same already."`
}

// RollbackCommit is a commit of a rollback.
type RollbackCommit struct {
	Repo string `json:"repo" doc:"URL of the repository, without credentials."`
	// Branch that it is pushed to, and that it is to be merged into, if that is another.
	Branch string        `json:"branch" doc:"Branch that it is pushed to."`
	Into   string        `json:"into,omitempty" doc:"Branch that it is to be merged into, where it is pushed to one of its own."`
	Parent string        `json:"parent" doc:"Commit that it follows."`
	Commit string        `json:"commit" doc:"The commit; known before it is pushed."`
	Files  []ChangedFile `json:"files" doc:"Files that it changes."`
	Pushed bool          `json:"pushed,omitempty" doc:"Whether it was pushed."`
	// Signer is who signed it; Unsigned is why nobody did.
	Signer   string `json:"signer,omitempty" doc:"Committer and key that signed it. A patch of it has no signature."`
	Unsigned string `json:"unsigned,omitempty" doc:"Why it is not signed, where it is not."`
	// MustBeSigned is true where it is deployed only with a signature.
	MustBeSigned bool `json:"mustBeSigned,omitempty" doc:"Whether commits of that branch have to be signed to be deployed."`
	// Compare is where a pull request is opened.
	Compare string `json:"compare,omitempty" doc:"Page on which a pull request can be opened."`
	Message string `json:"message,omitempty" doc:"Message of the commit."`
	// Patch is the commit as git am takes it; only of a dry run.
	Patch string `json:"patch,omitempty" doc:"The commit as git am takes it; only of a dry run."`
}

// ChangedFile is a file that a commit changes.
type ChangedFile struct {
	Path string `json:"path" doc:"Path in the repository."`
	// Change is added, changed or removed.
	Change string `json:"change" doc:"added, changed or removed."`
}

// RollbackOther is an application that changes although nobody asked for it.
type RollbackOther struct {
	Application string `json:"application" doc:"Name of the application."`
	// Message says what changes.
	Message string `json:"message" doc:"What changes of it."`
}

// RollbackTarget is something to go back to.
type RollbackTarget struct {
	Revision   string    `json:"revision" doc:"Revision of the application."`
	Deployment string    `json:"deployment,omitempty" doc:"Deployment of that revision, where one is on record."`
	Time       time.Time `json:"time" doc:"When it was deployed, or committed where that is not on record."`
	Author     string    `json:"author,omitempty" doc:"Author of the commit."`
	Subject    string    `json:"subject,omitempty" doc:"First line of its message, or how the deployment stands."`
	Result     Result    `json:"result,omitempty" doc:"How the deployment ended."`
	// Current is what Git says now.
	Current bool `json:"current,omitempty" doc:"Whether it is what Git says now."`
}

// ReleaseRequest ends a hold.
type ReleaseRequest struct {
	Reason string `json:"reason,omitempty" doc:"Why, for the record." maxLength:"1024"`
}

// Bounds of a [Hold].
const (
	DefaultHold = 24 * time.Hour
	MostHold    = 30 * 24 * time.Hour
)

// RollbackPolicy says how the commit of a rollback comes into a repository.
type RollbackPolicy struct {
	// Push is "branch" or "pullRequest". Default branch.
	Push string `json:"push,omitempty" doc:"branch pushes the commit to the branch that is followed; pullRequest pushes it to a branch of its own, to be merged by people."`
	// BranchPrefix begins the names of branches for pull requests. Default "belay/rollback-".
	BranchPrefix string `json:"branchPrefix,omitempty" doc:"What the name of a branch for a pull request begins with."`
}

// The ways of [RollbackPolicy].
const (
	PushBranch      = "branch"
	PushPullRequest = "pullRequest"
)

// DefaultRollbackPolicy is what a Project means where it says nothing.
func DefaultRollbackPolicy() RollbackPolicy {
	return RollbackPolicy{Push: PushBranch, BranchPrefix: "belay/rollback-"}
}

// AutomaticRollback says when an application goes back by itself.
type AutomaticRollback struct {
	// Window is how long a deployment is watched from its begin, a Go duration. Default 10m.
	Window string `json:"window,omitempty" doc:"How long a deployment is watched from its start: when the application turns Degraded or the deployment fails within it, the application goes back."`
	// Hold is how long the application is held then, a Go duration. Default 24h.
	Hold string `json:"hold,omitempty" doc:"How long the application is held at the earlier revision at most."`
}

// DefaultAutomaticRollback is what `rollback: {}` means.
func DefaultAutomaticRollback() AutomaticRollback {
	return AutomaticRollback{Window: "10m", Hold: "24h"}
}
