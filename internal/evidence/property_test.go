package evidence

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

// randomHistory is what an engine might record: deployments of a few applications in
// two clusters that overlap, fail, are retried, are held and drift, over five weeks.
func randomHistory(t *rapid.T) *history {
	h := newHistory()
	h.now = month.From.Add(-48 * time.Hour)
	running, last := map[place]string{}, map[place]string{}
	people := []string{ada, grace, linus, "", "ada@example.com"}
	commits := 0
	for range rapid.IntRange(0, 120).Draw(t, "steps") {
		h.wait(time.Duration(rapid.IntRange(1, 900).Draw(t, "minutes")) * time.Minute)
		p := place{rapid.SampledFrom([]string{"east", "west"}).Draw(t, "cluster"), rapid.SampledFrom([]string{"web", "api", "db"}).Draw(t, "app")}
		ev := belay.Event{Application: p.application, Cluster: p.cluster}
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0, 1, 2, 3:
			if id := running[p]; id != "" {
				h.end(id, belay.Superseded)
			}
			if commits == 0 || rapid.Bool().Draw(t, "new") {
				commits++
			}
			m := h.commit(fmt.Sprintf("c%d", commits), rapid.SampledFrom(people).Draw(t, "author"), rapid.SliceOfN(rapid.SampledFrom(people), 0, 2).Draw(t, "reviewers")...)
			m.Merge = rapid.IntRange(0, 5).Draw(t, "merge") == 0
			ev.Revision, ev.Change = m.ID, m.ID
			verb := rapid.SampledFrom([]belay.Verb{belay.VerbUpdate, belay.VerbHeal}).Draw(t, "verb")
			ev.Detail = &belay.Detail{Previous: last[p], Commits: []belay.Commit{m}, Objects: []belay.ObjectResult{{Verb: verb}}}
			running[p] = h.startEvent(ev)
		case 4, 5, 6:
			if id := running[p]; id != "" {
				result := rapid.SampledFrom([]belay.Result{belay.Succeeded, belay.Failed}).Draw(t, "result")
				h.end(id, result)
				if result == belay.Succeeded {
					_, seq, _ := belay.ParseRecordID(id)
					last[p], running[p] = h.records[seq-1].Event.Revision, ""
				}
			}
		case 7:
			ev.Type, ev.Message = belay.EventHealth, rapid.SampledFrom([]string{"Healthy, was Degraded", "Degraded, was Healthy: crash loop"}).Draw(t, "health")
			h.add(ev)
		case 8:
			ev.Type, ev.Object = rapid.SampledFrom([]belay.EventType{belay.EventDrift, belay.EventHealed}).Draw(t, "drift"), "Service web"
			h.add(ev)
		case 9:
			ev.Type = rapid.SampledFrom([]belay.EventType{belay.EventHold, belay.EventRelease, belay.EventOverride}).Draw(t, "hold")
			h.add(ev)
		}
	}
	return h
}

func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := randomHistory(t)
		r := h.report(Scope{})
		if again := h.report(Scope{}); !reflect.DeepEqual(r, again) {
			t.Fatal("the same records give another report")
		}
		checkDeliveries(t, r)
		checkExceptions(t, r)
		checkMetrics(t, r)
		// What is outside of the period does not matter.
		var inside history
		for i := range h.records {
			x := h.records[i]
			if !month.Contains(x.Event.Time) {
				x.Event = belay.Event{Time: x.Event.Time, Type: belay.EventStopped}
			}
			inside.records = append(inside.records, x)
		}
		if other := inside.report(Scope{}); !reflect.DeepEqual(r, other) {
			t.Fatal("records outside of the period change its report")
		}
	})
}

