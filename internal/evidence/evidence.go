// Package evidence makes of the record what an auditor and a team ask of it: every
// change of a period with its authors, its reviewers and its deployments, what
// departed from the practice, and the figures of delivery.
//
// It is a function of records. The same records give the same report whenever it is
// made: what happened after the period is not looked at. It must not know how the
// record is kept, and never reads the clock.
package evidence

import (
	"time"

	"github.com/belaydev/belay"
)

// Version is that of the form of reports for programs.
const Version = 1

// Period is a span of time, its end not included. Days are those of From's zone.
type Period struct {
	From time.Time `json:"from" doc:"When it begins."`
	To   time.Time `json:"to" doc:"When it ends; that moment is no longer part of it."`
}

// Contains tells whether a moment is part of the period.
func (p Period) Contains(t time.Time) bool { return !t.Before(p.From) && t.Before(p.To) }

// Days is how long it is.
func (p Period) Days() float64 { return p.To.Sub(p.From).Hours() / 24 }

// Scope narrows a report; what is empty does not.
type Scope struct {
	Application string `json:"application,omitempty" doc:"Only this application."`
	Project     string `json:"project,omitempty" doc:"Only applications of this project."`
	Cluster     string `json:"cluster,omitempty" doc:"Only what was delivered to this cluster."`
}

// Fleet tells whether it narrows nothing.
func (s Scope) Fleet() bool { return s == Scope{} }

func (s Scope) admits(application, project, cluster string) bool {
	return (s.Application == "" || s.Application == application) && (s.Project == "" || s.Project == project) &&
		(s.Cluster == "" || s.Cluster == cluster)
}

// Report is the evidence of a period.
type Report struct {
	Period     Period      `json:"period" doc:"What it covers."`
	Scope      Scope       `json:"scope" doc:"What it was narrowed to."`
	Heads      []Head      `json:"heads" doc:"The newest record of the period, of each writer."`
	Summary    Summary     `json:"summary" doc:"Its counts."`
	Exceptions []Exception `json:"exceptions" doc:"What departed from the practice, oldest first."`
	Changes    []*Change   `json:"changes" doc:"Every change that was deployed, oldest first."`
	Metrics    []Metrics   `json:"metrics" doc:"Figures of delivery: of the whole first, then of projects, then of applications."`
}

// Head is the newest record of a writer: with it whoever has the ledger finds what a
// report was made of.
type Head struct {
	Writer string `json:"writer" doc:"Which server wrote it."`
	Seq    uint64 `json:"seq" doc:"Number of the record."`
	Commit string `json:"commit,omitempty" doc:"Commit of the ledger that it is."`
}

// Summary counts what a report holds.
type Summary struct {
	Changes      int `json:"changes" doc:"Changes that were deployed."`
	Reviewed     int `json:"reviewed" doc:"Changes all of whose commits were reviewed by somebody else than their author."`
	Commits      int `json:"commits" doc:"Commits of these changes."`
	Authors      int `json:"authors" doc:"People who wrote them."`
	Deployments  int `json:"deployments" doc:"Deployments of these changes, one for each application and cluster."`
	Succeeded    int `json:"succeeded" doc:"Deployments that succeeded."`
	Failed       int `json:"failed" doc:"Deployments that failed and were not brought home by a retry."`
	Superseded   int `json:"superseded" doc:"Deployments whose place a newer commit took."`
	Running      int `json:"running" doc:"Deployments that had not ended when the period did."`
	Applications int `json:"applications" doc:"Applications that were deployed."`
	Clusters     int `json:"clusters" doc:"Clusters that were deployed to."`
	Records      int `json:"records" doc:"Records of the period that were read."`
	// Exceptions by kind.
	Exceptions map[ExceptionKind]int `json:"exceptions" doc:"Exceptions by their kind."`
}

// Review says what the record knows of the review of a change.
type Review string

// What is known of a review.
const (
	// Reviewed: each commit names somebody else than its author.
	Reviewed Review = "reviewed"
	// SelfApproved: of some commit only its author is named.
	SelfApproved Review = "selfApproved"
	// Unreviewed: some commit names nobody.
	Unreviewed Review = "unreviewed"
	// ReviewUnknown: the record holds no commit of it.
	ReviewUnknown Review = "unknown"
	// NoReview: it is nothing that somebody wrote: a return to an earlier state.
	NoReview Review = "none"
)

