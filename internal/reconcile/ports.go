// Package reconcile keeps clusters equal to Git. It is the only orchestrator: it
// learns that a ref moved, a definition changed, an object drifted, a timer ran
// out or a person asked, finds the applications that this touches, and takes
// each of them through render, plan and apply.
//
// It is level-triggered: every pass starts from what Git says and what the
// cluster shows now, so a lost or doubled wake-up, a crash or a restart changes
// nothing but the time. It must not know how Git, rendering or a cluster work;
// the interfaces below are all it asks of them.
package reconcile

import (
	"context"
	"io/fs"

	"github.com/belaydev/belay"
)

// Files is the tree of one commit.
type Files interface {
	ReadFile(path string) ([]byte, error)
	ReadDir(path string) ([]fs.DirEntry, error)
	Stat(path string) (fs.FileInfo, error)
	// Digest identifies what a read of that kind would return.
	Digest(kind belay.ReadKind, path string) (string, error)
}

// Sources are the Git repositories that are followed.
type Sources interface {
	// Configure sets how the repositories are reached and which refs are followed.
	Configure(repos []belay.Repository, refs map[string][]string)
	// Strangers names the repositories that nobody declared, and that are followed
	// because files name them: they must not lead into the local network. It is
	// called before the Configure that follows them.
	Strangers(urls []string)
	// Revision is the last good commit of a ref, without asking the remote. With a
	// current problem both the revision (if any) and the error are returned.
	Revision(url, ref string) (belay.Revision, error)
	// Looked says whether a repository was asked yet, with success or not.
	Looked(url string) bool
	// Resolve asks the remote what a ref means now, followed or not.
	Resolve(ctx context.Context, url, ref string) (belay.Revision, error)
	// Open gives the tree of a commit.
	Open(ctx context.Context, url, commit string) (Files, error)
	// Diff lists the paths that differ between two commits.
	Diff(ctx context.Context, url, from, to string) ([]belay.PathChange, error)
	// Removal finds the commit that removed the last line matching a regular
	// expression below a path, and its parent, which still has the line.
	Removal(ctx context.Context, url, commit, path, expr string) (parent string, found bool, err error)
	// History lists up to most commits at or before a commit that changed
	// something below any of the paths, newest first.
	History(ctx context.Context, url, commit string, paths []string, most int) ([]string, error)
	// Commits lists the commits that to has and from has not, newest first and most
	// at most: only those that changed something below one of paths, if any are
	// given, and to alone for from "". What is no Git has none.
	Commits(ctx context.Context, url, from, to string, paths []string, most int) (Brought, error)
	// LastChange finds the newest commit at or before commit that brought or removed
	// a line matching a regular expression below a path.
	LastChange(ctx context.Context, url, commit, path, expr string) (c belay.Commit, found bool, err error)
	// Poke looks at a repository at once, or at all for "". It returns how many
	// repositories that is, and does not wait.
	Poke(url string) int
	// Check looks at a repository and returns when it is up to date.
	Check(ctx context.Context, url string) error
	Status() []belay.RepositoryStatus
}

// Brought are commits that one commit builds on and another does not.
type Brought struct {
	// Commits are newest first.
	Commits []belay.Commit
	// Firsts are their first parents; "" for a root.
	Firsts []string
	// More counts those that are not listed.
	More int
}

// Index finds the applications that a change of paths touches.
type Index interface {
	Set(application string, reads []belay.Read)
	Remove(application string)
	Affected(changes []belay.PathChange) []string
	// Paths are those that an application reads.
	Paths(application string) []string
}

// RenderRequest is everything a render depends on beside the files.
type RenderRequest struct {
	Application string
	Source      belay.Source
	Namespace   string
	KubeVersion string
	APIVersions []string
	// Project is named in errors; Decryption are its keys, if it has any.
	Project    string
	Decryption *belay.Decryption
	// Patches and Variables of the application change what was rendered.
	Patches        []belay.Patch
	Variables      *belay.Variables
	Repo, Revision string
	// Definition is where the application is declared.
	Definition belay.Origin
	// Full asks for manifests with their secret values; without it a cache may
	// return redacted ones.
	Full bool
}

