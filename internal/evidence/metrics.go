package evidence

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/belaydev/belay"
)

// Fewest values that a figure is given for: of fewer it would say more of chance
// than of practice.
const (
	fewestForP90  = 10
	fewestForRate = 10
)

// Level is what figures are of.
type Level string

// The levels.
const (
	OfFleet       Level = "fleet"
	OfProject     Level = "project"
	OfApplication Level = "application"
)

// Metrics are the figures of delivery of a period: those that DORA defines, as
// far as the record has them. [Definitions] says in words what each is.
type Metrics struct {
	Level   Level  `json:"level" doc:"What the figures are of: fleet, project or application."`
	Name    string `json:"name,omitempty" doc:"Name of the project or application."`
	Cluster string `json:"cluster,omitempty" doc:"Cluster of the application."`

	Days      float64   `json:"days" doc:"Length of the period in days."`
	Frequency Frequency `json:"deploymentFrequency" doc:"How often changes were deployed."`
	LeadTime  Times     `json:"leadTime" doc:"From the authoring of a commit to its last deployment, in seconds."`
	Failures  Rate      `json:"changeFailureRate" doc:"Changes that failed."`
	Restore   Restore   `json:"timeToRestore" doc:"From the first sign of failure until all was well again, in seconds."`
	// NotCounted says what was left out.
	NotCounted NotCounted `json:"notCounted" doc:"What the figures leave out."`
}

// Frequency is how often something was deployed.
type Frequency struct {
	Changes     int     `json:"changes" doc:"Changes that were deployed with success."`
	Deployments int     `json:"deployments" doc:"Deployments that succeeded; a change to many applications is many."`
	PerDay      float64 `json:"perDay" doc:"Changes per day."`
	ActiveDays  int     `json:"activeDays" doc:"Days on which something was deployed with success."`
}

// Times are quantiles of a set of durations.
type Times struct {
	Count int `json:"count" doc:"How many values there are."`
	// Median and P90 are nil where there are too few.
	Median *float64 `json:"medianSeconds,omitempty" doc:"Median; absent without values."`
	P90    *float64 `json:"p90Seconds,omitempty" doc:"90th percentile; absent of fewer than 10 values."`
}

// Rate is a share.
type Rate struct {
	Failed int `json:"failed" doc:"Changes that failed."`
	Total  int `json:"total" doc:"Changes that ended with success or failure."`
	// Share is nil where there are too few.
	Share *float64 `json:"share,omitempty" doc:"Their share, from 0 to 1; absent of fewer than 10 changes."`
}

// Restore is how long failures lasted.
type Restore struct {
	Times
	Open int `json:"open" doc:"Failures that were not overcome by the end of the period."`
}

// NotCounted counts what figures leave out.
type NotCounted struct {
	Heals      int `json:"heals,omitempty" doc:"Deployments that only set back what somebody changed in the cluster."`
	Nothing    int `json:"nothing,omitempty" doc:"Deployments that found everything as it should be."`
	Teardowns  int `json:"teardowns,omitempty" doc:"Deployments that deleted an application."`
	Rollbacks  int `json:"rollbacks,omitempty" doc:"Deployments that brought back an earlier state under a hold."`
	Superseded int `json:"superseded,omitempty" doc:"Deployments whose place a newer commit took."`
	Running    int `json:"running,omitempty" doc:"Deployments that had not ended."`
	Retried    int `json:"retried,omitempty" doc:"Failures that a retry of the same deployment overcame."`
	Merges     int `json:"merges,omitempty" doc:"Merge commits, for the lead time."`
	First      int `json:"first,omitempty" doc:"First deployments of an application, for the lead time: they bring all of its history."`
	Unlisted   int `json:"unlisted,omitempty" doc:"Commits that the record does not list, for the lead time."`
	Skewed     int `json:"skewed,omitempty" doc:"Commits authored after they were deployed, for the lead time: some clock was wrong."`
}

// Words say what was left out: "3 heals", "1 teardown".
func (n *NotCounted) Words() []string {
	var out []string
	for _, p := range []struct {
		n         int
		one, many string
	}{
		{n.Heals, "heal", "heals"}, {n.Nothing, "deployment with nothing to do", "deployments with nothing to do"}, {n.Teardowns, "teardown", "teardowns"},
		{n.Rollbacks, "return to an earlier state", "returns to an earlier state"}, {n.Superseded, "superseded deployment", "superseded deployments"},
		{n.Running, "deployment that still ran", "deployments that still ran"}, {n.Retried, "failure that a retry overcame", "failures that a retry overcame"},
		{n.Merges, "merge commit", "merge commits"}, {n.First, "first deployment (for the lead time)", "first deployments (for the lead time)"},
		{n.Unlisted, "commit that is not listed", "commits that are not listed"}, {n.Skewed, "commit from the future", "commits from the future"},
	} {
		switch p.n {
		case 0:
		case 1:
			out = append(out, "1 "+p.one)
		default:
			out = append(out, fmt.Sprintf("%d %s", p.n, p.many))
		}
	}
	return out
}

