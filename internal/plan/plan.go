// Package plan works out what makes a cluster equal to Git for one application:
// which objects are created, updated, healed and deleted, in which order, and
// what holds any of it back.
//
// It is pure: values in, values out. It must not know how a cluster is reached,
// what time it is, or who will carry the plan out, and imports the domain alone.
package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// Input is everything a plan depends on.
type Input struct {
	Application *belay.Application
	Project     *belay.Project
	Cluster     string
	// Desired are the objects Git declares, resolved and stamped.
	Desired []belay.Object
	// Unresolved are objects that [Resolve] could not place, with the reason.
	Unresolved []Unresolved
	// Namespaced says whether a kind is namespaced. See [Scopes].
	Namespaced func(belay.Object) bool
	// Live are the application's own objects in the cluster.
	Live []belay.Live
	// Lookup finds a live object of any application of this instance.
	Lookup func(belay.ObjectID) (belay.Live, bool)
	// Claimant names the application that an object belongs to when several
	// applications declare it, and where. ok is false if only this one does.
	Claimant func(belay.ObjectID) (application string, at belay.Origin, ok bool)
	// Claimed says whether any application but this one declares the object.
	Claimed func(belay.ObjectID) bool
	// Teardown is true when the application left Git: nothing is desired, and the
	// prune limit of the application does not apply.
	Teardown bool
}

// Build makes the plan. It never asks to delete what is not in in.Live.
func Build(in Input) belay.Plan {
	p := belay.Plan{Application: in.Application.Name, Cluster: in.Cluster}
	desired := make(map[belay.ObjectID]bool, len(in.Desired))
	for i := range in.Desired {
		d := &in.Desired[i]
		desired[d.ID] = true
		if a, ok := write(&in, d); ok {
			p.Actions = append(p.Actions, a)
		} else {
			p.Unchanged++
		}
	}
	for i := range in.Unresolved {
		u := &in.Unresolved[i]
		desired[u.Object.ID] = true
		p.Actions = append(p.Actions, belay.Action{Verb: belay.VerbCreate, ID: u.Object.ID, Wave: u.Object.Wave,
			Rank: rank(u.Object.ID), Desired: &u.Object, Origin: u.Object.Origin, Blocked: u.Err})
	}
	deletes := prune(&in, desired)
	if held := limit(&in, p.Actions, deletes); held != nil {
		p.Held, p.HeldActions = held, deletes
	} else {
		p.Actions = append(p.Actions, deletes...)
	}
	slices.SortStableFunc(p.Actions, compareActions)
	slices.SortStableFunc(p.HeldActions, compareActions)
	p.Digest = digest(&p)
	return p
}

// write decides what one desired object needs; ok is false if nothing.
func write(in *Input, d *belay.Object) (a belay.Action, ok bool) {
	a = belay.Action{ID: d.ID, Wave: d.Wave, Rank: rank(d.ID), Desired: d, Origin: d.Origin, Verb: belay.VerbCreate}
	live, exists := in.Lookup(d.ID)
	if exists {
		a.Live = &live
		a.Verb = belay.VerbUpdate
		if live.Digest == d.Digest && live.Application == in.Application.Name {
			v := Compare(d, &live, in.Project.Spec.InteractiveManagers)
			if v.OK && !live.Deleting {
				return a, false
			}
			a.Verb, a.Drift, a.TakeOver = belay.VerbHeal, v.Drift, v.TakeOver
		} else if live.Managers != nil {
			a.TakeOver = Compare(d, &live, in.Project.Spec.InteractiveManagers).TakeOver
		}
	}
	a.Blocked = blocked(in, d, &a)
	return a, true
}

func blocked(in *Input, d *belay.Object, a *belay.Action) *belay.Error {
	if _, err := in.Project.Permit(in.Application, in.Cluster, d.ID, in.Namespaced(*d)); err != nil {
		return at(err, d)
	}
	if other, origin, ok := in.Claimant(d.ID); ok && other != in.Application.Name {
		return at(&belay.Error{Code: belay.CodeInvalid,
			Message: fmt.Sprintf("also declared by application %q in %s, which it belongs to", other, origin),
			Hint:    "declare it in one application only"}, d)
	}
	if a.Live != nil && a.Live.Deleting {
		return at(&belay.Error{Code: belay.CodeTerminating, Message: "is being deleted; it is applied again when it is gone",
			Hint: "if that does not end, look at its finalizers"}, d)
	}
	return nil
}

func at(err error, d *belay.Object) *belay.Error {
	e, ok := err.(*belay.Error)
	if !ok {
		e = &belay.Error{Code: belay.CodeInternal, Message: err.Error()}
	}
	c := *e
	c.Object, c.Origin = d.ID.String(), d.Origin
	return &c
}

