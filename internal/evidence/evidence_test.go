package evidence

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
)

var day0 = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// month is a period of thirty days.
var month = Period{From: day0, To: day0.AddDate(0, 0, 30)}

const (
	ada   = "Ada Byron <ada@example.com>"
	grace = "Grace Hopper <grace@example.com>"
	linus = "Linus <linus@example.com>"
)

// history writes records as the engine does.
type history struct {
	records []belay.Record
	now     time.Time
}

func newHistory() *history { return &history{now: day0.Add(10 * time.Hour)} }

func (h *history) wait(d time.Duration) *history { h.now = h.now.Add(d); return h }

func (h *history) add(ev belay.Event) string {
	ev.Time = h.now
	if ev.Application != "" {
		if ev.Cluster == "" {
			ev.Cluster = "prod"
		}
		if ev.Project == "" {
			ev.Project = "shop"
		}
	}
	h.records = append(h.records, belay.Record{Writer: "w", Seq: uint64(len(h.records) + 1), Event: ev})
	return h.records[len(h.records)-1].ID()
}

// start begins the deployment of commits; the first is the revision and the change.
func (h *history) start(app, previous string, commits ...belay.Commit) string {
	return h.startEvent(belay.Event{Application: app, Revision: commits[0].ID, Change: commits[0].ID, Actor: commits[0].Author,
		Detail: &belay.Detail{Previous: previous, Commits: commits, Objects: []belay.ObjectResult{{Verb: belay.VerbUpdate, ID: belay.ObjectID{Kind: "ConfigMap", Name: "c"}}}}})
}

func (h *history) startEvent(ev belay.Event) string {
	ev.Type, ev.Message, ev.Repo = belay.EventSyncStarted, "sync", "https://git.example.com/fleet.git"
	return h.add(ev)
}

func (h *history) end(id string, result belay.Result) string {
	_, seq, _ := belay.ParseRecordID(id)
	began := h.records[seq-1].Event
	typ := map[belay.Result]belay.EventType{belay.Succeeded: belay.EventSynced, belay.Failed: belay.EventSyncFailed, belay.Superseded: belay.EventSuperseded}[result]
	return h.add(belay.Event{Type: typ, Application: began.Application, Cluster: began.Cluster, Project: began.Project, Revision: began.Revision,
		Change: began.Change, Deployment: id, Result: result, Message: string(result)})
}

// deploy is a deployment of a minute.
func (h *history) deploy(app, previous string, result belay.Result, commits ...belay.Commit) string {
	id := h.start(app, previous, commits...)
	h.wait(time.Minute).end(id, result)
	return id
}

func (h *history) health(app string, now, was belay.Health) {
	h.add(belay.Event{Type: belay.EventHealth, Application: app, Message: fmt.Sprintf("%s, was %s: why", now, was)})
}

// commit is one authored an hour before now.
func (h *history) commit(id, author string, reviewers ...string) belay.Commit {
	return belay.Commit{ID: id, Author: author, Time: h.now.Add(-time.Hour), Subject: "change " + id, Reviewers: reviewers}
}

func (h *history) report(s Scope) *Report { return h.reportOf(month, s) }

func (h *history) reportOf(p Period, s Scope) *Report {
	c := Collect(p, s)
	for i := range h.records {
		c.Add(&h.records[i])
	}
	return c.Report()
}

func kinds(r *Report) string {
	var out []string
	for i := range r.Exceptions {
		out = append(out, string(r.Exceptions[i].Kind))
	}
	return strings.Join(out, " ")
}

func find(t *testing.T, r *Report, k ExceptionKind) *Exception {
	t.Helper()
	for i := range r.Exceptions {
		if r.Exceptions[i].Kind == k {
			return &r.Exceptions[i]
		}
	}
	t.Fatalf("no exception %s among %q", k, kinds(r))
	return nil
}

