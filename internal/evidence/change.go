package evidence

import (
	"cmp"
	"slices"

	"github.com/belaydev/belay"
)

// changeKey is what deployments of one change have in common.
type changeKey struct{ repo, id string }

// cause is the commit that led to a deployment: the newest of those that it brings,
// which are those that concern the application. Where it brings none (a chart from
// a registry, a start without history) it is what it was made of or, if that did
// not move, the commit of the definitions in force.
func (d *Delivery) cause(c *Collector) changeKey {
	switch {
	case d.Kind == RollsBack && d.Revision != "":
		return changeKey{id: d.Revision}
	case len(d.commits) > 0:
		return changeKey{id: c.commits[d.commits[0]].ID}
	case d.change != "" && (d.change == d.Revision || d.Revision == "" || d.Previous == "" || d.Previous == d.Revision):
		return changeKey{id: d.change}
	case d.Revision != "":
		return changeKey{d.repo, d.Revision}
	case d.change != "":
		return changeKey{id: d.change}
	}
	return changeKey{id: d.ID}
}

// changes groups the deployments by what led to them, oldest first.
func (c *Collector) changes() []*Change {
	byKey := map[changeKey]*Change{}
	var out []*Change
	taken := make([]bool, len(c.commits)) // commits that stand with a change
	listed := map[*Change]map[int32]bool{}
	for _, d := range c.deliveries {
		if !d.changes() {
			continue
		}
		key := d.cause(c)
		x := byKey[key]
		if x == nil {
			x = &Change{ID: key.id, Repo: key.repo}
			byKey[key], listed[x] = x, map[int32]bool{}
			out = append(out, x)
		}
		x.Deliveries = append(x.Deliveries, d)
		x.MoreCommits = max(x.MoreCommits, d.more)
		if d.Kind == RollsBack { // it brings nothing
			continue
		}
		if len(listed[x]) == 0 {
			if n, ok := c.commitIdx[key.id]; ok && !taken[n] {
				taken[n] = true
				listed[x][n] = true
			}
		}
		for _, n := range d.commits {
			if !taken[n] {
				taken[n] = true
				listed[x][n] = true
			}
		}
	}
	for _, x := range out {
		for n := range listed[x] {
			x.Commits = append(x.Commits, c.commits[n])
		}
		c.describe(x)
	}
	return out
}

// describe fills in what follows from the commits of a change.
func (c *Collector) describe(x *Change) {
	slices.SortFunc(x.Commits, func(a, b belay.Commit) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.ID, b.ID))
	})
	if n, ok := c.commitIdx[x.ID]; ok {
		x.Subject, x.Author = c.commits[n].Subject, c.commits[n].Author
		x.Repo = cmp.Or(x.Repo, c.repos[n])
	}
	if d := x.Deliveries[0]; x.Author == "" {
		x.Author = d.Actor
	}
	for i := range x.Commits {
		m := &x.Commits[i]
		for _, who := range Others(m.Author, m.Reviewers) {
			x.Reviewers = addPerson(x.Reviewers, who)
		}
		for _, who := range Others(m.Author, m.Approvers) {
			x.Approvers = addPerson(x.Approvers, who)
			x.Reviewers = addPerson(x.Reviewers, who)
		}
	}
	x.Review = x.judge()
}

// judge says what is known of the review of a change: what holds for the worst of
// its commits.
func (x *Change) judge() Review {
	if !slices.ContainsFunc(x.Deliveries, func(d *Delivery) bool { return d.Kind != RollsBack }) {
		return NoReview
	}
	if len(x.Commits) == 0 {
		return ReviewUnknown
	}
	worst := Reviewed
	for i := range x.Commits {
		switch r := x.reviewOf(&x.Commits[i]); {
		case r == Unreviewed:
			return Unreviewed
		case r != Reviewed && worst != SelfApproved:
			worst = r
		}
	}
	if worst == Reviewed && x.MoreCommits > 0 {
		return ReviewUnknown
	}
	return worst
}

// reviewOf says what is known of the review of a commit. A merge among other
// commits brings nothing of its own; alone it stands for what it merged. Who merged
// a commit of somebody else is among its reviewers; who merged their own is not.
func (x *Change) reviewOf(m *belay.Commit) Review {
	named := slices.Concat(m.Reviewers, m.Approvers)
	switch {
	case m.Merge && len(x.Commits) > 1:
		return Reviewed
	case !parsePerson(m.Author).known():
		return ReviewUnknown
	case len(Others(m.Author, named)) > 0:
		return Reviewed
	case len(named) > 0 || x.mergedBy(m.Author):
		return SelfApproved
	}
	return Unreviewed
}

// mergedBy tells whether somebody merged anything of the change.
func (x *Change) mergedBy(author string) bool {
	a := parsePerson(author)
	return slices.ContainsFunc(x.Commits, func(m belay.Commit) bool { return m.Merge && parsePerson(m.Author).same(a) })
}

// summary counts.
func (c *Collector) summary(r *Report) Summary {
	s := Summary{Changes: len(r.Changes), Records: c.records, Exceptions: map[ExceptionKind]int{}}
	authors, apps, clusters := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, x := range r.Changes {
		if x.Review == Reviewed {
			s.Reviewed++
		}
		s.Commits += len(x.Commits) + x.MoreCommits
		for i := range x.Commits {
			if p := parsePerson(x.Commits[i].Author); p.known() {
				authors[p.key()] = true
			}
		}
		for _, d := range x.Deliveries {
			s.Deployments++
			apps[d.Application], clusters[d.Cluster] = true, true
			switch d.Result {
			case belay.Succeeded:
				s.Succeeded++
			case belay.Failed:
				s.Failed++
			case belay.Superseded:
				s.Superseded++
			default:
				s.Running++
			}
		}
	}
	s.Authors, s.Applications, s.Clusters = len(authors), len(apps), len(clusters)
	for i := range r.Exceptions {
		s.Exceptions[r.Exceptions[i].Kind]++
	}
	return s
}
