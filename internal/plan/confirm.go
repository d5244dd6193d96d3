package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// kept says whether an object stays by its own word.
func kept(l *belay.Live, teardown bool) bool {
	if teardown {
		return l.TeardownDisabled
	}
	return l.PruneDisabled
}

// confirmations sorts deletions into those that go on and those that an object's
// own word holds until they are confirmed. What is deleted after a held one waits
// for it, as it would for one that takes its time.
func confirmations(in *Input, deletes []belay.Action) (free, held []belay.Action, why *belay.Error) {
	var names []string
	for _, a := range deletes {
		name := belay.FormatID("", a.ID)
		asks := a.Live.ConfirmPrune
		if in.Teardown {
			asks = a.Live.ConfirmTeardown
		}
		if !asks || a.Live.Deleting || confirmed(in, name) {
			free = append(free, a)
			continue
		}
		held, names = append(held, a), append(names, a.ID.String())
	}
	if len(held) == 0 {
		return deletes, nil, nil
	}
	token := Token(held)
	why = &belay.Error{Code: belay.CodeHeld, Application: in.Application.Name, Origin: in.Application.Origin,
		Message: fmt.Sprintf("would delete %s, whose deletion has to be confirmed (%s)", strings.Join(names, ", "), belay.AnnotationDelete),
		Hint:    fmt.Sprintf("if that is meant, set spec.sync.confirm: %q in the Application and commit", token)}
	if in.Teardown {
		why.Hint = fmt.Sprintf("if that is meant, add %q to spec.confirm of the Project %q and commit", token, in.Project.Name)
	}
	for i := range free {
		for j := range held {
			if free[i].Blocked == nil && compareOrder(&free[i], &held[j]) < 0 {
				free[i].Blocked = &belay.Error{Code: belay.CodeHeld, Object: free[i].ID.String(),
					Message: fmt.Sprintf("is deleted after %s, whose deletion has to be confirmed", held[j].ID), Hint: why.Hint}
			}
		}
	}
	return free, held, why
}

// confirmed looks for a token in the Application and in its Project.
func confirmed(in *Input, name string) bool {
	return slices.ContainsFunc(append(slices.Clone(in.Project.Spec.Confirm), in.Application.Spec.Sync.Confirm), func(token string) bool {
		return Covers(token, []string{name})
	})
}

// container says why a namespace or a definition must stay: what is in it is to
// stay or is still declared, and would go with it.
func container(in *Input, id belay.ObjectID) *belay.Error {
	var within, of func(belay.ObjectID) bool
	switch id.GroupKind() {
	case belay.Kind{Kind: "Namespace"}:
		within = func(o belay.ObjectID) bool { return o.Namespace == id.Name }
		of = within
	case belay.Kind{Group: crdGroup, Kind: "CustomResourceDefinition"}:
		plural, group, _ := strings.Cut(id.Name, ".")
		within = func(o belay.ObjectID) bool { return group != "" && o.Group == group }
		of = func(o belay.ObjectID) bool { return within(o) && pluralOf(plural, o.Kind) }
	default:
		return nil
	}
	for i := range in.Desired {
		if d := &in.Desired[i]; of(d.ID) {
			return &belay.Error{Code: belay.CodeHeld, Object: id.String(), Message: fmt.Sprintf("stays, because %s would go with it and is declared", d.ID),
				Hint: fmt.Sprintf("take that out of Git, too; or declare the %s again, with %s: %s before it is taken out if it is to stay", id.Kind, belay.AnnotationPrune, belay.Disabled)}
		}
	}
	for i := range in.Live {
		if l := &in.Live[i]; within(l.ID) && kept(l, in.Teardown) && !l.Deleting {
			return &belay.Error{Code: belay.CodeHeld, Object: id.String(), Message: fmt.Sprintf("stays, because %s would go with it and says that it must stay", l.ID),
				Hint: fmt.Sprintf("delete that one by hand, or take its annotation away (%s or a like one)", belay.AnnotationPrune)}
		}
	}
	return nil
}

// pluralOf says whether a definition is of a kind, as far as its name tells: it has
// the plural alone.
func pluralOf(plural, kind string) bool {
	k := strings.ToLower(kind)
	return plural == k || plural == k+"s" || plural == k+"es" || plural == strings.TrimSuffix(k, "y")+"ies"
}
