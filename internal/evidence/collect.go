package evidence

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// settling is how long what becomes of an application's health still counts as the
// outcome of its last deployment.
const settling = time.Hour

// mostRecords is how many records an exception names.
const mostRecords = 20

// place is an application in a cluster.
type place struct{ cluster, application string }

// object is an object of an application.
type object struct {
	place
	id string
}

// Collector takes the records of a period, oldest first for each writer, and makes a
// report of them. It keeps no manifests and no objects: what it holds grows with the
// number of deployments and of exceptions.
type Collector struct {
	period Period
	scope  Scope

	records    int
	heads      map[string]Head
	deliveries []*Delivery
	byID       map[string]*Delivery
	last       map[place]*Delivery // the newest of each application
	health     map[place]belay.Health
	sick       map[place][]*Delivery // degraded, not healthy again
	commits    []belay.Commit
	commitIdx  map[string]int32
	repos      map[int32]string // of commits, where a revision told
	exceptions []*Exception
	drifts     map[object]*Exception // not healed yet
	holds      map[place]*Exception  // not released yet
	held       map[place]belay.Hold
	text       map[string]string // one copy of what is said often
	projects   map[string]string // of applications
}

// Collect begins a report.
func Collect(p Period, s Scope) *Collector {
	return &Collector{
		period: p, scope: s, heads: map[string]Head{}, byID: map[string]*Delivery{}, last: map[place]*Delivery{}, health: map[place]belay.Health{},
		sick: map[place][]*Delivery{}, commitIdx: map[string]int32{}, repos: map[int32]string{},
		drifts: map[object]*Exception{}, holds: map[place]*Exception{}, held: map[place]belay.Hold{}, text: map[string]string{}, projects: map[string]string{},
	}
}

// Missing are the deployments that ended in the period and began before it: what
// [Collector.Began] should be told of.
func (c *Collector) Missing() []string {
	var out []string
	for _, d := range c.deliveries {
		if !d.began {
			out = append(out, d.ID)
		}
	}
	return out
}

// Began tells of the beginning of a deployment that the period only saw the end of.
// Of how it ended the records of the period say all.
func (c *Collector) Began(d *belay.Deployment) {
	x := c.byID[d.ID]
	if x == nil || x.began {
		return
	}
	var objects []belay.ObjectResult
	if x.Objects == 0 {
		objects = d.Objects
	}
	c.begin(x, &belay.Event{Time: d.Started, Application: d.Application, Project: d.Project, Cluster: d.Cluster, Repo: d.Repo, Revision: d.Revision,
		Change: d.Change, Actor: d.Actor, Reason: d.Reason, Plan: d.Plan, Message: x.Message,
		Detail: &belay.Detail{Previous: d.Previous, Commits: d.Commits, MoreCommits: d.MoreCommits, Objects: objects}})
}

// Add takes the next record.
func (c *Collector) Add(r *belay.Record) {
	ev := &r.Event
	if !c.period.Contains(ev.Time) {
		return
	}
	if h := c.heads[r.Writer]; r.Seq > h.Seq {
		c.heads[r.Writer] = Head{Writer: r.Writer, Seq: r.Seq, Commit: r.Commit}
	}
	if ev.Application != "" {
		if ev.Project != "" {
			c.projects[ev.Application] = c.once(ev.Project)
		}
		project := c.projects[ev.Application]
		// What has no cluster concerns the application wherever it is.
		cluster := ev.Cluster
		if cluster == "" {
			cluster = c.scope.Cluster
		}
		if !c.scope.admits(ev.Application, project, cluster) {
			return
		}
	}
	c.records++
	switch ev.Type {
	case belay.EventSyncStarted:
		c.started(r)
	case belay.EventSynced, belay.EventSyncFailed, belay.EventSuperseded:
		c.ended(r)
	case belay.EventHealth:
		c.healthChanged(ev)
	case belay.EventRevision:
		for _, n := range c.know(ev.Detail) {
			c.repos[n] = c.once(ev.Repo)
		}
	case belay.EventHook:
		c.hookRan(r)
	default:
		c.exceptional(r)
	}
}

// once keeps one copy of a text.
func (c *Collector) once(s string) string {
	if have, ok := c.text[s]; ok {
		return have
	}
	s = strings.Clone(s)
	c.text[s] = s
	return s
}

// know remembers commits, and returns where they are.
func (c *Collector) know(d *belay.Detail) []int32 {
	if d == nil {
		return nil
	}
	out := make([]int32, 0, len(d.Commits))
	for i := range d.Commits {
		x := &d.Commits[i]
		n, ok := c.commitIdx[x.ID]
		if !ok {
			n = int32(len(c.commits))
			c.commits = append(c.commits, *x)
			c.commitIdx[x.ID] = n
		}
		out = append(out, n)
	}
	return out
}