func TestReviews(t *testing.T) {
	h := newHistory()
	c := func(reviewers ...string) belay.Commit { return h.commit("c1", ada, reviewers...) }
	approved := c()
	approved.Approvers = []string{grace}
	merge := func(author string, reviewers ...string) belay.Commit {
		m := h.commit("m1", author, reviewers...)
		m.Merge = true
		return m
	}
	unsaid := c(grace)
	unsaid.Author = ""
	for _, tt := range []struct {
		name    string
		commits []belay.Commit
		want    Review
	}{
		{"pushed", []belay.Commit{c()}, Unreviewed},
		{"reviewed by another", []belay.Commit{c(grace)}, Reviewed},
		{"approved by another", []belay.Commit{approved}, Reviewed},
		{"only by the author", []belay.Commit{c(ada)}, SelfApproved},
		{"by the author's address in capitals", []belay.Commit{c("A. B. <ADA@Example.com>")}, SelfApproved},
		{"by the author's name under another address", []belay.Commit{c("ada  byron <ada@home.example>")}, SelfApproved},
		{"by the author's bare address", []belay.Commit{c("ada@example.com")}, SelfApproved},
		{"by the author and another", []belay.Commit{c(ada, grace)}, Reviewed},
		{"one of two pushed", []belay.Commit{h.commit("c2", grace, ada), c()}, Unreviewed},
		{"a merge beside what it merges", []belay.Commit{merge(ada), c(grace)}, Reviewed},
		{"a merge of what nobody reviewed", []belay.Commit{merge(grace, ada), c()}, Unreviewed},
		{"a merge alone by another", []belay.Commit{merge(ada, grace)}, Reviewed},
		{"a merge alone", []belay.Commit{merge(ada)}, SelfApproved},
		{"merged by its author", []belay.Commit{merge("ADA Byron <a@b.example>"), c()}, SelfApproved},
		{"merged by another, as the engine tells it", []belay.Commit{merge(grace), c(grace)}, Reviewed},
		{"author not known", []belay.Commit{unsaid}, ReviewUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHistory()
			h.deploy("web", "c0", belay.Succeeded, tt.commits...)
			r := h.report(Scope{})
			if len(r.Changes) != 1 || r.Changes[0].Review != tt.want {
				t.Fatalf("review is %q, want %q", r.Changes[0].Review, tt.want)
			}
			want := map[Review]string{Unreviewed: "unreviewed", SelfApproved: "selfApproved", ReviewUnknown: "unknownReview"}[tt.want]
			if got := kinds(r); got != want {
				t.Errorf("exceptions are %q, want %q", got, want)
			}
		})
	}
}

func TestReviewersLeaveAuthorsOut(t *testing.T) {
	h := newHistory()
	m := h.commit("c1", ada, ada, "GRACE HOPPER <g@example.com>", grace)
	m.Approvers = []string{linus, ada}
	h.deploy("web", "c0", belay.Succeeded, m)
	x := h.report(Scope{}).Changes[0]
	if got := strings.Join(x.Reviewers, ", "); got != "GRACE HOPPER <g@example.com>, Linus <linus@example.com>" {
		t.Errorf("reviewers are %s", got)
	}
	if got := strings.Join(x.Approvers, ", "); got != linus {
		t.Errorf("approvers are %s", got)
	}
}

func TestUnlistedCommitsLeaveAReviewOpen(t *testing.T) {
	h := newHistory()
	m := h.commit("c1", ada, grace)
	id := h.startEvent(belay.Event{Application: "web", Revision: "c1", Change: "c1", Detail: &belay.Detail{Previous: "c0", Commits: []belay.Commit{m}, MoreCommits: 7}})
	h.end(id, belay.Succeeded)
	r := h.report(Scope{})
	if x := r.Changes[0]; x.Review != ReviewUnknown || x.MoreCommits != 7 || r.Summary.Commits != 8 {
		t.Errorf("%+v, %d commits", x, r.Summary.Commits)
	}
}

