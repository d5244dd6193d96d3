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
	if !IsContainer(id) {
		return nil
	}
	held := func(what string, hint string) *belay.Error {
		return &belay.Error{Code: belay.CodeHeld, Object: id.String(), Message: fmt.Sprintf("stays, because %s", what), Hint: hint}
	}
	for i := range in.Desired {
		if o := in.Desired[i].ID; GoesWith(o, id) {
			return held(fmt.Sprintf("%s would go with it and is declared", o),
				fmt.Sprintf("take that out of Git, too; or declare the %s again, with %s: %s before it is taken out if it is to stay", id.Kind, belay.AnnotationPrune, belay.Disabled))
		}
	}
	_, group, _ := strings.Cut(id.Name, ".")
	for i := range in.Live {
		l := &in.Live[i]
		within := GoesWith(l.ID, id) || id.GroupKind() == definitionKind && group != "" && l.ID.Group == group
		if within && kept(l, in.Teardown) && !l.Deleting {
			return held(fmt.Sprintf("%s would go with it and says that it must stay", l.ID),
				fmt.Sprintf("delete that one by hand, or take its annotation away (%s or a like one)", belay.AnnotationPrune))
		}
	}
	if in.Within == nil {
		return nil
	}
	if o, application, ok := in.Within(id); ok {
		return held(fmt.Sprintf("%s would go with it, which application %q declares", o, application),
			fmt.Sprintf("declare the %s in that application if it is to stay; or take out of Git what it has there", id.Kind))
	}
	return nil
}

var (
	namespaceKind  = belay.Kind{Kind: "Namespace"}
	definitionKind = belay.Kind{Group: crdGroup, Kind: "CustomResourceDefinition"}
)

// IsContainer says whether others may be deleted with an object: it is a namespace, or
// the definition of a kind.
func IsContainer(id belay.ObjectID) bool {
	return id.GroupKind() == namespaceKind || id.GroupKind() == definitionKind
}

// GoesWith says whether an object is deleted with a namespace, or with the
// definition of its kind. Of a definition that is told from its name, which has the
// plural of the kind alone.
func GoesWith(o, container belay.ObjectID) bool {
	switch container.GroupKind() {
	case namespaceKind:
		return o.Namespace == container.Name
	case definitionKind:
		plural, group, _ := strings.Cut(container.Name, ".")
		k := strings.ToLower(o.Kind)
		return group != "" && o.Group == group && slices.Contains([]string{k, k + "s", k + "es", strings.TrimSuffix(k, "y") + "ies"}, plural)
	}
	return false
}
