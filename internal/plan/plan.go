// Package plan works out what makes a cluster equal to Git for one application:
// which objects are created, updated, healed and deleted, in which order, and
// what holds any of it back.
//
// It is pure: values in, values out. It must not know how a cluster is reached,
// what time it is, or who will carry the plan out, and imports the domain alone.
package plan

import (
	"cmp"
	"errors"
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
	// Lookup finds a live object of any application of this instance, of none if
	// somebody took the annotation off.
	Lookup func(belay.ObjectID) (belay.Live, bool)
	// Claimant names the application that an object belongs to when several
	// applications declare it, and where. ok is false if only this one does.
	Claimant func(belay.ObjectID) (application string, at belay.Origin, ok bool)
	// Claimed says whether any application but this one declares the object.
	Claimed func(belay.ObjectID) bool
	// Within finds an object that another application declares and that would go with
	// a namespace or a definition; see [GoesWith]. nil finds none.
	Within func(container belay.ObjectID) (o belay.ObjectID, application string, ok bool)
	// Teardown is true when the application left Git: nothing is desired, and the
	// prune limit of the application does not apply.
	Teardown bool
}

// Build makes the plan. It never asks to delete what is not in in.Live.
func Build(in Input) belay.Plan {
	p := belay.Plan{Application: in.Application.Name, Cluster: in.Cluster}
	decl := declarations(&in)
	for i := range in.Desired {
		d := &in.Desired[i]
		if a, ok := write(&in, d); ok {
			p.Actions = append(p.Actions, a)
		} else {
			p.Unchanged++
		}
	}
	for i := range in.Unresolved {
		u := &in.Unresolved[i]
		p.Actions = append(p.Actions, belay.Action{Verb: belay.VerbCreate, ID: u.Object.ID, Wave: u.Object.Wave,
			Rank: rank(u.Object.ID), Desired: &u.Object, Origin: u.Object.Origin, Blocked: u.Err})
	}
	deletes := prune(&in, decl)
	if p.Held = limit(&in, decl, p.Actions, deletes); p.Held != nil {
		p.HeldActions = deletes
		holdArrivals(&p)
	} else {
		p.Confirmed = released(in, decl, p.Actions, deletes)
		deletes, p.HeldActions, p.Held = confirmations(&in, deletes)
		p.Actions = append(p.Actions, deletes...)
	}
	slices.SortStableFunc(p.Actions, compareActions)
	slices.SortStableFunc(p.HeldActions, compareActions)
	p.Digest = digest(&p)
	return p
}

// holdArrivals blocks what a held plan would create or take from another
// application. The limit compares what goes with what is there: were the rest of
// the commit carried out, there would be more, and the hold would come loose by
// itself.
func holdArrivals(p *belay.Plan) {
	for i := range p.Actions {
		if a := &p.Actions[i]; arrives(p.Application, a) && a.Blocked == nil {
			a.Blocked = at(p.Held, a.Desired)
		}
	}
}

// arrives tells whether the application has one object more after the action.
func arrives(application string, a *belay.Action) bool {
	return a.Verb == belay.VerbCreate || (a.Verb == belay.VerbUpdate && a.Live.Application != application)
}

// declared knows what Git declares for the application.
type declared struct {
	ids map[belay.ObjectID]bool
	// names are the objects of unknown scope: whether their namespace is part of
	// their name nobody can say, so they stand for any.
	names map[belay.ObjectID]bool
}

func declarations(in *Input) declared {
	d := declared{ids: make(map[belay.ObjectID]bool, len(in.Desired)), names: map[belay.ObjectID]bool{}}
	for i := range in.Desired {
		d.ids[in.Desired[i].ID] = true
	}
	for i := range in.Unresolved {
		id := in.Unresolved[i].Object.ID
		id.Namespace = ""
		d.names[id] = true
	}
	return d
}

func (d declared) has(id belay.ObjectID) bool {
	if d.ids[id] {
		return true
	}
	id.Namespace = ""
	return d.names[id]
}