func TestOneChangeManyApplications(t *testing.T) {
	h := newHistory()
	m := h.commit("c1", ada)
	for i := range 500 {
		h.start(fmt.Sprintf("app-%03d", i), "c0", m)
	}
	h.wait(2 * time.Minute)
	for i := range 500 {
		h.end(belay.RecordID("w", uint64(i+1)), belay.Succeeded)
	}
	r := h.report(Scope{})
	if len(r.Changes) != 1 || len(r.Changes[0].Deliveries) != 500 || len(r.Changes[0].Commits) != 1 {
		t.Fatalf("%d changes", len(r.Changes))
	}
	e := find(t, r, ExcUnreviewed)
	if len(e.Records) != mostRecords || e.MoreRecords != 500-mostRecords || len(r.Exceptions) != 1 {
		t.Errorf("%d records, %d more, %d exceptions", len(e.Records), e.MoreRecords, len(r.Exceptions))
	}
	fleet := r.Metrics[0]
	if fleet.Level != OfFleet || fleet.Frequency.Changes != 1 || fleet.Frequency.Deployments != 500 || fleet.LeadTime.Count != 1 || fleet.Failures.Total != 1 {
		t.Errorf("the fleet's figures are %+v", fleet)
	}
	if got := *fleet.LeadTime.Median; got != (time.Hour + 2*time.Minute).Seconds() {
		t.Errorf("lead time is %v s", got)
	}
	if len(r.Metrics) != 502 {
		t.Errorf("%d figures, want those of a fleet, a project and 500 applications", len(r.Metrics))
	}
}

// What leads to a deployment is a commit of the definitions or of the source.
func TestWhatAChangeIs(t *testing.T) {
	src := "https://git.example.com/code.git"
	for _, tt := range []struct {
		name                       string
		change, revision, previous string
		commits                    []string
		want                       changeKey
	}{
		{"source in the repository of the definitions", "c1", "c1", "c0", []string{"c1"}, changeKey{id: "c1"}},
		{"a commit that came before the newest", "c9", "c9", "c0", []string{"c3", "c2"}, changeKey{id: "c3"}},
		{"a new application from elsewhere", "c1", "s1", "", nil, changeKey{id: "c1"}},
		{"only its definition changed", "c1", "s1", "s1", []string{"c1"}, changeKey{id: "c1"}},
		{"the same once more", "c1", "s1", "s1", nil, changeKey{id: "c1"}},
		{"its source moved", "c1", "s2", "s1", []string{"s2"}, changeKey{id: "s2"}},
		{"a chart's new version", "c1", "sha256:2", "sha256:1", nil, changeKey{src, "sha256:2"}},
		{"without a change", "", "s2", "s1", nil, changeKey{src, "s2"}},
		{"removed from Git", "c1", "", "s1", nil, changeKey{id: "c1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHistory()
			var commits []belay.Commit
			for _, id := range tt.commits {
				commits = append(commits, h.commit(id, ada, grace))
			}
			h.add(belay.Event{Type: belay.EventSyncStarted, Application: "web", Repo: src, Revision: tt.revision, Change: tt.change,
				Detail: &belay.Detail{Previous: tt.previous, Commits: commits, Objects: []belay.ObjectResult{{Verb: belay.VerbUpdate}}}})
			x := h.report(Scope{}).Changes
			if len(x) != 1 || (changeKey{x[0].Repo, x[0].ID}) != tt.want {
				t.Errorf("the change is %+v, want %+v", x[0], tt.want)
			}
		})
	}
}

// A commit stands with the first change that brought it, and is not held against the next.
func TestCommitsStandOnce(t *testing.T) {
	h := newHistory()
	c1 := h.commit("c1", ada)
	h.deploy("web", "c0", belay.Succeeded, c1)
	h.wait(time.Hour)
	c2 := h.commit("c2", ada, grace)
	h.deploy("api", "c0", belay.Succeeded, c2, c1)
	r := h.report(Scope{})
	if len(r.Changes) != 2 || len(r.Changes[1].Commits) != 1 || r.Changes[1].Review != Reviewed {
		t.Errorf("the second change is %+v", r.Changes[1])
	}
	if kinds(r) != "unreviewed" {
		t.Errorf("exceptions are %q", kinds(r))
	}
}

func TestARevisionTellsOfItsCommits(t *testing.T) {
	h := newHistory()
	h.add(belay.Event{Type: belay.EventRevision, Repo: "https://git.example.com/fleet.git", Revision: "c1", Detail: &belay.Detail{Commits: []belay.Commit{h.commit("c1", ada, grace)}}})
	id := h.startEvent(belay.Event{Application: "web", Revision: "c1", Change: "c1"})
	h.end(id, belay.Succeeded)
	if x := h.report(Scope{}).Changes[0]; x.Review != Reviewed || x.Subject != "change c1" {
		t.Errorf("%+v", x)
	}
}

