package evidence

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// except notes an exception that a record shows.
func (c *Collector) except(r *belay.Record, kind ExceptionKind, what string) *Exception {
	ev := &r.Event
	e := &Exception{
		Kind: kind, Time: ev.Time, Application: ev.Application, Project: cmp.Or(ev.Project, c.projects[ev.Application]), Cluster: ev.Cluster, Object: ev.Object, Repo: ev.Repo,
		Change: cmp.Or(ev.Change, ev.Revision), Who: ev.Actor, What: what, Reason: ev.Reason, Records: []string{r.ID()},
	}
	c.exceptions = append(c.exceptions, e)
	return e
}

// exceptional takes the records that are exceptions, or end one.
func (c *Collector) exceptional(r *belay.Record) {
	ev := &r.Event
	switch ev.Type {
	case belay.EventDrift:
		c.drifted(r)
	case belay.EventHealed:
		key := object{place{ev.Cluster, ev.Application}, ev.Object}
		if e := c.drifts[key]; e != nil {
			e.Until = ev.Time
			e.Records = append(e.Records, r.ID())
			delete(c.drifts, key)
		}
	case belay.EventHold:
		c.heldBack(r)
	case belay.EventRelease:
		c.released(r)
	case belay.EventRollback:
		if ev.Result != belay.Failed { // or it only says why there was none
			c.rolledBack(place{ev.Cluster, ev.Application}, nil, ev)
		}
	case belay.EventOverride:
		c.except(r, ExcOverride, ev.Message)
	case belay.EventRewritten:
		c.know(ev.Detail)
		c.except(r, ExcRewritten, ev.Message).Change = ev.Revision
	case belay.EventRefused:
		e := c.except(r, ExcRefused, ev.Message)
		e.Change = ev.Revision
		if strings.Contains(ev.Message, onlyWarned) {
			e.Kind = ExcUnverified
		}
	case belay.EventDenied:
		c.except(r, ExcDenied, ev.Message)
	}
}

// onlyWarned is in the message of a refusal that did not keep anything from being
// deployed: the project only warns.
const onlyWarned = "it is deployed all the same"

func (c *Collector) drifted(r *belay.Record) {
	ev := &r.Event
	key := object{place{ev.Cluster, ev.Application}, ev.Object}
	e := c.except(r, ExcManual, ev.Message)
	e.Change = ""
	if ev.Detail != nil && ev.Detail.Drift != nil {
		d := ev.Detail.Drift
		e.Fields = slices.Concat(d.Taken, d.Added)
		if d.Manager != "" {
			e.Who = d.Manager
		}
		// Kubernetes says when the field changed hands; Belay saw it a moment later.
		if !d.Time.IsZero() && d.Time.Before(e.Time) && c.period.Contains(d.Time) {
			e.Time = d.Time
		}
	}
	if was := c.drifts[key]; was != nil && was.Who == e.Who { // seen again before it was set back
		was.Fields = union(was.Fields, e.Fields)
		was.record(r.ID())
		c.exceptions = c.exceptions[:len(c.exceptions)-1]
		return
	}
	c.drifts[key] = e
}

// record adds a record that shows an exception.
func (e *Exception) record(id string) {
	if len(e.Records) < mostRecords {
		e.Records = append(e.Records, id)
		return
	}
	e.MoreRecords++
}

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

func (c *Collector) heldBack(r *belay.Record) {
	ev := &r.Event
	p := place{ev.Cluster, ev.Application}
	var h belay.Hold
	if ev.Detail != nil && ev.Detail.Hold != nil {
		h = *ev.Detail.Hold
		p.cluster = cmp.Or(p.cluster, h.Cluster)
	}
	if was := c.holds[p]; was != nil && c.held[p].Revision == h.Revision { // it was made longer
		was.record(r.ID())
		c.held[p] = h
		return
	}
	e := c.except(r, ExcHold, ev.Message)
	e.Cluster = p.cluster
	e.ofHold(&h)
	c.held[p], c.holds[p] = h, e
	c.rolledBack(p, &h, ev)
}

// ofHold fills in what a hold says.
func (e *Exception) ofHold(h *belay.Hold) {
	e.Change, e.Who, e.Reason = cmp.Or(h.Revision, e.Change), cmp.Or(h.By, e.Who), cmp.Or(h.Reason, e.Reason)
	if h.Automatic {
		e.Who = "Belay"
	}
}

func (c *Collector) released(r *belay.Record) {
	ev := &r.Event
	p := place{ev.Cluster, ev.Application}
	delete(c.held, p)
	if e := c.holds[p]; e != nil {
		e.Until = ev.Time
		e.record(r.ID())
		delete(c.holds, p)
		return
	}
	// It began before the period.
	e := c.except(r, ExcHold, "a hold that began earlier ended: "+ev.Message)
	e.Until = ev.Time
	if ev.Detail != nil && ev.Detail.Hold != nil {
		e.ofHold(ev.Detail.Hold)
	}
}