// Change is a commit that led to deployments.
type Change struct {
	// ID is the commit, or the digest of an artifact.
	ID string `json:"id" doc:"Commit that led to the deployments, or digest of an artifact; the ID of the deployment where neither is known."`
	// Repo is its repository; empty for the repository of the definitions, where the
	// record does not name it.
	Repo    string `json:"repo,omitempty" doc:"Repository of the commit, where the record names it."`
	Subject string `json:"subject,omitempty" doc:"First line of its message."`
	Author  string `json:"author,omitempty" doc:"Who wrote it."`
	Review  Review `json:"review" doc:"What is known of its review: reviewed, selfApproved, unreviewed, unknown or none."`
	// Commits that it brought, newest first; each stands with the first change that
	// brought it.
	Commits     []belay.Commit `json:"commits,omitempty" doc:"Commits that it brought, newest first; each stands with the first change that brought it."`
	MoreCommits int            `json:"moreCommits,omitempty" doc:"How many more commits it brought that the record does not list."`
	Reviewers   []string       `json:"reviewers,omitempty" doc:"Who reviewed any of it, authors of their own commits left out."`
	Approvers   []string       `json:"approvers,omitempty" doc:"Who approved any of it, authors of their own commits left out."`
	// Deliveries are its deployments, oldest first.
	Deliveries []*Delivery `json:"deployments" doc:"Its deployments, oldest first."`
}

// First is when its first deployment of the period began, or ended if that alone is known.
func (c *Change) First() time.Time { return c.Deliveries[0].when() }

// DeliveryKind says what a deployment was for.
type DeliveryKind string

// What deployments are for.
const (
	// Deploys brings something new.
	Deploys DeliveryKind = "deploy"
	// RollsBack brings back an earlier state.
	RollsBack DeliveryKind = "rollback"
	// TearsDown deletes an application that left Git.
	TearsDown DeliveryKind = "teardown"
	// Heals sets back what somebody changed in the cluster; no change of Git.
	Heals DeliveryKind = "heal"
	// DoesNothing found everything as it should be.
	DoesNothing DeliveryKind = "nothing"
)

// Delivery is one deployment, as far as the period knows it.
type Delivery struct {
	ID          string       `json:"id" doc:"Names the deployment: the ID of the record of its start."`
	Kind        DeliveryKind `json:"kind" doc:"What it was for: deploy, rollback or teardown."`
	Application string       `json:"application" doc:"Application that was deployed."`
	Project     string       `json:"project,omitempty" doc:"Its project."`
	Cluster     string       `json:"cluster" doc:"Cluster it was deployed to."`
	Revision    string       `json:"revision,omitempty" doc:"Commit that was deployed."`
	Previous    string       `json:"previous,omitempty" doc:"Commit that was deployed before."`
	Actor       string       `json:"actor,omitempty" doc:"Author of the commit, or who asked for it."`
	Reason      string       `json:"reason,omitempty" doc:"Why, where somebody said."`
	Plan        string       `json:"plan,omitempty" doc:"Digest of the plan that was carried out."`
	Message     string       `json:"message,omitempty" doc:"How it ended, for people."`
	Started     time.Time    `json:"started,omitzero" doc:"When it began."`
	Ended       time.Time    `json:"ended,omitzero" doc:"When it ended; absent while it ran at the end of the period."`
	Result      belay.Result `json:"result,omitempty" doc:"How it ended: succeeded, failed or superseded."`
	// Failures counts the times that it failed before it ended.
	Failures int `json:"failures,omitempty" doc:"How often it failed, the end included."`
	Objects  int `json:"objects,omitempty" doc:"How many objects it wrote."`
	// Hooks are what ran before, among and after the writes: tests, migrations.
	Hooks []HookResult `json:"hooks,omitempty" doc:"Hooks that ran, with their outcome."`
	// Health is what the application came to after it.
	Health belay.Health `json:"health,omitempty" doc:"Health that the application came to after it, as far as the record tells."`
	// Trouble says why it counts as failed.
	Trouble Trouble `json:"trouble,omitempty" doc:"Why it counts as a failed change: failed, degraded or rolledBack."`
	// TroubleAt is the first sign of that, RestoredAt its end.
	TroubleAt  time.Time `json:"troubleAt,omitzero" doc:"First sign of that."`
	RestoredAt time.Time `json:"restoredAt,omitzero" doc:"When it was overcome; absent if it was not by the end of the period."`
	Records    []string  `json:"records" doc:"Records that tell of it."`

	repo, change string
	began        bool    // its start is known
	commits      []int32 // that it brings, newest first
	arrived      []int32 // that it brought home
	more         int
	attention    bool // a health that comes now is its outcome
	sickBefore   bool // the application was degraded before it, and was not healthy since
}