func TestPeriods(t *testing.T) {
	h := newHistory()
	h.now = month.From.Add(-time.Minute)
	before := h.start("web", "c0", h.commit("c1", ada, grace)) // begins before, ends within
	h.wait(2*time.Minute).end(before, belay.Succeeded)
	h.now = month.To.Add(-time.Minute)
	late := h.start("web", "c1", h.commit("c2", ada, grace)) // begins within, ends after
	h.wait(2*time.Minute).end(late, belay.Failed)
	c := Collect(month, Scope{})
	for i := range h.records {
		c.Add(&h.records[i])
	}
	if got := c.Missing(); !slices.Equal(got, []string{before}) {
		t.Fatalf("missing are %v", got)
	}
	began := h.records[0].Event
	c.Began(&belay.Deployment{ID: before, Application: "web", Project: "shop", Cluster: "prod", Revision: "c1", Change: "c1", Previous: "c0",
		Started: began.Time, Commits: began.Detail.Commits, Objects: began.Detail.Objects, Result: belay.Failed, Ended: month.To.Add(time.Hour)})
	r := c.Report()
	if len(r.Changes) != 2 || len(c.Missing()) != 0 {
		t.Fatalf("%d changes", len(r.Changes))
	}
	if d := r.Changes[0].Deliveries[0]; d.Result != belay.Succeeded || !d.Started.Equal(began.Time) || len(d.Records) != 1 {
		t.Errorf("the first is %+v", d)
	}
	if d := r.Changes[1].Deliveries[0]; d.Result != "" || !d.Ended.IsZero() {
		t.Errorf("what happened after the period is in the report: %+v", d)
	}
	if m := r.Metrics[0]; m.Frequency.Changes != 1 || m.NotCounted.Running != 1 || m.LeadTime.Count != 1 {
		t.Errorf("%+v", m)
	}
}

func TestARetryBringsItHome(t *testing.T) {
	h := newHistory()
	id := h.deploy("web", "c0", belay.Failed, h.commit("c1", ada, grace))
	h.wait(5*time.Minute).end(id, belay.Succeeded)
	r := h.report(Scope{})
	d := r.Changes[0].Deliveries[0]
	if d.Result != belay.Succeeded || d.Failures != 1 || d.Trouble != "" || len(d.Records) != 3 || kinds(r) != "" {
		t.Errorf("%+v; exceptions %q", d, kinds(r))
	}
	if m := r.Metrics[0]; m.Failures.Failed != 0 || m.NotCounted.Retried != 1 || m.Restore.Count != 0 {
		t.Errorf("%+v", m)
	}
}

// What a superseded deployment was to bring arrives with the next one.
func TestCommitsArriveWithWhatSucceeds(t *testing.T) {
	h := newHistory()
	h.deploy("web", "c0", belay.Superseded, h.commit("c1", ada, grace))
	h.wait(time.Hour).deploy("web", "c0", belay.Failed, h.commit("c2", ada, grace))
	h.wait(time.Hour).deploy("web", "c0", belay.Succeeded, h.commit("c3", ada, grace))
	m := h.report(Scope{}).Metrics[0]
	if m.LeadTime.Count != 3 || m.Frequency.Changes != 1 || m.NotCounted.Superseded != 1 {
		t.Errorf("%+v", m)
	}
	// c1 was authored an hour before it came, and waited for two hours and three minutes.
	if got := Duration(*m.LeadTime.Median); got != "2h 2m" {
		t.Errorf("the median is %s", got)
	}
}

func TestFailedAndRestored(t *testing.T) {
	h := newHistory()
	h.deploy("web", "c0", belay.Failed, h.commit("c1", ada, grace))
	h.wait(19 * time.Minute)
	h.deploy("web", "c0", belay.Succeeded, h.commit("c2", ada, grace))
	h.deploy("api", "c0", belay.Failed, h.commit("c3", ada, grace))
	r := h.report(Scope{})
	m := r.Metrics[0]
	if m.Failures.Text() != "2 of 3" || m.Restore.Open != 1 || m.Restore.Count != 1 || *m.Restore.Median != 20*60 {
		t.Errorf("%+v", m)
	}
	if e := find(t, r, ExcFailed); e.Lasted() != 20*time.Minute || e.Application != "web" {
		t.Errorf("%+v", e)
	}
}

