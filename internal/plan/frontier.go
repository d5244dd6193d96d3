package plan

import (
	"cmp"
	"fmt"

	"github.com/belaydev/belay"
)

// Gate is what [Frontier] asks about the state around a plan.
type Gate struct {
	// Desired are all desired objects, not only those with an action.
	Desired []belay.Object
	// Lookup finds the live object.
	Lookup func(belay.ObjectID) (belay.Live, bool)
	// Served says whether the cluster serves the object's kind.
	Served func(*belay.Object) bool
	// Allow says whether an action may run now; a reason if it may not (it is in
	// backoff, or the sync policy leaves it to a person).
	Allow func(*belay.Action) (ok bool, reason string)
}

// Step is what may run now.
type Step struct {
	// Run may be carried out in parallel. Plan again afterwards.
	Run []belay.Action
	// Waiting says what keeps the rest, in words for the user; empty when nothing
	// is left to do.
	Waiting string
	// On is the object waited for, if it is one.
	On belay.ObjectID
}

// Frontier is the part of a plan that may run now: the heals, which follow no
// order, or else the first group of equal wave and rank. Later groups come into
// reach only when the plan no longer holds the earlier ones, so whatever fails
// or waits stops what comes after it and nothing else. Deletions come last and
// in reverse, each group after the one before is gone.
//
// A group of writes also waits until every object of an earlier wave is healthy
// (or suspended), and until the CustomResourceDefinitions before it are served.
func Frontier(p *belay.Plan, g Gate) Step {
	var s Step
	for i := 0; i < len(p.Actions); {
		j := i + 1
		for j < len(p.Actions) && sameGroup(&p.Actions[i], &p.Actions[j]) {
			j++
		}
		group := p.Actions[i:j]
		i = j
		if why, on := closed(&group[0], g); why != "" {
			if s.Waiting == "" {
				s.Waiting, s.On = why, on
			}
			return s
		}
		for k := range group {
			a := &group[k]
			if a.Blocked != nil {
				if s.Waiting == "" {
					s.Waiting, s.On = a.Blocked.Error(), a.ID
				}
				continue
			}
			if a.Desired != nil && !g.Served(a.Desired) {
				if s.Waiting == "" {
					s.Waiting = fmt.Sprintf("the cluster does not serve %s %s yet", a.Desired.APIVersion, a.ID.Kind)
					s.On = a.ID
				}
				continue
			}
			if ok, why := g.Allow(a); !ok {
				if s.Waiting == "" {
					s.Waiting, s.On = why, a.ID
				}
				continue
			}
			s.Run = append(s.Run, *a)
		}
		// Heals stop nothing that follows; any other group with something left does.
		if len(s.Run) > 0 || group[0].Verb != belay.VerbHeal {
			return s
		}
	}
	return s
}

func sameGroup(a, b *belay.Action) bool {
	if phase(a) != phase(b) {
		return false
	}
	return a.Verb == belay.VerbHeal || (a.Wave == b.Wave && a.Rank == b.Rank)
}

// closed says what the group of an action has to wait for.
func closed(a *belay.Action, g Gate) (why string, on belay.ObjectID) {
	if a.Verb == belay.VerbHeal || a.Verb == belay.VerbDelete {
		return "", on
	}
	for i := range g.Desired {
		d := &g.Desired[i]
		live, ok := g.Lookup(d.ID)
		if !ok {
			continue // it has an action of its own, in a group before or after
		}
		if d.Wave < a.Wave && !settled(d.ID, live.Health) {
			return fmt.Sprintf("wave %d waits for %s of wave %d, which is %s%s", a.Wave, d.ID, d.Wave, cmp.Or(live.Health, belay.Unknown), because(live.HealthMessage)), d.ID
		}
		first := d.Wave < a.Wave || (d.Wave == a.Wave && a.Rank > rankCRD)
		if first && rank(d.ID) == rankCRD && !live.Established {
			return fmt.Sprintf("%s is not served yet", d.ID), d.ID
		}
	}
	return "", on
}

// settled says whether later waves may follow an object. A claim may stay unbound
// until its first pod is there, which may well be in a later wave.
func settled(id belay.ObjectID, h belay.Health) bool {
	switch h {
	case belay.Healthy, belay.Suspended:
		return true
	case belay.Progressing:
		return id.GroupKind() == belay.Kind{Kind: "PersistentVolumeClaim"}
	}
	return false
}

func because(msg string) string {
	if msg == "" {
		return ""
	}
	return ": " + msg
}
