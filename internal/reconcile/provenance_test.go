package reconcile

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// oneRef is a source with one ref.
type oneRef struct {
	Sources
	head string
}

func (o *oneRef) Revision(url, ref string) (belay.Revision, error) {
	return belay.Revision{Repo: url, Ref: ref, Commit: o.head, Author: "Eve"}, nil
}

// signedBy counts a commit as signed when it is listed.
type signedBy struct {
	good     map[string]bool
	down     bool
	checks   int
	accepted string
	earlier  string
	after    string // what Earlier was told is deployed
	lost     error  // of Earlier
}

func (s *signedBy) Check(_ context.Context, _, _, revision, _ string, _ *belay.Signatures) error {
	s.checks++
	switch {
	case s.down:
		return &belay.Error{Code: belay.CodeUnavailable, Message: "no answer"}
	case s.good[revision]:
		return nil
	}
	return &belay.Error{Code: belay.CodeDenied, Message: revision + " is refused"}
}

func (s *signedBy) Earlier(_ context.Context, url, ref, _, accepted, deployed string, _ *belay.Signatures) (belay.Revision, bool, error) {
	if s.lost != nil {
		return belay.Revision{}, false, s.lost
	}
	s.after = deployed
	c := accepted
	if c == "" && (deployed == "" || deployed == s.earlier) {
		c = s.earlier
	}
	return belay.Revision{Repo: url, Ref: ref, Commit: c}, c != "", nil
}

func (s *signedBy) Accepted(_, _, _ string) string         { return s.accepted }
func (s *signedBy) Accept(_, _, _ string, revision string) { s.accepted = revision }

// told keeps events.
type told struct {
	Recorder
	events []belay.Event
	source string
}

func (r *told) Publish(ev belay.Event)    { r.events = append(r.events, ev) }
func (r *told) Source(_, _ string) string { return r.source }

func signingEngine(rules *belay.Signatures, head string, p *signedBy) (*Engine, *oneRef, *told, refKey) {
	src, rec := &oneRef{head: head}, &told{}
	o := Options{Repo: "config", Ref: "main", Sources: src, Recorder: rec, Logger: slog.New(slog.DiscardHandler)}
	if p != nil {
		o.Provenance = p
	}
	e := New(o)
	e.catalog = &catalog.Catalog{Projects: map[string]belay.Project{"p": {Name: "p", Spec: belay.ProjectSpec{Signatures: rules}}}}
	return e, src, rec, keyOf("repo", "", "main", "p", e.catalog)
}

func TestRefusedRevisionsLeaveTheAcceptedOne(t *testing.T) {
	rules := belay.DefaultSignatures()
	p := &signedBy{good: map[string]bool{"a": true, "c": true}}
	e, src, rec, k := signingEngine(&rules, "a", p)
	want := func(step, commit, message string, checks int) {
		t.Helper()
		rev, err := e.revision(t.Context(), k)
		if rev.Commit != commit || (err == nil) != (message == "") || err != nil && !strings.Contains(err.Error(), message) || p.checks != checks {
			t.Fatalf("%s: %q, %v after %d checks; want %q, %q after %d", step, rev.Commit, err, p.checks, commit, message, checks)
		}
		if message == "" || strings.Contains(message, "refused") {
			if got := e.known(k).Commit; got != commit {
				t.Fatalf("%s: known is %q", step, got)
			}
		}
	}
	want("signed", "a", "", 1)
	want("again, for nothing", "a", "", 1)
	src.head = "b"
	if e.known(k).Commit != "b" {
		t.Error("what was not looked at is not known to be refused")
	}
	want("unsigned", "a", "b is refused", 2)
	want("again, for nothing", "a", "b is refused", 2)
	if len(rec.events) != 1 || rec.events[0].Type != belay.EventRefused || rec.events[0].Revision != "b" || rec.events[0].Project != "p" || rec.events[0].Actor != "Eve" {
		t.Errorf("told: %+v", rec.events)
	}
	src.head, p.down = "c", true
	want("it cannot be told", "a", "no answer", 3)
	want("again, before its time", "a", "no answer", 3)
	p.down = false
	e.askNow(k)
	want("signed", "c", "", 4)
	// A key that is taken away takes nothing back that was accepted.
	rules.Since, p.good = "x", nil
	want("other rules", "c", "c is refused", 5)
	// The next life knows what was accepted.
	e, src, _, k = signingEngine(&rules, "d", p)
	want("restart", "c", "d is refused", 6)
	src.head, p.good = "e", map[string]bool{"e": true}
	want("signed", "e", "", 7)
	if p.accepted != "e" {
		t.Errorf("remembered: %q", p.accepted)
	}
}

func TestSignaturesAreWantedForTheFirstTime(t *testing.T) {
	rules := belay.DefaultSignatures()
	for _, test := range []struct{ name, source, earlier, want string }{
		{"nothing is known from before", "", "a", "a"},
		{"what is deployed is not signed", "b", "a", ""},
		{"what is deployed is signed", "a", "a", "a"},
		{"nothing is signed", "", "", ""},
	} {
		p := &signedBy{earlier: test.earlier}
		e, _, rec, k := signingEngine(&rules, "b", p)
		rec.source = test.source
		rev, err := e.revision(t.Context(), k)
		if rev.Commit != test.want || err == nil || p.after != test.source {
			t.Errorf("%s: %q, %v", test.name, rev.Commit, err)
		}
	}
	// Another project follows the ref already: what it has is not taken back.
	p := &signedBy{earlier: "a"}
	e, _, _, k := signingEngine(&rules, "b", p)
	e.refs[k.plain()] = &followed{commit: "b"}
	if rev, err := e.revision(t.Context(), k); rev.Commit != "" || err == nil || p.after != "b" {
		t.Errorf("%q, %v, deployed %q", rev.Commit, err, p.after)
	}
}

func TestOnlyWarned(t *testing.T) {
	rules := belay.Signatures{Mode: belay.SignaturesWarn}
	p := &signedBy{}
	e, _, rec, k := signingEngine(&rules, "b", p)
	rev, err := e.revision(t.Context(), k)
	if rev.Commit != "b" || err == nil || !strings.Contains(err.Error(), "deployed all the same") || len(rec.events) != 1 {
		t.Errorf("%q, %v, %+v", rev.Commit, err, rec.events)
	}
	if !e.mayDeploy(t.Context(), k, "x") {
		t.Error("an earlier commit may not be deployed")
	}
}

func TestNobodyLooks(t *testing.T) {
	for _, rules := range []*belay.Signatures{nil, {Mode: belay.SignaturesOff}} {
		p := &signedBy{}
		e, _, _, k := signingEngine(rules, "b", p)
		if rev, err := e.revision(t.Context(), k); rev.Commit != "b" || err != nil || p.checks != 0 || k.project != "" {
			t.Errorf("%q, %v, %d checks", rev.Commit, err, p.checks)
		}
	}
	// Where signatures are wanted and nothing can check them, nothing is signed.
	rules := belay.DefaultSignatures()
	e, _, _, k := signingEngine(&rules, "b", nil)
	if rev, err := e.revision(t.Context(), k); rev.Commit != "" || belay.CodeOf(err) != belay.CodeDenied {
		t.Errorf("%q, %v", rev.Commit, err)
	}
}