// scopeKey is what figures are gathered by.
type scopeKey struct {
	level         Level
	name, cluster string
}

// gauge gathers the figures of one scope.
type gauge struct {
	Metrics
	days     map[string]bool
	reached  map[int32]time.Time // when a commit had reached all of its applications
	merges   map[int32]bool
	restores []float64
}

// measure makes the figures of all scopes.
func (c *Collector) measure(changes []*Change) []Metrics {
	gauges := map[scopeKey]*gauge{}
	get := func(k scopeKey) *gauge {
		g := gauges[k]
		if g == nil {
			g = &gauge{Metrics: Metrics{Level: k.level, Name: k.name, Cluster: k.cluster, Days: c.period.Days()},
				days: map[string]bool{}, reached: map[int32]time.Time{}, merges: map[int32]bool{}}
			gauges[k] = g
		}
		return g
	}
	get(scopeKey{level: OfFleet})
	c.arrivals()
	for _, d := range c.deliveries {
		for _, k := range scopesOf(d) {
			get(k).leave(d)
		}
	}
	for _, x := range changes {
		parts := map[scopeKey][]*Delivery{}
		for _, d := range x.Deliveries {
			if d.Kind == Deploys {
				for _, k := range scopesOf(d) {
					parts[k] = append(parts[k], d)
				}
			}
		}
		for k, ds := range parts {
			get(k).change(c, ds)
		}
	}
	out := make([]Metrics, 0, len(gauges))
	for _, g := range gauges {
		out = append(out, g.finish(c))
	}
	rank := map[Level]int{OfFleet: 0, OfProject: 1, OfApplication: 2}
	slices.SortFunc(out, func(a, b Metrics) int {
		return cmp.Or(cmp.Compare(rank[a.Level], rank[b.Level]), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Cluster, b.Cluster))
	})
	return out
}

func scopesOf(d *Delivery) []scopeKey {
	keys := []scopeKey{{level: OfFleet}, {OfApplication, d.Application, d.Cluster}}
	if d.Project != "" {
		keys = append(keys, scopeKey{level: OfProject, name: d.Project})
	}
	return keys
}

// leave counts what is left out.
func (g *gauge) leave(d *Delivery) {
	n := &g.NotCounted
	switch d.Kind {
	case Heals:
		n.Heals++
		return
	case DoesNothing:
		n.Nothing++
		return
	case TearsDown:
		n.Teardowns++
		return
	case RollsBack:
		n.Rollbacks++
		return
	}
	switch d.Result {
	case belay.Superseded:
		n.Superseded++
	case "":
		n.Running++
	case belay.Succeeded:
		if d.Failures > 0 {
			n.Retried++
		}
	}
}

// change counts one change by its deployments in the scope.
func (g *gauge) change(c *Collector, ds []*Delivery) {
	ended, succeeded, failed := false, false, false
	var from, until time.Time
	open := false
	for _, d := range ds {
		switch d.Result {
		case belay.Succeeded:
			ended, succeeded = true, true
			g.Frequency.Deployments++
			g.days[d.Ended.In(c.period.From.Location()).Format(time.DateOnly)] = true
			g.lead(c, d)
		case belay.Failed:
			ended = true
		default:
			if d.Trouble == "" {
				continue
			}
			// Whoever rolled it back did not wait for its end.
			ended = true
		}
		if d.Trouble == "" {
			continue
		}
		failed = true
		if from.IsZero() || d.TroubleAt.Before(from) {
			from = d.TroubleAt
		}
		open = open || d.RestoredAt.IsZero()
		if d.RestoredAt.After(until) {
			until = d.RestoredAt
		}
	}
	if succeeded {
		g.Frequency.Changes++
	}
	if ended {
		g.Failures.Total++
	}
	switch {
	case !failed:
		return
	case open:
		g.Restore.Open++
	default:
		g.restores = append(g.restores, until.Sub(from).Seconds())
	}
	g.Failures.Failed++
}

// lead notes when the commits of a deployment arrived.
func (g *gauge) lead(c *Collector, d *Delivery) {
	if d.Previous == "" {
		g.NotCounted.First++
		return
	}
	g.NotCounted.Unlisted += d.more
	for _, n := range d.arrived {
		switch {
		case c.commits[n].Merge && len(d.arrived) > 1:
			g.merges[n] = true
		case d.Ended.After(g.reached[n]):
			g.reached[n] = d.Ended
		}
	}
}

