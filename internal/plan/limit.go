package plan

import (
	"fmt"
	"slices"

	"github.com/belaydev/belay"
)

// limit holds deletions back that look like an accident: a larger share of the
// application than Spec.Sync.PruneLimit allows, or all of it.
//
// The share is of the objects that are there: those that stay, those that
// "belay.dev/prune: disabled" keeps, and those to be deleted; an object that is
// made in place of a deleted one (the same kind in the same namespace, and
// nothing that holds data) is counted too, so that a rename is half a deletion.
//
// "All" are all that Belay may delete: that some object stays only because
// pruning it is disabled, or because another application declares it now, does
// not make the rest less of a surprise. Only where each one has something made
// in its place are they renamed, and not lost.
//
// What is being deleted already was decided before and counts no more. A plan
// that passes still passes after any of its actions, so that no sync is stopped
// half-way; that is why an application's size, for PruneLimit.From, includes what
// it is about to get.
func limit(in *Input, decl declared, writes, deletes []belay.Action) *belay.Error {
	if in.Teardown {
		return nil
	}
	gone := slices.DeleteFunc(slices.Clone(deletes), func(a belay.Action) bool { return a.Live.Deleting })
	if len(gone) == 0 {
		return nil
	}
	stay, kept := 0, 0
	for i := range in.Live {
		l := &in.Live[i]
		switch {
		case l.Application != in.Application.Name:
		case decl.has(l.ID):
			stay++
		case l.PruneDisabled && !l.Deleting && !in.Claimed(l.ID):
			kept++
		}
	}
	arriving, replaced := arrivals(in.Application.Name, writes, gone)
	there := stay + kept + len(gone)
	pl := in.Application.Spec.Sync.PruneLimit
	all := stay == 0 && replaced < len(gone)
	share := there+arriving >= pl.From && len(gone)*100 > pl.Percent*(there+replaced)
	if (!all && !share) || Covers(in.Application.Spec.Sync.Confirm, identities(gone)) {
		return nil
	}
	return &belay.Error{Code: belay.CodeHeld, Application: in.Application.Name, Origin: in.Application.Origin,
		Message: surplus(all, len(gone), there, kept, replaced, pl.Percent),
		Hint:    fmt.Sprintf("if that is meant, set spec.sync.confirm: %q in the Application and commit", Token(gone))}
}

// surplus says what would be too much.
func surplus(all bool, gone, there, kept, replaced, percent int) string {
	switch {
	case all && kept > 0:
		return fmt.Sprintf("would delete all of its %d objects but %d that %s keeps", there, kept, belay.AnnotationPrune)
	case all && there == 1:
		return "would delete its only object"
	case all:
		return fmt.Sprintf("would delete all of its %d objects", there)
	case replaced > 0:
		return fmt.Sprintf("would delete %d of %d objects, %d of which are to be made in their place; the limit is %d%%", gone, there+replaced, replaced, percent)
	}
	return fmt.Sprintf("would delete %d of its %d objects; the limit is %d%%", gone, there, percent)
}

// arrivals counts the objects that the application will have more, and those
// among them that are made in place of a deleted one: of the same kind, in the
// same namespace. Nothing takes the place of what holds data.
func arrivals(application string, writes, deletes []belay.Action) (all, replaced int) {
	type slot struct {
		kind belay.Kind
		ns   string
	}
	open := map[slot]int{}
	for i := range deletes {
		if id := deletes[i].ID; !holdsData(id.GroupKind()) {
			open[slot{id.GroupKind(), id.Namespace}]++
		}
	}
	for i := range writes {
		w := &writes[i]
		if w.Blocked != nil || !arrives(application, w) {
			continue
		}
		all++
		if s := (slot{w.ID.GroupKind(), w.ID.Namespace}); w.Verb == belay.VerbCreate && open[s] > 0 {
			open[s]--
			replaced++
		}
	}
	return all, replaced
}

func holdsData(k belay.Kind) bool {
	switch k {
	case belay.Kind{Kind: "PersistentVolumeClaim"}, belay.Kind{Kind: "PersistentVolume"}, belay.Kind{Kind: "Namespace"},
		belay.Kind{Group: "apps", Kind: "StatefulSet"}, belay.Kind{Group: crdGroup, Kind: "CustomResourceDefinition"}:
		return true
	}
	return false
}

// Token identifies a set of deletions; it is what a confirmation in Git repeats.
func Token(deletes []belay.Action) string { return TokenOf(identities(deletes)) }

func identities(actions []belay.Action) []string {
	out := make([]string, len(actions))
	for i := range actions {
		out[i] = belay.FormatID("", actions[i].ID)
	}
	return out
}

// TokenOf identifies a set of names, see [belay.TokenOf].
func TokenOf(names []string) string { return belay.TokenOf(names) }

// Covers tells whether a token confirms a set of names, see [belay.TokenCovers].
func Covers(token string, names []string) bool { return belay.TokenCovers(token, names) }