// Rendered is the outcome of a render.
type Rendered struct {
	Objects []belay.Object
	Reads   []belay.Read
	// UsesCapabilities is true when the output depends on the cluster's API versions.
	UsesCapabilities bool
	Warnings         []string
	// Unfit are the indexes of patches that fit no object.
	Unfit []int
	// Cached is true when nothing was rendered.
	Cached bool
}

// Renderer turns files into objects.
type Renderer interface {
	// With an error, Rendered.Reads are set as far as they are known: the error
	// stands as long as they do.
	Render(ctx context.Context, files Files, req RenderRequest) (Rendered, error)
}

// Cluster is one cluster that is delivered to. All methods but Apply, Delete,
// EnsureNamespace, Event and Preview answer from memory.
type Cluster interface {
	// Run keeps the connection and the observation up until ctx ends.
	Run(ctx context.Context) error
	// Ready is nil once everything that Belay owns in the cluster is known.
	Ready() error
	// Tried is true once it is known whether the cluster answers.
	Tried() bool
	Status() belay.ClusterStatus
	Facts() belay.ClusterFacts
	// Coming is true while a kind of the group is defined, but not served yet.
	Coming(group string) bool
	// Observe has kinds watched; it is true when all of them are known.
	Observe(kinds []belay.VersionKind) bool
	Live(application string) []belay.Live
	Lookup(id belay.ObjectID) (belay.Live, bool)
	Applications() []string
	// SetHealthRules says how health is told; kinds for which that differs from
	// before are looked at again.
	SetHealthRules(checks belay.HealthChecks)
	// Verified says that the managers behind a fingerprint were found right.
	Verified(id belay.ObjectID, fingerprint string)
	// Apply writes one object and returns it as it is now.
	Apply(ctx context.Context, permit belay.Permit, a belay.Action) (belay.Live, error)
	Delete(ctx context.Context, permit belay.Permit, live belay.Live) error
	// EnsureNamespace makes the namespace that the permit is for, if it is missing, and
	// gives one that was made for the same application the labels and annotations.
	EnsureNamespace(ctx context.Context, permit belay.Permit, meta belay.NamespaceMetadata) error
	// NamespaceDiffers says, from memory, whether one that was made for an application
	// does not carry what is declared.
	NamespaceDiffers(application, name string, meta belay.NamespaceMetadata) bool
	// Event tells people who look at an object with other tools what Belay did, or
	// could not do, with it. It is best effort.
	Event(ctx context.Context, id belay.ObjectID, warning bool, reason, message string)
	// Preview is the live manifest and what the action would make of it.
	Preview(ctx context.Context, permit belay.Permit, a belay.Action) (belay.Outcome, error)
}

// Connector makes the adapter of a declared cluster. interactive are the field
// managers whose additions count as drift; notify is called when live state
// changed, with the applications it belongs to, or all.
type Connector interface {
	Connect(ctx context.Context, def belay.Cluster, interactive []string, notify func(applications []string, all bool)) (Cluster, error)
}

// Recorder takes events: for those who watch, and for the record. What it
// remembers of the record outlives the process.
type Recorder interface {
	// Publish takes an event without waiting for anything.
	Publish(belay.Event)
	// Record returns the ID of an event's record once that can no longer be lost. On
	// an error it is not on the record, and what it announces must not happen.
	Record(ctx context.Context, ev belay.Event) (id string, err error)
	// Running are the deployments that began and did not succeed yet, of every life
	// of the server.
	Running() []belay.Deployment
	// Holds are those in force.
	Holds() []belay.Hold
	// Source is the commit that a ref was seen at last, "" for none.
	Source(repo, ref string) string
	// Deployed is the latest deployment of an application, of every life of the
	// server; one without an ID where there is none.
	Deployed(ctx context.Context, cluster, application string) (belay.Deployment, error)
}