// checkDeliveries: each deployment that changes something is part of one change, and
// each commit stands with one.
func checkDeliveries(t *rapid.T, r *Report) {
	seen, commits := map[string]bool{}, map[string]bool{}
	for _, x := range r.Changes {
		if len(x.Deliveries) == 0 {
			t.Fatalf("change %s has no deployment", x.ID)
		}
		for _, d := range x.Deliveries {
			if seen[d.ID] {
				t.Fatalf("deployment %s stands twice", d.ID)
			}
			seen[d.ID] = true
			if d.Kind == Heals || d.Kind == DoesNothing {
				t.Fatalf("deployment %s is no change: %s", d.ID, d.Kind)
			}
			if (d.Result == "") != d.Ended.IsZero() {
				t.Fatalf("deployment %s ended at %v with %q", d.ID, d.Ended, d.Result)
			}
			if d.Result == belay.Succeeded && d.Trouble == TroubleFailed || d.Result == belay.Failed && d.Trouble == "" {
				t.Fatalf("deployment %s %s, and its trouble is %q", d.ID, d.Result, d.Trouble)
			}
			if !d.RestoredAt.IsZero() && (d.Trouble == "" || d.RestoredAt.Before(d.TroubleAt)) {
				t.Fatalf("deployment %s was restored at %v from %q at %v", d.ID, d.RestoredAt, d.Trouble, d.TroubleAt)
			}
		}
		for i := range x.Commits {
			if commits[x.Commits[i].ID] {
				t.Fatalf("commit %s stands twice", x.Commits[i].ID)
			}
			commits[x.Commits[i].ID] = true
		}
	}
	s := r.Summary
	if s.Deployments != len(seen) || s.Deployments != s.Succeeded+s.Failed+s.Superseded+s.Running || s.Changes != len(r.Changes) || s.Reviewed > s.Changes {
		t.Fatalf("the summary %+v does not fit %d deployments", s, len(seen))
	}
}

// checkExceptions: each names records and lies in the period, and each change without
// a review is one.
func checkExceptions(t *rapid.T, r *Report) {
	count := map[ExceptionKind]int{}
	for i := range r.Exceptions {
		e := &r.Exceptions[i]
		count[e.Kind]++
		if len(e.Records) == 0 || len(e.Records) > mostRecords {
			t.Fatalf("%s names %d records", e.Kind, len(e.Records))
		}
		if !r.Period.Contains(e.Time) || !e.Until.IsZero() && !r.Period.Contains(e.Until) {
			t.Fatalf("%s of %v to %v is not of the period", e.Kind, e.Time, e.Until)
		}
	}
	want := map[ExceptionKind]int{ExcFailed: r.Summary.Failed, ExcSuperseded: r.Summary.Superseded}
	for _, x := range r.Changes {
		switch x.Review {
		case Unreviewed:
			want[ExcUnreviewed]++
		case SelfApproved:
			want[ExcSelfApproved]++
		case ReviewUnknown:
			want[ExcUnknown]++
		}
	}
	for k, n := range want {
		if count[k] != n {
			t.Fatalf("%d exceptions %s, want %d", count[k], k, n)
		}
	}
}

// checkMetrics: figures of the parts add up to those of the whole where they can.
func checkMetrics(t *rapid.T, r *Report) {
	sum := map[Level]Metrics{}
	for _, m := range r.Metrics {
		if m.Failures.Failed > m.Failures.Total || m.Failures.Failed != m.Restore.Count+m.Restore.Open {
			t.Fatalf("%+v", m)
		}
		if m.Frequency.Changes > m.Failures.Total || m.Frequency.ActiveDays > 31 {
			t.Fatalf("%+v", m)
		}
		if q := m.LeadTime; q.Median != nil && *q.Median < 0 || q.P90 != nil && *q.P90 < *q.Median {
			t.Fatalf("%+v", m)
		}
		s := sum[m.Level]
		s.Frequency.Deployments += m.Frequency.Deployments
		s.Frequency.Changes += m.Frequency.Changes
		s.NotCounted.Heals += m.NotCounted.Heals
		sum[m.Level] = s
	}
	fleet, apps := sum[OfFleet], sum[OfApplication]
	if fleet.Frequency.Deployments != apps.Frequency.Deployments || fleet.NotCounted.Heals != apps.NotCounted.Heals || fleet.Frequency.Changes > apps.Frequency.Changes {
		t.Fatalf("the fleet has %+v, its applications %+v", fleet.Frequency, apps.Frequency)
	}
}