func (c *Collector) started(r *belay.Record) {
	d := c.delivery(r.ID(), &r.Event)
	d.Records = append(d.Records, r.ID())
	c.begin(d, &r.Event)
	if h, ok := c.held[d.place()]; ok && d.Kind == Deploys && h.Revision == d.Revision {
		d.Kind = RollsBack
	}
	c.takeOver(d)
}

// delivery finds a deployment, or makes one of which only the end is known so far.
func (c *Collector) delivery(id string, ev *belay.Event) *Delivery {
	if d := c.byID[id]; d != nil {
		return d
	}
	d := &Delivery{ID: id, Application: c.once(ev.Application), Project: c.once(c.projects[ev.Application]), Cluster: c.once(ev.Cluster)}
	c.byID[id] = d
	c.deliveries = append(c.deliveries, d)
	return d
}

// place is the application and the cluster that it is delivered to.
func (d *Delivery) place() place { return place{d.Cluster, d.Application} }

// changes tells whether it is part of a change: what heals and what did nothing is not.
func (d *Delivery) changes() bool { return d.Kind != Heals && d.Kind != DoesNothing }

// takeOver makes a deployment the one that the application's health is the outcome of.
func (c *Collector) takeOver(d *Delivery) {
	p := d.place()
	if !d.changes() || c.last[p] == d {
		return
	}
	if was := c.last[p]; was != nil {
		was.attention = false
	}
	c.last[p], d.attention = d, true
	d.sickBefore = c.health[p] == belay.Degraded
}

func (c *Collector) begin(d *Delivery, ev *belay.Event) {
	d.began, d.Started = true, ev.Time
	d.Revision, d.Actor, d.Reason, d.Plan = c.once(ev.Revision), c.once(ev.Actor), ev.Reason, ev.Plan
	d.repo, d.change = c.once(ev.Repo), c.once(ev.Change)
	if d.Message == "" {
		d.Message = ev.Message
	}
	if x := ev.Detail; x != nil {
		d.Previous, d.more = c.once(x.Previous), x.MoreCommits
		d.commits = c.know(x)
		c.wrote(d, x.Objects)
	}
	d.Kind = kindOf(d, ev)
}

// kindOf says what a deployment is for, by what it writes.
func kindOf(d *Delivery, ev *belay.Event) DeliveryKind {
	x := ev.Detail
	if ev.Revision == "" {
		return TearsDown
	}
	if x == nil {
		return Deploys
	}
	heals, others := 0, 0
	for i := range x.Objects {
		if x.Objects[i].Verb == belay.VerbHeal && x.Objects[i].Hook == "" {
			heals++
		} else {
			others++
		}
	}
	switch {
	case x.Cleared:
		return TearsDown
	case heals > 0 && others == 0:
		return Heals
	case len(x.Objects) == 0 && d.Previous != "" && d.Previous == d.Revision && len(x.Commits) == 0:
		return DoesNothing
	}
	return Deploys
}

// wrote notes what became of objects.
func (c *Collector) wrote(d *Delivery, objects []belay.ObjectResult) {
	if len(objects) == 0 {
		return
	}
	d.Objects, d.Hooks = 0, nil
	for i := range objects {
		o := &objects[i]
		if o.Hook == "" {
			d.Objects++
			continue
		}
		d.Hooks = append(d.Hooks, HookResult{Object: c.once(o.ID.String()), Phase: o.Hook, Result: o.Result, Error: o.Error})
	}
}

func (c *Collector) ended(r *belay.Record) {
	ev := &r.Event
	id := ev.Deployment
	if id == "" {
		// It is part of no deployment: something failed before one began.
		if ev.Type == belay.EventSyncFailed {
			c.except(r, ExcFailed, ev.Message)
		}
		return
	}
	if _, seq, ok := belay.ParseRecordID(id); ok && !strings.Contains(id, "/") {
		id = belay.RecordID(r.Writer, seq)
	}
	d := c.delivery(id, ev)
	if !d.began { // the best that is known until somebody tells its beginning
		d.Revision, d.Actor, d.repo, d.change = c.once(ev.Revision), c.once(ev.Actor), c.once(ev.Repo), c.once(ev.Change)
		if d.Kind = Deploys; ev.Revision == "" {
			d.Kind = TearsDown
		}
		c.takeOver(d)
	}
	d.Records = append(d.Records, r.ID())
	d.Message, d.Ended = ev.Message, ev.Time
	if d.Result = ev.Result; d.Result == "" {
		d.Result = map[belay.EventType]belay.Result{belay.EventSynced: belay.Succeeded, belay.EventSyncFailed: belay.Failed, belay.EventSuperseded: belay.Superseded}[ev.Type]
	}
	if x := ev.Detail; x != nil {
		c.wrote(d, x.Objects)
		if x.Cleared && !d.began {
			d.Kind = TearsDown
		}
	}
	switch d.Result {
	case belay.Failed:
		if d.Failures++; d.Trouble == "" {
			d.Trouble, d.TroubleAt = TroubleFailed, ev.Time
		}
	case belay.Succeeded:
		if d.Trouble == TroubleFailed { // a retry brought it home
			d.Trouble, d.TroubleAt = "", time.Time{}
		}
		if h := c.health[d.place()]; h == belay.Healthy || h == belay.Degraded {
			d.Health = h
		}
		if d.Health == belay.Degraded && !d.sickBefore {
			c.degraded(d, ev.Time)
		}
	}
}