func TestDegradedAfterwards(t *testing.T) {
	run := func(before belay.Health, pause time.Duration) (*Delivery, Metrics) {
		h := newHistory()
		if before != "" {
			h.health("web", before, belay.Progressing)
		}
		h.deploy("web", "c0", belay.Succeeded, h.commit("c1", ada, grace))
		h.wait(pause).health("web", belay.Degraded, belay.Progressing)
		h.wait(30*time.Minute).health("web", belay.Healthy, belay.Degraded)
		r := h.report(Scope{})
		return r.Changes[0].Deliveries[0], r.Metrics[0]
	}
	if d, m := run("", 10*time.Minute); d.Trouble != TroubleDegraded || m.Failures.Failed != 1 || *m.Restore.Median != 30*60 || d.Health != belay.Healthy {
		t.Errorf("%+v %+v", d, m)
	}
	if d, m := run(belay.Healthy, 2*time.Hour); d.Trouble != "" || m.Failures.Failed != 0 || d.Health != belay.Healthy {
		t.Errorf("two hours later it still counts: %+v %+v", d, m)
	}
	// It was degraded before, and is repaired.
	h := newHistory()
	h.health("web", belay.Degraded, belay.Healthy)
	h.deploy("web", "c0", belay.Succeeded, h.commit("c1", ada, grace))
	h.wait(time.Minute).health("web", belay.Healthy, belay.Degraded)
	if d := h.report(Scope{}).Changes[0].Deliveries[0]; d.Trouble != "" || d.Health != belay.Healthy {
		t.Errorf("what repairs counts as failed: %+v", d)
	}
	// It is degraded for a moment while it is being deployed.
	h = newHistory()
	id := h.start("web", "c0", h.commit("c1", ada, grace))
	h.wait(time.Minute).health("web", belay.Degraded, belay.Progressing)
	h.wait(time.Minute).health("web", belay.Healthy, belay.Degraded)
	h.end(id, belay.Succeeded)
	if d := h.report(Scope{}).Changes[0].Deliveries[0]; d.Trouble != "" || d.Health != belay.Healthy {
		t.Errorf("%+v", d)
	}
}

func TestRolledBack(t *testing.T) {
	h := newHistory()
	h.deploy("web", "", belay.Succeeded, h.commit("c1", ada, grace))
	h.wait(time.Hour).deploy("web", "c1", belay.Succeeded, h.commit("c2", ada, grace))
	h.wait(10 * time.Minute)
	hold := h.add(belay.Event{Type: belay.EventHold, Application: "web", Actor: linus, Reason: "checkout is broken", Message: "held at c1",
		Detail: &belay.Detail{Hold: &belay.Hold{Application: "web", Cluster: "prod", Revision: "c1", Bad: "c2", By: linus, Reason: "checkout is broken"}}})
	id := h.startEvent(belay.Event{Application: "web", Revision: "c1", Change: "c1", Detail: &belay.Detail{Previous: "c2", Objects: []belay.ObjectResult{{Verb: belay.VerbUpdate}}}})
	h.wait(time.Minute).end(id, belay.Succeeded)
	longer := h.add(belay.Event{Type: belay.EventHold, Application: "web", Message: "Git still wants what was rolled back",
		Detail: &belay.Detail{Hold: &belay.Hold{Application: "web", Cluster: "prod", Revision: "c1", Bad: "c2", By: linus}}})
	h.add(belay.Event{Type: belay.EventRollback, Application: "web", Actor: linus, Message: "commit c9 puts back"})
	released := h.wait(time.Hour).add(belay.Event{Type: belay.EventRelease, Application: "web", Actor: linus, Message: "released"})
	r := h.report(Scope{})
	e := find(t, r, ExcHold)
	if e.Who != linus || e.Reason != "checkout is broken" || e.Lasted() != 61*time.Minute || !slices.Equal(e.Records, []string{hold, longer, released}) {
		t.Errorf("%+v", e)
	}
	bad := r.Changes[1].Deliveries[0]
	if bad.Trouble != TroubleRolledBack || bad.RestoredAt.Sub(bad.TroubleAt) != time.Minute {
		t.Errorf("what was rolled back is %+v", bad)
	}
	back := r.Changes[0].Deliveries[1]
	if back.Kind != RollsBack {
		t.Errorf("the step back is %+v", back)
	}
	if m := r.Metrics[0]; m.Frequency.Changes != 2 || m.Frequency.Deployments != 2 || m.NotCounted.Rollbacks != 1 || m.Failures.Failed != 1 {
		t.Errorf("%+v", m)
	}
	if kinds(r) != "hold" {
		t.Errorf("exceptions are %q", kinds(r))
	}
}

