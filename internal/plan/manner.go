package plan

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/belaydev/belay"
)

// manner says how a desired object may be written. live is nil if it is not there.
func manner(in *Input, d *belay.Object, live *belay.Live) belay.Manner {
	sp := &in.Application.Spec.Sync
	o := optionsOf(d)
	m := belay.Manner{Adopt: o.Adopt.Or(sp.Adopt), Replace: o.Replace.Or(sp.Replace), Ignore: belay.RulesFor(sp.IgnoreDifferences, d.ID)}
	m.Recreate, m.NoRecreate = recreate(in, d.ID, o, live)
	return m
}

// recreate says whether an object may be deleted to be made anew, or else what
// would allow it. What must not be deleted must not be for this either.
func recreate(in *Input, id belay.ObjectID, o belay.ObjectOptions, live *belay.Live) (ok bool, otherwise string) {
	itself := fmt.Sprintf("annotate it %s: %s", belay.AnnotationRecreate, belay.Enabled)
	switch {
	case o.Recreate == belay.Disabled:
		return false, fmt.Sprintf("its annotation %s: %s keeps it from being deleted and made anew", belay.AnnotationRecreate, belay.Disabled)
	case o.Recreate == "" && holdsData(id.GroupKind()):
		return false, fmt.Sprintf("if it may be deleted and made anew, with the data that it holds, %s; else take the change back", itself)
	case o.Recreate == "" && !in.Application.Spec.Sync.Recreate:
		return false, fmt.Sprintf("if it may be deleted and made anew, %s, or set spec.sync.recreate of the Application; else take the change back", itself)
	case live == nil || live.Application != in.Application.Name:
		return false, "it was not applied by this application, so it is not deleted; take the change back, or delete it by hand"
	case o.KeepOnPrune || o.KeepOnTeardown || live.PruneDisabled || live.TeardownDisabled:
		return false, fmt.Sprintf("it says that it must not be deleted (%s or a like annotation); commit that away first, or take the change back", belay.AnnotationPrune)
	case o.ConfirmPrune || live.ConfirmPrune:
		if token := Token([]belay.Action{{ID: id}}); !Covers(in.Application.Spec.Sync.Confirm, []string{belay.FormatID("", id)}) {
			return false, fmt.Sprintf("its deletion has to be confirmed: set spec.sync.confirm: %q in the Application and commit", token)
		}
	}
	return true, ""
}

func optionsOf(o *belay.Object) belay.ObjectOptions {
	var head struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	_ = json.Unmarshal(o.Raw, &head) // it was made by Stamp
	return belay.OptionsOf(head.Metadata.Annotations)
}

// ignored is what the rules for one object come to when it is compared.
type ignored struct {
	rules    []belay.IgnoreRule
	pointers [][]string
}

func ignoredBy(rules []belay.IgnoreRule) ignored {
	return ignored{rules, belay.IgnoredPointers(rules)}
}

// others takes ignored fields out of somebody's entry, with what the entry owns
// only because they need a place. v is the manifest at the same place: it tells
// which item of a list an index means.
func (ig ignored) others(fields map[string]any, v any) {
	for _, p := range ig.pointers {
		pruneEntry(fields, v, p)
	}
}

// pruneEntry says whether nothing is left of the entry by that.
func pruneEntry(fields map[string]any, v any, pointer []string) (emptied bool) {
	var element string
	var next any
	switch v := v.(type) {
	case []any:
		for i, k := range assign(itemKeys(fields), v) {
			if strconv.Itoa(i) == pointer[0] {
				element, next = k, v[i]
			}
		}
	default:
		m, _ := v.(map[string]any)
		element, next = "f:"+pointer[0], m[pointer[0]]
	}
	f, ok := fields[element].(map[string]any)
	if !ok || (len(pointer) > 1 && !pruneEntry(f, next, pointer[1:])) {
		return false
	}
	delete(fields, element)
	if !hasParts(fields) {
		delete(fields, ".")
	}
	return len(fields) == 0
}

// mayBeLost says whether a field that is not ours any more may be so: somebody who may
// have it has it, or it is atomic and holds an ignored one.
func (ig ignored) mayBeLost(l *lostField) bool {
	for _, h := range l.now {
		if belay.IgnoresManager(ig.rules, h.owner.entry.Manager) {
			return true
		}
	}
	for _, p := range ig.pointers {
		if len(l.path) < len(p) && leadsTo(l.path, p) {
			for _, h := range l.now {
				if h.whole() {
					return true
				}
			}
		}
	}
	return false
}

// leadsTo says whether a path of an entry is the beginning of a pointer. An index
// may mean any item.
func leadsTo(path, pointer []string) bool {
	for i, e := range path {
		if name, isField := strings.CutPrefix(e, "f:"); isField && name != pointer[i] {
			return false
		}
	}
	return true
}

// ignoreMark is what rules add to the digest of an object: with other rules it has
// to be applied once more, to take fields back or to hand them over.
func ignoreMark(rules []belay.IgnoreRule, id belay.ObjectID) string {
	fit := belay.RulesFor(rules, id)
	if len(fit) == 0 {
		return ""
	}
	type what struct{ Pointers, Managers []string }
	var all []what
	for _, r := range fit {
		all = append(all, what{r.Pointers, r.Managers})
	}
	return "\nignore " + compact(all)
}