// arrivals finds out which commits each deployment brought home: its own, and those
// of the ones before it that did not succeed. What comes again to where it has been,
// after a step back, is left out.
func (c *Collector) arrivals() {
	type arrival struct{ commit, at int32 }
	places, seen, pending := map[place]int32{}, map[arrival]bool{}, map[int32][]int32{}
	for _, d := range c.deliveries {
		if d.Kind != Deploys {
			continue
		}
		at, ok := places[d.place()]
		if !ok {
			at = int32(len(places))
			places[d.place()] = at
		}
		if d.Result != belay.Succeeded {
			pending[at] = append(pending[at], d.commits...)
			continue
		}
		for _, list := range [][]int32{d.commits, pending[at]} {
			for _, n := range list {
				if a := (arrival{n, at}); !seen[a] {
					seen[a] = true
					d.arrived = append(d.arrived, n)
				}
			}
		}
		delete(pending, at)
	}
}

func (g *gauge) finish(c *Collector) Metrics {
	var leads []float64
	for n, at := range g.reached {
		if t := c.commits[n].Time; at.Before(t) {
			g.NotCounted.Skewed++
		} else {
			leads = append(leads, at.Sub(t).Seconds())
		}
	}
	g.NotCounted.Merges = len(g.merges)
	g.LeadTime, g.Restore.Times = timesOf(leads), timesOf(g.restores)
	g.Frequency.ActiveDays = len(g.days)
	if g.Days > 0 {
		g.Frequency.PerDay = float64(g.Frequency.Changes) / g.Days
	}
	if f := &g.Failures; f.Total >= fewestForRate {
		f.Share = new(float64(f.Failed) / float64(f.Total))
	}
	return g.Metrics
}

// timesOf are the quantiles of values: of an even number the median is the mean of
// the two in the middle; the 90th percentile is a value that was seen.
func timesOf(v []float64) Times {
	t := Times{Count: len(v)}
	if len(v) == 0 {
		return t
	}
	slices.Sort(v)
	mid := len(v) / 2
	m := v[mid]
	if len(v)%2 == 0 {
		m = (v[mid-1] + v[mid]) / 2
	}
	t.Median = &m
	if len(v) >= fewestForP90 {
		t.P90 = new(v[(len(v)*9+9)/10-1])
	}
	return t
}

// Duration is a span of seconds for people: "42s", "17m", "3h 20m", "4d 2h".
func Duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return pair(int(d.Minutes()), "m", int(d.Seconds())%60, "s", d < 10*time.Minute)
	case d < day:
		return pair(int(d.Hours()), "h", int(d.Minutes())%60, "m", true)
	}
	return pair(int(d/day), "d", int((d % day).Hours()), "h", d < 30*day)
}

func pair(a int, x string, b int, y string, both bool) string {
	if b == 0 || !both {
		return fmt.Sprintf("%d%s", a, x)
	}
	return fmt.Sprintf("%d%s %d%s", a, x, b, y)
}

// MedianText and P90Text are the quantiles for people, or why there are none.
func (t *Times) MedianText() string {
	if t.Median == nil {
		return "none"
	}
	return Duration(*t.Median)
}

// P90Text is the 90th percentile for people, or why there is none.
func (t *Times) P90Text() string {
	switch {
	case t.P90 != nil:
		return Duration(*t.P90)
	case t.Count == 0:
		return "none"
	}
	return fmt.Sprintf("none (of %d)", t.Count)
}

// Text is the rate for people: "3 of 40 (7.5%)", and of few changes "1 of 3".
func (r *Rate) Text() string {
	switch {
	case r.Total == 0:
		return "none"
	case r.Share == nil:
		return fmt.Sprintf("%d of %d", r.Failed, r.Total)
	}
	return fmt.Sprintf("%d of %d (%.2g%%)", r.Failed, r.Total, *r.Share*100)
}

// FrequencyText is the frequency for people: "1.4 a day", and of few changes
// "3 in 30 days".
func (m *Metrics) FrequencyText() string {
	f := &m.Frequency
	switch {
	case f.Changes == 0:
		return "none"
	case f.Changes < fewestForRate && m.Days >= 1.5:
		return fmt.Sprintf("%d in %.0f days", f.Changes, m.Days)
	case f.Changes < fewestForRate:
		return fmt.Sprintf("%d in %s", f.Changes, Duration(m.Days*24*3600))
	case f.PerDay >= 1:
		return fmt.Sprintf("%.3g a day", f.PerDay)
	case f.PerDay*7 >= 1:
		return fmt.Sprintf("%.2g a week", f.PerDay*7)
	}
	return fmt.Sprintf("%.2g a month", f.PerDay*30)
}