// A change of several applications that nobody reviewed is in the report of each.
// In a repository of many applications the commit that is left was often no
// deployment of the one that is held: what is taken back is what was there.
func TestHeldFromACommitOfOthers(t *testing.T) {
	for _, tt := range []struct {
		name     string
		hold     belay.Hold
		trouble  Trouble
		restored bool
	}{
		{"back", belay.Hold{Revision: "c1", Bad: "c9"}, TroubleRolledBack, true},
		{"where it is", belay.Hold{Revision: "c2", Bad: "c9"}, "", false},
		{"at the commit that is left", belay.Hold{Revision: "c9", Bad: "c9"}, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHistory()
			h.deploy("web", "c0", belay.Succeeded, h.commit("c1", ada, grace))
			h.wait(time.Hour).deploy("web", "c1", belay.Succeeded, h.commit("c2", ada, grace))
			tt.hold.Application, tt.hold.Cluster = "web", "prod"
			h.wait(time.Hour).add(belay.Event{Type: belay.EventHold, Application: "web", Actor: linus, Detail: &belay.Detail{Hold: &tt.hold}})
			if tt.restored {
				h.wait(time.Minute)
				back := h.startEvent(belay.Event{Application: "web", Revision: "c1", Change: "c9", Actor: linus, Detail: &belay.Detail{Previous: "c2"}})
				h.wait(time.Minute).end(back, belay.Succeeded)
				h.wait(time.Minute).add(belay.Event{Type: belay.EventRollback, Application: "web", Actor: linus, Message: "commit c10 puts it back"})
			}
			r := h.report(Scope{})
			d := r.Changes[len(r.Changes)-1].Deliveries[0]
			if d.Revision != "c2" || d.Trouble != tt.trouble || d.RestoredAt.IsZero() == tt.restored {
				t.Errorf("c2: %+v", d)
			}
			if m := r.Metrics[0]; tt.restored && (m.Restore.Open != 0 || m.Restore.MedianText() != "2m") {
				t.Errorf("it took %s to restore, %d are open", m.Restore.MedianText(), m.Restore.Open)
			}
		})
	}
}

func TestSeveralApplicationsInAScope(t *testing.T) {
	h := newHistory()
	m := h.commit("c1", ada)
	h.deploy("web", "c0", belay.Succeeded, m)
	h.deploy("api", "c0", belay.Succeeded, m)
	for _, s := range []Scope{{}, {Project: "shop"}, {Cluster: "prod"}, {Application: "web"}} {
		r := h.report(s)
		e := find(t, r, ExcUnreviewed)
		if want := s.Application; e.Application != want || e.Project != "shop" || e.Cluster != "prod" {
			t.Errorf("%+v: %+v", s, e)
		}
	}
}

// A rollback that could not be done takes nothing back.
func TestNoRollback(t *testing.T) {
	h := newHistory()
	h.deploy("web", "c0", belay.Succeeded, h.commit("c1", ada, grace))
	h.add(belay.Event{Type: belay.EventRollback, Application: "web", Revision: "c1", Result: belay.Failed, Message: "no automatic rollback: nothing was well before"})
	if d := h.report(Scope{}).Changes[0].Deliveries[0]; d.Trouble != "" {
		t.Errorf("%+v", d)
	}
	h.add(belay.Event{Type: belay.EventRollback, Application: "web", Revision: "c2", Message: "commit c2 puts it back"})
	if d := h.report(Scope{}).Changes[0].Deliveries[0]; d.Trouble != TroubleRolledBack {
		t.Errorf("%+v", d)
	}
}

