package plan

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

// sim is a cluster that takes its time: objects become healthy, kinds served and
// deletions final only as it ticks.
type sim struct {
	*world
	served  map[string]bool         // kinds that a definition brings
	failing map[belay.ObjectID]int  // writes that fail so many times
	confirm bool                    // a person confirms what is held
	written []belay.Action          // everything carried out
	stuck   map[belay.ObjectID]bool // never healthy
}

func (s *sim) gate() Gate {
	return Gate{Desired: s.desired,
		Lookup: func(i belay.ObjectID) (belay.Live, bool) { l, ok := s.live[i]; return l, ok },
		Served: func(o *belay.Object) bool { return o.ID.Kind != "Thing" || s.served["Thing"] },
		Allow:  func(a *belay.Action) (bool, string) { return true, "" },
	}
}

// carryOut does one action, as an API server would.
func (s *sim) carryOut(t *rapid.T, a belay.Action) {
	if s.failing[a.ID] > 0 {
		s.failing[a.ID]--
		return
	}
	s.written = append(s.written, a)
	if a.Verb == belay.VerbDelete {
		l := s.live[a.ID]
		if l.Application != "shop" || l.PruneDisabled {
			t.Fatalf("deletes %s", a.ID)
		}
		l.Deleting = true
		s.live[a.ID] = l
		return
	}
	if a.ID.Kind == "Thing" && !s.served["Thing"] {
		t.Fatalf("writes %s before its kind is served", a.ID)
	}
	was, existed := s.live[a.ID]
	if (a.Verb == belay.VerbCreate) == existed {
		t.Fatalf("%s of %s, there: %v", a.Verb, a.ID, existed)
	}
	l := applied(*a.Desired)
	if existed && a.Verb == belay.VerbHeal {
		l.Health, l.Established = was.Health, was.Established
	} else {
		l.Health, l.Established = belay.Progressing, a.ID.Kind != "CustomResourceDefinition" || was.Established
	}
	s.live[a.ID] = l
}

// check asserts that an action waits for nothing any more.
func (s *sim) check(t *rapid.T, a *belay.Action, p *belay.Plan) {
	if a.Blocked != nil {
		t.Fatalf("runs %s of %s, which is blocked: %v", a.Verb, a.ID, a.Blocked)
	}
	if p.Held != nil && (a.Verb == belay.VerbDelete || a.Verb == belay.VerbCreate) {
		t.Fatalf("runs %s of %s of a held plan", a.Verb, a.ID)
	}
	if a.Verb == belay.VerbHeal {
		return // follows no order
	}
	for _, o := range s.desired {
		l, there := s.live[o.ID]
		right := there && l.Digest == o.Digest && l.Application == "shop"
		before := o.Wave < a.Wave || (o.Wave == a.Wave && rank(o.ID) < a.Rank) || a.Verb == belay.VerbDelete
		if before && !right {
			t.Fatalf("runs %s of %s before %s was written", a.Verb, a.ID, o.ID)
		}
		if a.Verb != belay.VerbDelete && o.Wave < a.Wave && l.Health != belay.Healthy && l.Health != belay.Suspended {
			t.Fatalf("runs %s of %s before %s of an earlier wave is healthy", a.Verb, a.ID, o.ID)
		}
		if a.Verb != belay.VerbDelete && before && o.ID.Kind == "CustomResourceDefinition" && !l.Established {
			t.Fatalf("runs %s of %s before %s is served", a.Verb, a.ID, o.ID)
		}
	}
	for _, l := range s.live {
		if a.Verb == belay.VerbDelete && l.Application == "shop" && compareOrder(&belay.Action{Wave: l.Wave, Rank: rank(l.ID)}, a) > 0 && !l.PruneDisabled && s.claims[l.ID] == "" &&
			!slices.ContainsFunc(s.desired, func(o belay.Object) bool { return o.ID == l.ID }) {
			t.Fatalf("deletes %s before %s is gone", a.ID, l.ID)
		}
	}
}

// tick lets one thing happen that a cluster does by itself; false if there is none.
func (s *sim) tick(t *rapid.T) bool {
	var can []func()
	for _, i := range sortedIDs(s.live) {
		l := s.live[i]
		switch {
		case l.Deleting:
			can = append(can, func() { delete(s.live, i) })
		case l.Health == belay.Progressing && !s.stuck[i]:
			can = append(can, func() { l.Health = belay.Healthy; s.live[i] = l })
		case !l.Established:
			can = append(can, func() { l.Established = true; s.live[i] = l; s.served["Thing"] = true })
		}
	}
	if len(can) == 0 {
		return false
	}
	can[rapid.IntRange(0, len(can)-1).Draw(t, "event")]()
	return true
}

