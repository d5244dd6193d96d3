package reconcile

import (
	"context"
	"fmt"
	"slices"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
	"github.com/belaydev/belay/internal/plan"
)

// A preview in which applications leave Git has to say which of them would stay
// all the same, because more would go at once than their set or the fleet allows.

// removals are the applications that leave Git in what is previewed and are held.
type removals struct {
	// bySet are held by their ApplicationSet: they stay declared.
	bySet map[string]*belay.Error
	// byFleet are held because too many of all go at once.
	byFleet map[string]*belay.Error
}

// recallLeft finds what applications meant that left Git before an engine started
// that lives for one plan: it has no time to come upon them. Those that Git never
// declared are none of its business.
func (e *Engine) recallLeft(ctx context.Context) {
	e.findOrphans("")
	e.mu.Lock()
	rev, loaded := e.config, e.catalog != nil
	var left []*app
	for _, a := range e.apps {
		if a.def == nil {
			left = append(left, a)
		}
	}
	e.mu.Unlock()
	if !loaded {
		return
	}
	for _, a := range left {
		err := e.recallSets(ctx, a)
		e.mu.Lock()
		known := a.meant() != nil
		e.mu.Unlock()
		if err == nil && !known {
			err = e.recall(ctx, a, rev)
		}
		if err != nil {
			e.Logger.Debug("what left Git is not planned", "application", a.name, "error", err)
		}
	}
}

// foreseeRemovals finds out which applications leave Git, asked for or not, and
// what holds them.
func (e *Engine) foreseeRemovals(v view, req belay.PlanRequest) removals {
	r := removals{bySet: map[string]*belay.Error{}, byFleet: map[string]*belay.Error{}}
	declared := map[string]bool{}
	for _, name := range req.Declared {
		declared[name] = true
	}
	if req.Rendered == nil && len(req.Declared) == 0 {
		for name := range v.catalog.Applications {
			declared[name] = true
		}
	}
	if len(declared) == 0 { // of a few, or nobody knows all
		return r
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	sets := map[string][]string{} // what each of the sets that stay would no longer make
	had, meant := map[string]int{}, map[string]bool{}
	var gone []string
	for name, a := range e.apps {
		if a.def != nil {
			had[a.def.Set]++
		}
		if def := a.meant(); def != nil && !declared[name] {
			gone = append(gone, name)
			meant[name] = confirmedBySet(v.catalog, name, def)
			if a.def != nil {
				sets[a.def.Set] = append(sets[a.def.Set], name)
			}
		}
	}
	now := e.catalog.Sets()
	for i := range req.Sets {
		set := &req.Sets[i]
		names := slices.Sorted(slices.Values(sets[set.Name]))
		held, why := catalog.Withhold(set, now[set.Name].Held, names, had[set.Name])
		for _, name := range names {
			meant[name] = belay.TokenCovers(set.Confirm, []string{name})
		}
		for _, name := range held {
			r.bySet[name], declared[name] = why, true
		}
	}
	var orphans []string
	for name, a := range e.apps {
		if !declared[name] && !meant[name] && (a.meant() == nil || e.hasObjects(a)) {
			orphans = append(orphans, name)
		}
	}
	if why, _ := tooManyLeave(v.catalog, len(declared), orphans); why != nil {
		for _, name := range gone {
			if !meant[name] && !declared[name] {
				r.byFleet[name] = why
			}
		}
	}
	return r
}

// hasObjects says whether there is something of an application to delete: where
// nothing is, it is gone at once. Called with e.mu.
func (e *Engine) hasObjects(a *app) bool {
	c := e.clusters[a.meant().Spec.Destination.Cluster]
	return c == nil || c.conn == nil || c.conn.Ready() != nil || len(prunable(c.conn, a.name)) > 0
}

// tooManyLeave says that more applications leave Git than may at once, unless a
// Project confirms it: then it gives the token. declared is how many stay.
func tooManyLeave(cat *catalog.Catalog, declared int, orphans []string) (_ *belay.Error, token string) {
	total := declared + len(orphans)
	if total < removalFrom || len(orphans)*100 <= removalShare*total {
		return nil, ""
	}
	if token := confirmed(cat, orphans); token != "" {
		return nil, token
	}
	return &belay.Error{Code: belay.CodeHeld,
		Message: fmt.Sprintf("%d of %d applications left Git at once; none is torn down without a confirmation", len(orphans), total),
		Hint:    fmt.Sprintf("if that is meant, add %q to spec.confirm of a Project and commit", plan.TokenOf(orphans))}, ""
}