func TestAHoldFromBefore(t *testing.T) {
	h := newHistory()
	h.add(belay.Event{Type: belay.EventRelease, Application: "web", Actor: "belay", Message: "Git has caught up",
		Detail: &belay.Detail{Hold: &belay.Hold{Application: "web", Cluster: "prod", Revision: "c1", By: linus, Reason: "it crashed"}}})
	if e := find(t, h.report(Scope{}), ExcHold); e.Who != linus || e.Reason != "it crashed" || e.Until.IsZero() || !strings.Contains(e.What, "began earlier") {
		t.Errorf("%+v", e)
	}
}

func TestManualChanges(t *testing.T) {
	h := newHistory()
	d := belay.Drift{Taken: []string{".spec.replicas"}, Added: []string{".metadata.labels.x"}, Manager: "kubectl-edit", Operation: "Update", Time: h.now.Add(-time.Second)}
	one := h.add(belay.Event{Type: belay.EventDrift, Application: "web", Object: "Deployment.apps web/web", Actor: "kubectl-edit", Message: "changed: .spec.replicas", Detail: &belay.Detail{Drift: &d}})
	again := d
	again.Taken = []string{".spec.paused"}
	two := h.wait(time.Second).add(belay.Event{Type: belay.EventDrift, Application: "web", Object: "Deployment.apps web/web", Actor: "kubectl-edit", Message: "changed: .spec.paused", Detail: &belay.Detail{Drift: &again}})
	healed := h.wait(4 * time.Second).add(belay.Event{Type: belay.EventHealed, Application: "web", Object: "Deployment.apps web/web", Message: "set back"})
	h.wait(time.Hour).add(belay.Event{Type: belay.EventDrift, Application: "web", Object: "Service web/web", Message: "deleted by hand"})
	r := h.report(Scope{})
	if kinds(r) != "manualChange manualChange" {
		t.Fatalf("exceptions are %q", kinds(r))
	}
	e := r.Exceptions[0]
	if e.Who != "kubectl-edit" || e.Lasted() != 6*time.Second || !slices.Equal(e.Records, []string{one, two, healed}) ||
		!slices.Equal(e.Fields, []string{".spec.replicas", ".metadata.labels.x", ".spec.paused"}) {
		t.Errorf("%+v", e)
	}
	if e := r.Exceptions[1]; !e.Until.IsZero() {
		t.Errorf("what was not healed is %+v", e)
	}
}

func TestOtherExceptions(t *testing.T) {
	h := newHistory()
	h.add(belay.Event{Type: belay.EventOverride, Application: "web", Actor: linus, Message: "windows overridden", Reason: "security fix"})
	h.add(belay.Event{Type: belay.EventRewritten, Repo: "https://git.example.com/fleet.git", Ref: "main", Revision: "c9", Message: "main was rewritten"})
	h.add(belay.Event{Type: belay.EventRefused, Repo: "https://git.example.com/fleet.git", Revision: "c9", Message: "no signature"})
	h.add(belay.Event{Type: belay.EventRefused, Project: "other", Repo: "https://git.example.com/fleet.git", Revision: "c8", Message: "not signed; it is deployed all the same, because signatures are only warned of"})
	h.add(belay.Event{Type: belay.EventDenied, Actor: "mallory", Message: "may not sync web"})
	h.deploy("web", "c0", belay.Superseded, h.commit("c1", ada, grace))
	r := h.report(Scope{})
	if got := kinds(r); got != "windowOverride rewrittenHistory refusedSignature unverified deniedAccess superseded" {
		t.Errorf("exceptions are %q", got)
	}
	for i := range r.Exceptions {
		if e := &r.Exceptions[i]; len(e.Records) == 0 || e.What == "" {
			t.Errorf("%s names no record, or says nothing: %+v", e.Kind, e)
		}
	}
	if e := find(t, r, ExcOverride); e.Who != linus || e.Reason != "security fix" {
		t.Errorf("%+v", e)
	}
	// Of an application only what concerns it.
	if got := kinds(h.report(Scope{Application: "web"})); got != "windowOverride rewrittenHistory refusedSignature unverified superseded" {
		t.Errorf("exceptions of web are %q", got)
	}
	if got := kinds(h.report(Scope{Project: "shop"})); got != "windowOverride rewrittenHistory refusedSignature superseded" {
		t.Errorf("exceptions of the project are %q", got)
	}
	if got := kinds(h.report(Scope{Application: "api"})); got != "" {
		t.Errorf("exceptions of api are %q", got)
	}
}