// write decides what one desired object needs; ok is false if nothing.
func write(in *Input, d *belay.Object) (a belay.Action, ok bool) {
	a = belay.Action{ID: d.ID, Wave: d.Wave, Rank: rank(d.ID), Desired: d, Origin: d.Origin, Verb: belay.VerbCreate}
	live, exists := in.Lookup(d.ID)
	rules := belay.RulesFor(in.Application.Spec.Sync.IgnoreDifferences, d.ID)
	if exists {
		a.Live = &live
		a.Verb = belay.VerbUpdate
		if live.Digest == d.Digest && live.Application == in.Application.Name {
			v := Compare(d, &live, in.Project.Spec.InteractiveManagers, rules...)
			if v.OK && !live.Deleting {
				// What is there as it should be, and should not be there by now, is told.
				a.Blocked = denied(in, d)
				return a, a.Blocked != nil
			}
			a.Verb, a.Drift, a.TakeOver = belay.VerbHeal, v.Drift, v.TakeOver
		} else if live.Managers != nil {
			v := Compare(d, &live, in.Project.Spec.InteractiveManagers, rules...)
			a.TakeOver = v.TakeOver
			if live.Application == in.Application.Name {
				a.Drift = v.ByHand // else nobody would hear of an edit of what Git changed, too, and may not be written now
			}
		}
	}
	a.Manner = manner(in, d, a.Live)
	a.Blocked = blocked(in, d, &a)
	return a, true
}

func blocked(in *Input, d *belay.Object, a *belay.Action) *belay.Error {
	if err := denied(in, d); err != nil {
		return err
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

// denied is why the project does not allow an object; nil if it does.
func denied(in *Input, d *belay.Object) *belay.Error {
	if _, err := in.Project.Permit(in.Application, in.Cluster, d.ID, in.Namespaced(*d)); err != nil {
		return at(err, d)
	}
	return nil
}

func at(err error, d *belay.Object) *belay.Error {
	e, ok := errors.AsType[*belay.Error](err)
	if !ok {
		e = &belay.Error{Code: belay.CodeInternal, Message: err.Error(), Err: err}
	}
	c := *e
	c.Object, c.Origin = d.ID.String(), d.Origin
	return &c
}

// prune lists the deletions: ours, no longer declared here or anywhere else.
// What is being deleted already stays in the list until it is gone, because what
// is deleted after it must wait for it: a controller has to outlive the
// finalizers of its objects.
func prune(in *Input, decl declared) []belay.Action {
	if !in.Application.Spec.Sync.Prune && !in.Teardown {
		return nil
	}
	var out []belay.Action
	for i := range in.Live {
		l := &in.Live[i]
		if l.Application != in.Application.Name || decl.has(l.ID) || kept(l, in.Teardown) || in.Claimed(l.ID) {
			continue
		}
		a := belay.Action{Verb: belay.VerbDelete, ID: l.ID, Wave: l.Wave, Rank: rank(l.ID), Live: l}
		if l.Deleting {
			a.Blocked = &belay.Error{Code: belay.CodeTerminating, Object: l.ID.String(), Message: "is being deleted",
				Hint: "if that does not end, look at its finalizers"}
		} else if _, err := in.Project.Permit(in.Application, in.Cluster, l.ID, l.Namespaced); err != nil {
			a.Blocked = at(err, &belay.Object{ID: l.ID})
		} else {
			a.Blocked = container(in, l.ID)
		}
		out = append(out, a)
	}
	return out
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
	c := compareOrder(&a, &b)
	if a.Verb == belay.VerbDelete {
		c = -c
	}
	// One object stands twice in a plan only where it is declared twice.
	return cmp.Or(c, a.ID.Compare(b.ID), cmp.Compare(a.Origin.File, b.Origin.File), cmp.Compare(a.Origin.Line, b.Origin.Line))
}

// compareOrder compares places in the order of writes.
func compareOrder(a, b *belay.Action) int {
	return cmp.Or(cmp.Compare(a.Wave, b.Wave), cmp.Compare(a.Rank, b.Rank))
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