// Trouble is why a deployment counts as a failed change.
type Trouble string

// The troubles.
const (
	TroubleFailed     Trouble = "failed"
	TroubleDegraded   Trouble = "degraded"
	TroubleRolledBack Trouble = "rolledBack"
)

// HookResult is the outcome of a hook.
type HookResult struct {
	Object string          `json:"object" doc:"The object that ran."`
	Phase  belay.HookPhase `json:"phase" doc:"When it ran."`
	Result belay.Result    `json:"result,omitempty" doc:"Its outcome, where that is on the record."`
	Error  string          `json:"error,omitempty" doc:"Why it failed."`
}

// ExceptionKind sorts exceptions.
type ExceptionKind string

// The kinds of exceptions, in the order in which a report shows them.
const (
	ExcUnreviewed   ExceptionKind = "unreviewed"
	ExcSelfApproved ExceptionKind = "selfApproved"
	ExcUnknown      ExceptionKind = "unknownReview"
	ExcManual       ExceptionKind = "manualChange"
	ExcHold         ExceptionKind = "hold"
	ExcOverride     ExceptionKind = "windowOverride"
	ExcRewritten    ExceptionKind = "rewrittenHistory"
	ExcRefused      ExceptionKind = "refusedSignature"
	ExcUnverified   ExceptionKind = "unverified"
	ExcDenied       ExceptionKind = "deniedAccess"
	ExcFailed       ExceptionKind = "failed"
	ExcSuperseded   ExceptionKind = "superseded"
)

// ExceptionKinds lists every kind.
func ExceptionKinds() []ExceptionKind {
	return []ExceptionKind{ExcUnreviewed, ExcSelfApproved, ExcUnknown, ExcManual, ExcHold, ExcOverride, ExcRewritten,
		ExcRefused, ExcUnverified, ExcDenied, ExcFailed, ExcSuperseded}
}

// Exception is something that departed from the practice.
type Exception struct {
	Kind        ExceptionKind `json:"kind" doc:"What kind it is."`
	Time        time.Time     `json:"time" doc:"When it was, or began."`
	Until       time.Time     `json:"until,omitzero" doc:"When it ended, where it ends: a manual change was set back, a hold released."`
	Application string        `json:"application,omitempty" doc:"Application it is about."`
	Project     string        `json:"project,omitempty" doc:"Its project."`
	Cluster     string        `json:"cluster,omitempty" doc:"Cluster it is about."`
	Object      string        `json:"object,omitempty" doc:"Object it is about."`
	Fields      []string      `json:"fields,omitempty" doc:"Fields that were changed, removed or added."`
	Repo        string        `json:"repo,omitempty" doc:"Repository it is about."`
	Change      string        `json:"change,omitempty" doc:"Change or commit it is about."`
	Who         string        `json:"who,omitempty" doc:"Who did it: a person, or the tool for changes in a cluster."`
	What        string        `json:"what" doc:"What happened, for people."`
	Reason      string        `json:"reason,omitempty" doc:"The reason that was given."`
	Records     []string      `json:"records" doc:"Records that show it."`
	// MoreRecords counts those left out.
	MoreRecords int `json:"moreRecords,omitempty" doc:"How many more records show it."`
}

// Lasted is how long it lasted; zero where it has no end.
func (e *Exception) Lasted() time.Duration {
	if e.Until.IsZero() {
		return 0
	}
	return e.Until.Sub(e.Time)
}