func TestNotCounted(t *testing.T) {
	h := newHistory()
	heal := h.startEvent(belay.Event{Application: "web", Revision: "c1", Change: "c1", Detail: &belay.Detail{Previous: "c1", Objects: []belay.ObjectResult{{Verb: belay.VerbHeal}}}})
	h.end(heal, belay.Succeeded)
	nothing := h.startEvent(belay.Event{Application: "web", Revision: "c1", Change: "c1", Detail: &belay.Detail{Previous: "c1"}})
	h.end(nothing, belay.Succeeded)
	gone := h.startEvent(belay.Event{Application: "old", Change: "c2", Detail: &belay.Detail{Previous: "c1", Objects: []belay.ObjectResult{{Verb: belay.VerbDelete}}}})
	h.end(gone, belay.Succeeded)
	h.deploy("new", "", belay.Succeeded, h.commit("c3", ada, grace))
	merge := h.commit("m4", grace)
	merge.Merge = true
	h.deploy("web", "c1", belay.Succeeded, merge, h.commit("c4", ada, grace))
	late := h.commit("c5", ada, grace)
	late.Time = h.now.Add(time.Hour)
	h.deploy("web", "c4", belay.Succeeded, late)
	r := h.report(Scope{})
	m := r.Metrics[0]
	want := NotCounted{Heals: 1, Nothing: 1, Teardowns: 1, First: 1, Merges: 1, Skewed: 1}
	if m.NotCounted != want || m.LeadTime.Count != 1 || m.Frequency.Changes != 3 {
		t.Errorf("%+v, want %+v not counted", m, want)
	}
	if len(r.Changes) != 4 { // the teardown is a change, too
		t.Errorf("%d changes", len(r.Changes))
	}
}

func TestSeveralClusters(t *testing.T) {
	h := newHistory()
	m := h.commit("c1", ada, grace)
	for _, cluster := range []string{"east", "west"} {
		id := h.startEvent(belay.Event{Application: "web", Cluster: cluster, Revision: "c1", Change: "c1", Detail: &belay.Detail{Previous: "c0", Commits: []belay.Commit{m}}})
		h.wait(time.Hour).end(id, belay.Succeeded)
	}
	r := h.report(Scope{})
	if r.Summary.Clusters != 2 || r.Summary.Applications != 1 || r.Metrics[0].LeadTime.Count != 1 || *r.Metrics[0].LeadTime.Median != 3*3600 {
		t.Errorf("%+v %+v", r.Summary, r.Metrics[0])
	}
	r = h.report(Scope{Cluster: "east"})
	if len(r.Changes) != 1 || len(r.Changes[0].Deliveries) != 1 || *r.Metrics[0].LeadTime.Median != 2*3600 {
		t.Errorf("of one cluster: %+v", r.Metrics[0])
	}
}

func TestHooks(t *testing.T) {
	h := newHistory()
	hook := belay.ObjectResult{Verb: belay.VerbCreate, ID: belay.ObjectID{Group: "batch", Kind: "Job", Namespace: "web", Name: "migrate"}, Hook: belay.PreSync}
	id := h.startEvent(belay.Event{Application: "web", Revision: "c1", Change: "c1", Detail: &belay.Detail{Previous: "c0", Objects: []belay.ObjectResult{hook, {Verb: belay.VerbUpdate}}}})
	hook.Result, hook.Error = belay.Failed, "exit code 1"
	h.add(belay.Event{Type: belay.EventSyncFailed, Application: "web", Deployment: id, Result: belay.Failed, Message: "hook failed", Detail: &belay.Detail{Objects: []belay.ObjectResult{hook}}})
	d := h.report(Scope{}).Changes[0].Deliveries[0]
	want := HookResult{"Job.batch web/migrate", belay.PreSync, belay.Failed, "exit code 1"}
	if len(d.Hooks) != 1 || d.Hooks[0] != want {
		t.Errorf("hooks are %+v", d.Hooks)
	}
}

func TestEveryKindIsDefined(t *testing.T) {
	for _, k := range ExceptionKinds() {
		if k.KindDefinition().Text == "" {
			t.Errorf("%s has no definition", k)
		}
	}
}