// healthOf reads the message of a health event: "Degraded, was Healthy: why".
func healthOf(message string) (now, was belay.Health) {
	head, _, _ := strings.Cut(message, ":")
	a, b, _ := strings.Cut(head, ", was ")
	return belay.Health(strings.TrimSpace(a)), belay.Health(strings.TrimSpace(b))
}

// degraded notes that an application works no more because of a deployment.
func (c *Collector) degraded(d *Delivery, at time.Time) {
	if d.Trouble == "" && d.Kind == Deploys {
		d.Trouble, d.TroubleAt = TroubleDegraded, at
		c.sick[d.place()] = append(c.sick[d.place()], d)
	}
}

func (c *Collector) healthChanged(ev *belay.Event) {
	p := place{ev.Cluster, ev.Application}
	now, was := healthOf(ev.Message)
	c.health[p] = now
	if now == belay.Healthy {
		for _, d := range c.sick[p] {
			d.RestoredAt = ev.Time
		}
		delete(c.sick, p)
	}
	d := c.last[p]
	if d == nil || !d.attention {
		return
	}
	if now == belay.Healthy {
		d.sickBefore = false
	}
	if d.Result != belay.Succeeded {
		return // how it is while it is being changed is not the outcome
	}
	if ev.Time.Sub(d.Ended) > settling {
		d.attention = false
		if d.Health == "" && was == belay.Healthy {
			d.Health = was // so it was all the time in between
		}
		return
	}
	if now == belay.Healthy || now == belay.Degraded {
		d.Health = now
	}
	if now == belay.Degraded {
		c.degraded(d, ev.Time)
	}
}

// hookRan notes a hook of a deployment that does not list it.
func (c *Collector) hookRan(r *belay.Record) {
	ev := &r.Event
	d := c.byID[ev.Deployment]
	if d == nil {
		return
	}
	d.Records = append(d.Records, r.ID())
	result := ev.Result
	if result == "" {
		return
	}
	for i := range d.Hooks {
		if h := &d.Hooks[i]; h.Object == ev.Object {
			if h.Result = result; result == belay.Failed {
				h.Error = ev.Message
			}
			return
		}
	}
	h := HookResult{Object: c.once(ev.Object), Result: result}
	if result == belay.Failed {
		h.Error = ev.Message
	}
	d.Hooks = append(d.Hooks, h)
}

// Report ends the collection. Nothing may be added afterwards.
func (c *Collector) Report() *Report {
	for _, d := range c.deliveries {
		if d.Project == "" {
			d.Project = c.projects[d.Application]
		}
	}
	slices.SortStableFunc(c.deliveries, func(a, b *Delivery) int { return a.when().Compare(b.when()) })
	c.restore()
	r := &Report{Period: c.period, Scope: c.scope}
	for _, writer := range slices.Sorted(maps.Keys(c.heads)) {
		r.Heads = append(r.Heads, c.heads[writer])
	}
	r.Changes = c.changes()
	c.review(r.Changes)
	r.Exceptions = c.sortedExceptions()
	r.Summary = c.summary(r)
	r.Metrics = c.measure(r.Changes)
	return r
}

// when is its beginning, or its end where that alone is known.
func (d *Delivery) when() time.Time {
	if d.Started.IsZero() {
		return d.Ended
	}
	return d.Started
}

// restore finds out which success overcame a failure or a step back. What was
// degraded is restored when it is healthy again.
func (c *Collector) restore() {
	open := map[place][]*Delivery{}
	for _, d := range c.deliveries {
		if !d.changes() || d.Kind == TearsDown {
			continue
		}
		p := d.place()
		if d.Result == belay.Succeeded {
			open[p] = slices.DeleteFunc(open[p], func(o *Delivery) bool {
				over := !d.Ended.Before(o.TroubleAt)
				if over {
					o.RestoredAt = d.Ended
				}
				return over
			})
		}
		if d.Trouble != "" && d.Trouble != TroubleDegraded {
			open[p] = append(open[p], d)
		}
	}
}
