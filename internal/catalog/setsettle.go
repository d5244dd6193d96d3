package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// settleSets puts what the sets made among the definitions. What is written by
// hand wins over what is generated, and of two sets the one that had the name.
func (c *Catalog) settleSets(prev *Catalog) {
	c.Holds = map[string]*belay.Error{}
	order := slices.Sorted(maps.Keys(c.sets))
	fresh := map[string][]key{} // what a set makes and did not make before
	for _, set := range order {
		exp := c.sets[set]
		exp.docs = make(map[string]*document, len(exp.names))
		for _, name := range exp.names {
			k := key{"Application", name}
			if before := prev.inForce[k]; before != nil && before.set == set {
				c.claim(exp, k, before)
			} else {
				fresh[set] = append(fresh[set], k)
			}
		}
	}
	for _, set := range order {
		for _, k := range fresh[set] {
			c.claim(c.sets[set], k, nil)
		}
	}
	for _, set := range order {
		exp := c.sets[set]
		c.keepGone(exp, prev)
		c.reportSet(exp)
	}
}

// claim puts one application of a set among the definitions; before is what the
// set made under that name before.
func (c *Catalog) claim(exp *expansion, k key, before *document) {
	doc := exp.wants[k.name]
	if other := c.inForce[k]; other != nil {
		p := c.problem(belay.CodeInvalid, c.originOf(exp.doc), "", "remove or rename one of them")
		if p.Application = k.name; other.set == "" {
			p.Message = fmt.Sprintf("%s makes an application %q (for %s), but one of that name is written at %s, which stays in force", exp.doc.key, k.name, exp.from[k.name], c.originOf(other))
		} else {
			p.Message = fmt.Sprintf("%s makes an application %q (for %s), but ApplicationSet %q makes it, too, which stays in force", exp.doc.key, k.name, exp.from[k.name], other.set)
		}
		c.Problems = append(c.Problems, *p)
		return
	}
	if doc.state == partial && before != nil && before.state != partial {
		return // keepGone keeps what it was
	}
	c.inForce[k], exp.docs[k.name] = doc, doc
}

// keepGone keeps applications that a set no longer makes where it is not certain
// that this is meant: something in it is wrong, or too many go at once.
func (c *Catalog) keepGone(exp *expansion, prev *Catalog) {
	set := exp.doc.key.name
	was := prev.sets[set]
	if was == nil {
		return
	}
	var gone []string
	had := 0
	for name, d := range was.docs {
		switch there := c.inForce[d.key] != nil; {
		case d.state == partial && !there && exp.failing: // never right, but declared
			c.inForce[d.key], exp.docs[name] = d, d
		case d.state == partial:
		case there:
			had++
		default:
			had++
			gone = append(gone, name)
		}
	}
	slices.Sort(gone)
	spec, _ := exp.doc.spec.(belay.ApplicationSetSpec)
	exp.held = withheld(&spec, exp.failing, was.held, gone, had)
	if len(exp.held) > 0 {
		exp.hold = heldBack(set, c.originOf(exp.doc), exp.held)
		c.Problems = append(c.Problems, *exp.hold)
	}
	for _, name := range gone {
		held := slices.Contains(exp.held, name)
		if !exp.failing && !held {
			continue
		}
		d := was.docs[name]
		if d.state != stale {
			d = d.asStale(prev.opts.Revision, false)
		}
		c.inForce[d.key], exp.docs[name] = d, d
		if held {
			c.Holds[name] = exp.hold
		}
	}
}

// Withhold says which of the applications that a set would no longer make must not
// go yet, and why: what a commit of it would lead to. had is how many it makes now,
// those included; before are those of them that are held already.
func Withhold(set *belay.DeclaredSet, before, gone []string, had int) ([]string, *belay.Error) {
	spec := belay.ApplicationSetSpec{PruneLimit: set.PruneLimit, Confirm: set.Confirm, Deletion: set.Deletion}
	held := withheld(&spec, false, before, gone, had)
	if len(held) == 0 {
		return nil, nil
	}
	return held, heldBack(set.Name, set.Origin, held)
}

// withheld are those of the applications gone from a set that must not go yet: all
// of them, if they are more than the limit or any was held before, until they are
// confirmed together. What was held is confirmed on its own, too: others may have
// gone since. failing is true for a set in which something is wrong.
func withheld(spec *belay.ApplicationSetSpec, failing bool, held, gone []string, had int) []string {
	if len(gone) == 0 || spec.Deletion == belay.DeletionOrphan || belay.TokenCovers(spec.Confirm, gone) {
		return nil
	}
	var before, rest []string
	for _, name := range gone {
		if slices.Contains(held, name) {
			before = append(before, name)
		} else {
			rest = append(rest, name)
		}
	}
	switch {
	case failing && (len(before) == 0 || belay.TokenCovers(spec.Confirm, before)):
		return nil // and yet nothing goes
	case failing:
		return before
	case len(before) > 0 && !belay.TokenCovers(spec.Confirm, before):
		return gone
	}
	had -= len(before)
	if len(rest) > 0 && (len(rest) == had || had >= spec.PruneLimit.From && len(rest)*100 > spec.PruneLimit.Percent*had) {
		return rest
	}
	return nil
}

// shownNames is how many names and tokens a message holds.
const shownNames = 5

// heldBack says why applications must not go yet.
func heldBack(set string, at belay.Origin, gone []string) *belay.Error {
	names := strings.Join(gone[:min(len(gone), shownNames)], ", ")
	if len(gone) > shownNames {
		names += ", …"
	}
	what := "1 application"
	if len(gone) > 1 {
		what = fmt.Sprintf("%d applications", len(gone))
	}
	return &belay.Error{Code: belay.CodeHeld, Origin: at,
		Message: fmt.Sprintf("%s would no longer make %s that it made before (%s); until that is confirmed nothing is deleted", key{"ApplicationSet", set}, what, names),
		Hint:    fmt.Sprintf("if that is meant, set spec.confirm: %q in the ApplicationSet and commit", belay.TokenOf(gone))}
}