// rolledBack marks the deployment that somebody took back: that of the revision
// which a hold names as bad, or else the newest. A repository of many applications
// stands at commits that were no deployment of this one.
func (c *Collector) rolledBack(p place, h *belay.Hold, ev *belay.Event) {
	if h != nil && h.Bad == h.Revision && h.Bad != "" {
		return // who holds what is there takes nothing back
	}
	var taken *Delivery
	for _, d := range slices.Backward(c.deliveries) {
		if d.Application != p.application || p.cluster != "" && d.Cluster != p.cluster || d.Kind != Deploys || ev.Time.Before(d.when()) {
			continue
		}
		named := h == nil || h.Bad == "" || d.Revision == h.Bad
		if named || taken == nil {
			taken = d
		}
		if named {
			break
		}
	}
	if taken == nil || taken.Trouble != "" || h != nil && taken.Revision == h.Revision {
		return
	}
	taken.Trouble, taken.TroubleAt = TroubleRolledBack, ev.Time
}

// review makes exceptions of changes that nobody reviewed, and of deployments that
// did not succeed.
func (c *Collector) review(changes []*Change) {
	for _, x := range changes {
		var kind ExceptionKind
		var what string
		switch x.Review {
		case Unreviewed:
			kind, what = ExcUnreviewed, "no reviewer is named in the message or by a merge"
		case SelfApproved:
			kind, what = ExcSelfApproved, "only its author is named as reviewer, or merged it"
		case ReviewUnknown:
			kind, what = ExcUnknown, "the record does not hold all its commits, so that its review is not known"
		}
		if kind != "" {
			c.exceptions = append(c.exceptions, c.ofChange(x, kind, what))
		}
		for _, d := range x.Deliveries {
			c.ofDelivery(x, d)
		}
	}
}

func (c *Collector) ofChange(x *Change, kind ExceptionKind, what string) *Exception {
	d := x.Deliveries[0]
	if x.Subject != "" {
		what = fmt.Sprintf("%q: %s", x.Subject, what)
	}
	var bad []string
	for i := range x.Commits {
		m := &x.Commits[i]
		if r := x.reviewOf(m); r == Unreviewed || r == SelfApproved {
			bad = append(bad, shortID(m.ID))
		}
	}
	if n := len(bad); n > 0 && len(x.Commits) > 1 {
		what += fmt.Sprintf(" (%d of %d commits: %s)", n, len(x.Commits), strings.Join(bad[:min(n, 5)], ", "))
	}
	e := &Exception{Kind: kind, Time: d.when(), Repo: x.Repo, Change: x.ID, Who: x.Author, What: what}
	e.Application, e.Project, e.Cluster = d.Application, d.Project, d.Cluster
	for _, o := range x.Deliveries { // what they have in common
		if o.Application != d.Application {
			e.Application = ""
		}
		if o.Project != d.Project {
			e.Project = ""
		}
		if o.Cluster != d.Cluster {
			e.Cluster = ""
		}
	}
	for _, d := range x.Deliveries {
		e.record(d.ID)
	}
	return e
}

func (c *Collector) ofDelivery(x *Change, d *Delivery) {
	kind := ExcFailed
	switch d.Result {
	case belay.Failed:
	case belay.Superseded:
		kind = ExcSuperseded
	default:
		return
	}
	e := &Exception{Kind: kind, Time: d.Ended, Application: d.Application, Project: d.Project, Cluster: d.Cluster, Repo: d.repo, Change: x.ID,
		Who: d.Actor, What: d.Message}
	if kind == ExcFailed {
		e.Until = d.RestoredAt
	}
	for _, id := range d.Records {
		e.record(id)
	}
	c.exceptions = append(c.exceptions, e)
}

// sortedExceptions are those of the scope, oldest first. What belongs to no
// application stands in the report of an application where it is about one of its
// repositories.
func (c *Collector) sortedExceptions() []Exception {
	repos := map[string]bool{}
	for _, d := range c.deliveries {
		repos[d.repo] = true
	}
	out := make([]Exception, 0, len(c.exceptions))
	for _, e := range c.exceptions {
		ofChange := e.Kind == ExcUnreviewed || e.Kind == ExcSelfApproved || e.Kind == ExcUnknown // made of what is of the scope
		if e.Application == "" && !ofChange && !c.scope.Fleet() && (e.Change == "" || e.Repo != "" && !repos[e.Repo] || c.scope.Project != "" && e.Project != "" && e.Project != c.scope.Project) {
			continue
		}
		if e.Project == "" {
			e.Project = c.projects[e.Application]
		}
		out = append(out, *e)
	}
	slices.SortStableFunc(out, func(a, b Exception) int { return a.Time.Compare(b.Time) })
	return out
}

// shortID is a commit for people.
func shortID(id string) string { return belay.Revision{Commit: id}.Short() }