func drawSim(t *rapid.T) *sim {
	s := &sim{world: newWorld(), served: map[string]bool{}, failing: map[belay.ObjectID]int{}, stuck: map[belay.ObjectID]bool{}}
	kinds := []string{"ConfigMap", "Deployment", "StatefulSet", "Thing", "Namespace", "ClusterRole", "ValidatingWebhookConfiguration"}
	draw := rapid.Custom(func(t *rapid.T) belay.ObjectID {
		return id(rapid.SampledFrom(kinds).Draw(t, "kind"), rapid.StringMatching(`[a-e]`).Draw(t, "name"))
	})
	for _, i := range rapid.SliceOfNDistinct(draw, 0, 10, rapid.ID).Draw(t, "desired") {
		o := object(i, "new")
		o.Wave = rapid.IntRange(0, 2).Draw(t, "wave")
		s.desired = append(s.desired, o)
		if rapid.IntRange(0, 5).Draw(t, "fails") == 0 {
			s.failing[i] = 2
		}
		if rapid.IntRange(0, 19).Draw(t, "stuck") == 0 {
			s.stuck[i] = true
		}
	}
	// Things need their definition, in no later wave.
	crd := object(id("CustomResourceDefinition", "things"), "new")
	s.desired = append(s.desired, crd)
	for _, i := range rapid.SliceOfNDistinct(draw, 0, 12, rapid.ID).Draw(t, "live") {
		l := applied(object(i, rapid.SampledFrom([]string{"new", "old"}).Draw(t, "applied")))
		l.Application = rapid.SampledFrom([]string{"shop", "shop", "shop", "other"}).Draw(t, "application")
		l.PruneDisabled = rapid.IntRange(0, 5).Draw(t, "pruneDisabled") == 0
		l.Wave = rapid.IntRange(0, 2).Draw(t, "live wave")
		if rapid.IntRange(0, 4).Draw(t, "drifted") == 0 {
			l.Managers = drifted
		}
		if l.ID.Kind == "Thing" {
			s.live[crd.ID] = applied(crd)
			s.served["Thing"] = true
		}
		s.live[i] = l
	}
	s.app.Spec.Sync.PruneLimit.From = rapid.IntRange(1, 12).Draw(t, "from")
	s.app.Spec.Sync.PruneLimit.Percent = rapid.SampledFrom([]int{0, 20, 50, 100}).Draw(t, "percent")
	s.confirm = rapid.Bool().Draw(t, "confirmed")
	return s
}

// Carrying out what may run, again and again, makes the cluster equal to Git, in
// order, and then nothing is left to do. What is held or not confirmed stays;
// a plan that was not held never becomes held on the way, and no hold comes
// loose without a confirmation.
func TestCarryingOutPlansConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSim(t)
		first := s.build()
		foreign := map[belay.ObjectID]bool{}
		for i, l := range s.live {
			foreign[i] = l.Application != "shop"
		}
		if first.Held != nil && s.confirm {
			s.app.Spec.Sync.Confirm = Token(first.HeldActions)
		}
		held := first.Held != nil && !s.confirm
		for rounds := 0; ; rounds++ {
			if rounds > 500 {
				t.Fatal("does not end")
			}
			p := s.build()
			if (p.Held != nil) != held {
				t.Fatalf("held: %v, at first: %v", p.Held, first.Held)
			}
			step := Frontier(&p, s.gate())
			for i := range step.Run {
				s.check(t, &step.Run[i], &p)
			}
			some := step.Run
			if len(some) > 1 && rapid.IntRange(0, 3).Draw(t, "killed") == 0 { // in the middle of a group
				some = shuffled(t, some)[:rapid.IntRange(0, len(some)-1).Draw(t, "at")]
			}
			for _, a := range some {
				s.carryOut(t, a)
			}
			if rapid.Bool().Draw(t, "tick") || len(step.Run) == 0 {
				if !s.tick(t) && len(step.Run) == 0 {
					if len(p.Actions) > 0 && step.Waiting == "" {
						t.Fatalf("%d actions are left and nobody says why", len(p.Actions))
					}
					break
				}
			}
		}
		if len(s.stuck) > 0 {
			return // what comes after it waits for ever, and check saw to it that it did
		}
		last := s.build()
		for _, a := range last.Actions {
			if !held {
				t.Fatalf("%s of %s is left", a.Verb, a.ID)
			}
		}
		for _, o := range s.desired {
			if l := s.live[o.ID]; !held && (l.Digest != o.Digest || l.Application != "shop") {
				t.Fatalf("%s is %+v", o.ID, l)
			}
		}
		declared := map[belay.ObjectID]bool{}
		for _, o := range s.desired {
			declared[o.ID] = true
		}
		for i, theirs := range foreign {
			if _, there := s.live[i]; theirs && !there {
				t.Fatalf("%s was another application's, and is gone", i)
			}
			if l, there := s.live[i]; !theirs && !declared[i] && there && !l.PruneDisabled && !held {
				t.Fatalf("%s is left", i)
			}
		}
		seen := map[string]int{}
		for _, a := range s.written {
			k := fmt.Sprint(a.ID)
			if seen[k]++; seen[k] > 1 {
				t.Fatalf("%s was written %d times", a.ID, seen[k])
			}
		}
	})
}