// prune lists the deletions: ours, no longer declared here or anywhere else.
func prune(in *Input, desired map[belay.ObjectID]bool) []belay.Action {
	if !in.Application.Spec.Sync.Prune && !in.Teardown {
		return nil
	}
	var out []belay.Action
	for i := range in.Live {
		l := &in.Live[i]
		if l.Application != in.Application.Name || desired[l.ID] || l.PruneDisabled || l.Deleting || in.Claimed(l.ID) {
			continue
		}
		a := belay.Action{Verb: belay.VerbDelete, ID: l.ID, Rank: rank(l.ID), Live: l}
		if _, err := in.Project.Permit(in.Application, in.Cluster, l.ID, l.Namespaced); err != nil {
			a.Blocked = at(err, &belay.Object{ID: l.ID})
		}
		out = append(out, a)
	}
	return out
}

// limit holds deletions back that look like an accident.
func limit(in *Input, writes, deletes []belay.Action) *belay.Error {
	if in.Teardown || len(deletes) == 0 {
		return nil
	}
	total, lost := len(in.Live), lost(writes, deletes)
	pl := in.Application.Spec.Sync.PruneLimit
	all := lost > 0 && len(deletes) >= total
	share := total >= pl.From && lost*100 > pl.Percent*total
	if !all && !share {
		return nil
	}
	token := Token(deletes)
	if in.Application.Spec.Sync.Confirm == token {
		return nil
	}
	what := fmt.Sprintf("would delete %d of its %d objects, more than the limit of %d%%", len(deletes), total, pl.Percent)
	if all {
		what = fmt.Sprintf("would delete all of its %d objects", total)
	}
	return &belay.Error{Code: belay.CodeHeld, Application: in.Application.Name, Origin: in.Application.Origin, Message: what,
		Hint: fmt.Sprintf("if that is meant, set spec.sync.confirm: %q in the Application and commit", token)}
}

// lost counts the deletions that no creation of the same kind in the same
// namespace makes up for: a rename loses nothing. What holds data is always lost.
func lost(writes, deletes []belay.Action) int {
	type slot struct {
		kind belay.Kind
		ns   string
	}
	made := map[slot]int{}
	for i := range writes {
		if w := &writes[i]; w.Verb == belay.VerbCreate && w.Blocked == nil {
			made[slot{w.ID.GroupKind(), w.ID.Namespace}]++
		}
	}
	n := 0
	for i := range deletes {
		s := slot{deletes[i].ID.GroupKind(), deletes[i].ID.Namespace}
		if made[s] > 0 && !holdsData(s.kind) {
			made[s]--
			continue
		}
		n++
	}
	return n
}

func holdsData(k belay.Kind) bool {
	switch k {
	case belay.Kind{Kind: "PersistentVolumeClaim"}, belay.Kind{Kind: "PersistentVolume"}, belay.Kind{Kind: "Namespace"},
		belay.Kind{Group: "apps", Kind: "StatefulSet"}, belay.Kind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}:
		return true
	}
	return false
}

// Token identifies a set of deletions; it is what a confirmation in Git repeats.
func Token(deletes []belay.Action) string {
	ids := make([]string, len(deletes))
	for i := range deletes {
		ids[i] = belay.FormatID("", deletes[i].ID)
	}
	slices.Sort(ids)
	return belay.Digest([]byte(strings.Join(ids, "\n")))[:8]
}

func digest(p *belay.Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", p.Application, p.Cluster)
	line := func(a *belay.Action) {
		d := ""
		if a.Desired != nil {
			d = a.Desired.Digest
		}
		fmt.Fprintf(&b, "%s %s %d %d %s %t\n", a.Verb, belay.FormatID("", a.ID), a.Wave, a.Rank, d, a.Blocked != nil)
	}
	for i := range p.Actions {
		line(&p.Actions[i])
	}
	b.WriteString("held\n")
	for i := range p.HeldActions {
		line(&p.HeldActions[i])
	}
	return belay.Digest([]byte(b.String()))
}

// compareActions is the order of execution: heals, then writes by wave and
// rank, then deletions the other way round.
func compareActions(a, b belay.Action) int {
	if c := cmp.Compare(phase(&a), phase(&b)); c != 0 {
		return c
	}
	c := cmp.Or(cmp.Compare(a.Wave, b.Wave), cmp.Compare(a.Rank, b.Rank))
	if a.Verb == belay.VerbDelete {
		c = -c
	}
	return cmp.Or(c, a.ID.Compare(b.ID))
}

func phase(a *belay.Action) int {
	switch a.Verb {
	case belay.VerbHeal:
		return 0
	case belay.VerbDelete:
		return 2
	}
	return 1
}
