package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// A slip of the pen in a question must not look like an answer: an empty list for a
// name that nothing bears reads as if nothing had happened.

// checkTypes refuses types that there are none of.
func checkTypes(types []belay.EventType) error {
	if err := belay.CheckEventTypes(types); err != nil {
		if slices.ContainsFunc(types, func(t belay.EventType) bool { return strings.ContainsAny(string(t), ", ") }) {
			err.Hint = "repeat the parameter type for several"
		}
		return err
	}
	return nil
}

// check refuses what no record can fit.
func (q *recordQuery) check() error {
	if err := checkTypes(q.Type); err != nil {
		return err
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("no time is between from (%s) and to (%s)", q.From.Format(time.RFC3339Nano), q.To.Format(time.RFC3339Nano)),
			Hint: "from is the first instant, and to the first that is too late"}
	}
	return nil
}

// one is a list of a name, empty for none.
func one(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// names are those that a fleet bears now, sorted.
type names struct{ applications, projects, clusters []string }

// namesOf are the names of a fleet; nil while it is not known what it has.
func (s *Server) namesOf(st *belay.Status) *names {
	inv, err := s.Engine.Inventory()
	if err != nil {
		return nil
	}
	n := &names{}
	for i := range st.Applications {
		a := &st.Applications[i]
		n.applications, n.projects, n.clusters = append(n.applications, a.Name), append(n.projects, a.Project), append(n.clusters, a.Cluster)
	}
	for i := range inv.Projects {
		n.projects = append(n.projects, inv.Projects[i].Name)
	}
	for i := range st.Clusters {
		n.clusters = append(n.clusters, st.Clusters[i].Name)
	}
	for _, list := range []*[]string{&n.applications, &n.projects, &n.clusters} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return n
}

// check is an error for the first name that the fleet does not bear. A fleet that is
// not known bears every name.
func (n *names) check(applications, projects, clusters []string) error {
	if n == nil {
		return nil
	}
	for _, of := range []struct {
		kind         string
		asked, borne []string
		command      string
	}{{"application", applications, n.applications, "apps"}, {"project", projects, n.projects, "projects"}, {"cluster", clusters, n.clusters, "clusters"}} {
		for _, name := range of.asked {
			if _, ok := slices.BinarySearch(of.borne, name); !ok {
				return belay.NoSuch(of.kind, name, of.borne, "belay get "+of.command+" lists them")
			}
		}
	}
	return nil
}

// unheardOf is an error for a name of a question without an answer that neither the
// fleet nor anything on record bears.
func (s *Server) unheardOf(ctx context.Context, r Record, q *belay.RecordQuery) error {
	st := s.Engine.Status()
	n := s.namesOf(&st)
	if n == nil {
		return nil
	}
	for _, of := range []struct {
		asked []string
		query func(name string) belay.RecordQuery
		check func(name string) error
	}{
		{q.Applications, func(n string) belay.RecordQuery { return belay.RecordQuery{Applications: one(n)} }, func(name string) error { return n.check(one(name), nil, nil) }},
		{q.Projects, func(n string) belay.RecordQuery { return belay.RecordQuery{Projects: one(n)} }, func(name string) error { return n.check(nil, one(name), nil) }},
		{q.Clusters, func(n string) belay.RecordQuery { return belay.RecordQuery{Clusters: one(n)} }, func(name string) error { return n.check(nil, nil, one(name)) }},
	} {
		for _, name := range of.asked {
			missing := of.check(name)
			if missing == nil {
				continue
			}
			was := of.query(name) // gone from Git, it may be on record
			was.Limit, was.Brief = 1, true
			if found, _, err := r.Records(ctx, was); err != nil || len(found) > 0 {
				if err != nil {
					return err
				}
				continue
			}
			return missing
		}
	}
	return nil
}
