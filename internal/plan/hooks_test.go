package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

type phaseOf struct {
	id    belay.ObjectID
	phase belay.HookPhase
}

// hookSim is a sim with hooks. It knows of them what the orchestrator knows: their
// objects, and what it remembers of the run.
type hookSim struct {
	*sim
	hooks   []belay.Object
	objects map[belay.ObjectID]belay.Live // of hooks
	done    map[phaseOf]bool
	broken  map[phaseOf]int // runs that will fail; -1 for all
	failed  map[phaseOf]bool
	failing map[phaseOf]bool // failed once at least
	started map[phaseOf]int
	ended   map[phaseOf]int // failures
	stuck   map[belay.ObjectID]bool
}

const testRun = "run1"

func hookObject(i belay.ObjectID, wave int, phases ...belay.HookPhase) belay.Object {
	o := object(i, "hook")
	o.Wave, o.Hook = wave, &belay.Hook{Phases: phases}
	return o
}

func drawHookSim(t *rapid.T) *hookSim {
	s := &hookSim{sim: drawSim(t), objects: map[belay.ObjectID]belay.Live{}, done: map[phaseOf]bool{}, broken: map[phaseOf]int{},
		failed: map[phaseOf]bool{}, failing: map[phaseOf]bool{}, started: map[phaseOf]int{}, ended: map[phaseOf]int{}, stuck: map[belay.ObjectID]bool{}}
	phases := []belay.HookPhase{belay.PreSync, belay.SyncPhase, belay.PostSync, belay.SyncFail}
	for n := range rapid.IntRange(0, 6).Draw(t, "hooks") {
		kind := rapid.SampledFrom([]string{"Job", "Job", "ServiceAccount"}).Draw(t, "hook kind")
		o := hookObject(id(kind, fmt.Sprint("hook-", n)), rapid.IntRange(-1, 3).Draw(t, "hook wave"),
			rapid.SliceOfNDistinct(rapid.SampledFrom(phases), 1, 2, rapid.ID).Draw(t, "phases")...)
		slices.SortFunc(o.Hook.Phases, func(a, b belay.HookPhase) int { return slices.Index(phases, a) - slices.Index(phases, b) })
		for _, p := range o.Hook.Phases {
			if k := (phaseOf{o.ID, p}); rapid.IntRange(0, 4).Draw(t, "breaks") == 0 {
				s.broken[k] = rapid.SampledFrom([]int{1, 2, -1}).Draw(t, "how often")
			}
		}
		if rapid.IntRange(0, 9).Draw(t, "never ends") == 0 {
			s.stuck[o.ID] = true
		}
		if rapid.Bool().Draw(t, "ran before") {
			l := applied(o)
			l.Hook = &belay.LiveHook{Run: "run0", Phase: o.Hook.Phases[0]}
			l.Health = rapid.SampledFrom([]belay.Health{belay.Healthy, belay.Degraded, belay.Progressing}).Draw(t, "left as")
			s.objects[o.ID] = l
		}
		s.hooks = append(s.hooks, o)
	}
	return s
}

// runs is how far each hook is, from objects and memory.
func (s *hookSim) runs() []HookRun {
	var out []HookRun
	for i := range s.hooks {
		o := &s.hooks[i]
		for _, p := range o.Hook.Phases {
			k := phaseOf{o.ID, p}
			r := HookRun{Object: o, Phase: p, State: belay.HookWaiting}
			if l, ok := s.objects[o.ID]; ok {
				r.Live = &l
				r.Mine = l.Hook.Run == testRun && l.Hook.Phase == p
			}
			switch {
			case s.done[k]:
				r.State = belay.HookSucceeded
			case r.Mine && !r.Live.Deleting:
				if r.State = HookState(r.Live); r.State == belay.HookSucceeded {
					s.done[k] = true
				}
				s.failed[k] = r.State == belay.HookFailed
				s.failing[k] = s.failing[k] || s.failed[k]
			case s.failed[k]:
				r.State = belay.HookFailed
			}
			out = append(out, r)
		}
	}
	return out
}

func (s *hookSim) plan() (belay.Plan, HookStep) {
	p := s.build()
	return p, NextHooks(HookInput{Plan: &p, Gate: s.gate(), Run: testRun, Hooks: s.runs(), Restores: func(*belay.Action) bool { return false }})
}

// ran says whether all hooks of a phase, in waves below one, are done.
func (s *hookSim) ran(phase belay.HookPhase, below int) bool {
	return !slices.ContainsFunc(s.hooks, func(o belay.Object) bool {
		return o.Wave < below && o.Hook.In(phase) && !s.done[phaseOf{o.ID, phase}]
	})
}

const allWaves = 1000

// checkWrite asserts that a write waits for no hook.
func (s *hookSim) checkWrite(t *rapid.T, a *belay.Action, p *belay.Plan) {
	if a.Verb == belay.VerbHeal {
		return
	}
	home := a.Verb == belay.VerbCreate && a.ID.Kind == "Namespace"
	if !s.ran(belay.PreSync, allWaves) && !home {
		t.Fatalf("%s of %s before PreSync hooks are done", a.Verb, a.ID)
	}
	waves := a.Wave
	if a.Verb == belay.VerbDelete {
		waves = allWaves
	}
	if !home && !s.ran(belay.SyncPhase, waves) {
		t.Fatalf("%s of %s of wave %d before Sync hooks of earlier waves are done", a.Verb, a.ID, a.Wave)
	}
	if !home {
		s.check(t, a, p)
	}
}

// checkHook asserts that a hook starts neither early nor twice.
func (s *hookSim) checkHook(t *rapid.T, a *belay.Action, p *belay.Plan) {
	k := phaseOf{a.ID, a.Hook}
	if s.done[k] {
		t.Fatalf("%s of %s, which has run as %s", a.Verb, a.ID, a.Hook)
	}
	if l, ok := s.objects[a.ID]; ok && l.Hook.Run == testRun && l.Health == belay.Progressing {
		t.Fatalf("%s of %s, which is running as %s", a.Verb, a.ID, l.Hook.Phase)
	}
	if a.Hook != belay.SyncFail && !s.ran(a.Hook, a.Wave) {
		t.Fatalf("%s hook %s of wave %d before the waves before it", a.Hook, a.ID, a.Wave)
	}
	switch a.Hook {
	case belay.SyncPhase:
		if !s.ran(belay.PreSync, allWaves) {
			t.Fatalf("Sync hook %s before PreSync hooks", a.ID)
		}
		probe := belay.Action{Verb: belay.VerbCreate, ID: a.ID, Wave: a.Wave, Rank: a.Rank}
		s.check(t, &probe, &belay.Plan{})
	case belay.PostSync:
		if !s.ran(belay.PreSync, allWaves) || !s.ran(belay.SyncPhase, allWaves) || len(p.Actions) > 0 || p.Held != nil {
			t.Fatalf("PostSync hook %s with %d actions left", a.ID, len(p.Actions))
		}
		for _, o := range s.desired {
			if l := s.live[o.ID]; l.Digest != o.Digest || (l.Health != belay.Healthy && l.Health != belay.Suspended) {
				t.Fatalf("PostSync hook %s while %s is %s", a.ID, o.ID, l.Health)
			}
		}
	case belay.SyncFail:
		if len(s.failing) == 0 || !slices.ContainsFunc(s.hooks, func(o belay.Object) bool {
			return slices.ContainsFunc(o.Hook.Phases, func(p belay.HookPhase) bool { return s.failing[phaseOf{o.ID, p}] })
		}) {
			t.Fatalf("SyncFail hook %s, and nothing failed", a.ID)
		}
	}
}

// runHook does one action on a hook's object, as an API server would.
func (s *hookSim) runHook(t *rapid.T, a belay.Action) {
	if a.Verb == belay.VerbDelete {
		l := s.objects[a.ID]
		l.Deleting = true
		s.objects[a.ID] = l
		return
	}
	if _, there := s.objects[a.ID]; there != (a.Verb == belay.VerbUpdate) {
		t.Fatalf("%s of %s, there: %v", a.Verb, a.ID, there)
	}
	if want := fmt.Sprintf("%q:%q", belay.AnnotationHookRun, belay.FormatHookRun(testRun, a.Hook)); !strings.Contains(string(a.Desired.Raw), want) {
		t.Fatalf("%s is made without its run: %s", a.ID, a.Desired.Raw)
	}
	k := phaseOf{a.ID, a.Hook}
	if s.started[k]++; s.started[k] > 1+s.ended[k] {
		t.Fatalf("%s ran %d times as %s and failed %d times", a.ID, s.started[k], a.Hook, s.ended[k])
	}
	s.failed[k] = false
	l := applied(*a.Desired)
	l.Hook, l.Health = &belay.LiveHook{Run: testRun, Phase: a.Hook}, belay.Progressing
	s.objects[a.ID] = l
}

// tickHooks lets one thing happen to a hook; false if there is nothing.
func (s *hookSim) tickHooks(t *rapid.T) bool {
	var can []func()
	for _, i := range sortedIDs(s.objects) {
		l := s.objects[i]
		k := phaseOf{i, l.Hook.Phase}
		switch {
		case l.Deleting:
			can = append(can, func() { delete(s.objects, i) })
		case l.Hook.Run == testRun && l.Health == belay.Progressing && !s.stuck[i]:
			can = append(can, func() {
				l.Health = belay.Healthy
				if s.broken[k] != 0 {
					s.broken[k]--
					s.ended[k]++
					l.Health = belay.Degraded
				}
				s.objects[i] = l
			})
		case s.done[k] && l.Hook.Run == testRun: // its time to live is over, or somebody deletes it
			can = append(can, func() { delete(s.objects, i) })
		}
	}
	if len(can) == 0 {
		return false
	}
	can[rapid.IntRange(0, len(can)-1).Draw(t, "hook event")]()
	return true
}

// Whatever the hooks do and however long they take: nothing is written before
// PreSync is done, PostSync waits for everything, nothing runs twice unless it
// failed, and if nothing fails for ever the sync comes to its end.
func TestHooksRunInOrderAndOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawHookSim(t)
		s.app.Spec.Sync.PruneLimit = belay.PruneLimit{Percent: 100}
		first := s.build()
		if first.Held != nil {
			s.app.Spec.Sync.Confirm = Token(first.HeldActions)
		}
		for rounds := 0; ; rounds++ {
			if rounds > 600 {
				break // something fails again and again
			}
			p, next := s.plan()
			some := next.Run
			if len(some) > 1 && rapid.IntRange(0, 3).Draw(t, "killed") == 0 {
				some = shuffled(t, some)[:rapid.IntRange(0, len(some)-1).Draw(t, "at")]
			}
			for i := range some {
				if some[i].Hook != "" {
					s.checkHook(t, &some[i], &p)
				} else {
					s.checkWrite(t, &some[i], &p)
				}
			}
			for _, a := range some {
				if a.Hook != "" {
					s.runHook(t, a)
				} else {
					s.carryOut(t, a)
				}
			}
			if next.Done {
				s.checkDone(t)
				return
			}
			if len(next.Run) == 0 && next.Waiting == "" {
				t.Fatalf("%d actions and %d hooks are left, and nobody says why", len(p.Actions), len(next.Left))
			}
			if rapid.Bool().Draw(t, "tick") || len(next.Run) == 0 {
				if !s.tickHooks(t) && !s.tick(t) && len(next.Run) == 0 {
					break
				}
			}
		}
		endless := len(s.stuck) > 0 || len(s.sim.stuck) > 0 || slices.ContainsFunc(s.hooks, func(o belay.Object) bool {
			return slices.ContainsFunc(o.Hook.Phases, func(p belay.HookPhase) bool { return s.broken[phaseOf{o.ID, p}] < 0 })
		})
		if !endless {
			p, next := s.plan()
			t.Fatalf("does not end: %d actions, %d hooks left, waiting %q", len(p.Actions), len(next.Left), next.Waiting)
		}
	})
}

func (s *hookSim) checkDone(t *rapid.T) {
	for _, phase := range []belay.HookPhase{belay.PreSync, belay.SyncPhase, belay.PostSync} {
		if !s.ran(phase, allWaves) {
			t.Fatalf("done without its %s hooks", phase)
		}
	}
	if p := s.build(); len(p.Actions) > 0 {
		t.Fatalf("done with %d actions left", len(p.Actions))
	}
}

// What is only there is applied in place, and what runs is made anew; either may
// be told otherwise, except that a claim loses nothing by default.
func TestHooksInPlace(t *testing.T) {
	for kind, want := range map[string]bool{"Job": false, "Pod": false, "ServiceAccount": true, "ConfigMap": true, "PersistentVolumeClaim": true, "StatefulSet": true, "Workflow": false} {
		o := hookObject(id(kind, "x"), 0, belay.PreSync)
		if kind == "Job" {
			o.ID.Group = "batch"
		}
		if inPlace(&o) != want {
			t.Errorf("%s in place: %v", kind, !want)
		}
		o.Hook.Delete = []belay.HookDelete{belay.HookBeforeCreation}
		if inPlace(&o) {
			t.Errorf("%s is told to be deleted first, and is not", kind)
		}
	}
}

// The namespace that a PreSync hook lives in is made before it.
func TestPreSyncHookWaitsForItsNamespace(t *testing.T) {
	s := &hookSim{sim: &sim{world: newWorld(), served: map[string]bool{}}, objects: map[belay.ObjectID]belay.Live{}, done: map[phaseOf]bool{}, failed: map[phaseOf]bool{}, failing: map[phaseOf]bool{}}
	ns := object(belay.ObjectID{Kind: "Namespace", Name: "default"}, "new")
	s.desired = []belay.Object{ns, object(id("ConfigMap", "c"), "new")}
	s.hooks = []belay.Object{hookObject(id("Job", "migrate"), 0, belay.PreSync)}
	_, next := s.plan()
	if len(next.Run) != 1 || next.Run[0].ID != ns.ID {
		t.Fatalf("runs %+v", next.Run)
	}
	s.live[ns.ID] = applied(ns)
	_, next = s.plan()
	if len(next.Run) != 1 || next.Run[0].Hook != belay.PreSync || next.Run[0].Verb != belay.VerbCreate {
		t.Fatalf("runs %+v", next.Run)
	}
}

func TestBlockedHookStopsTheSync(t *testing.T) {
	s := &hookSim{sim: &sim{world: newWorld(), served: map[string]bool{}}, objects: map[belay.ObjectID]belay.Live{}, done: map[phaseOf]bool{}, failed: map[phaseOf]bool{}, failing: map[phaseOf]bool{}}
	s.desired = []belay.Object{object(id("ConfigMap", "c"), "new")}
	s.hooks = []belay.Object{hookObject(id("Job", "migrate"), 0, belay.PreSync), hookObject(id("Job", "tell"), 0, belay.SyncFail)}
	p := s.build()
	runs := s.runs()
	runs[0].Blocked = &belay.Error{Code: belay.CodeDenied, Message: "not allowed"}
	next := NextHooks(HookInput{Plan: &p, Gate: s.gate(), Run: testRun, Hooks: runs, Restores: func(*belay.Action) bool { return false }})
	if len(next.Run) != 1 || next.Run[0].Hook != belay.SyncFail || !strings.Contains(next.Waiting, "not allowed") {
		t.Errorf("runs %+v, waiting %q", next.Run, next.Waiting)
	}
}

func TestTeardownRunsHooksBeforeAndAfter(t *testing.T) {
	w := newWorld()
	w.teardown = true
	w.live[id("ConfigMap", "c")] = applied(object(id("ConfigMap", "c"), "x"))
	before, after := hookObject(id("Job", "backup"), 0, belay.PreDelete), hookObject(id("Job", "report"), 0, belay.PostDelete)
	state := map[belay.ObjectID]belay.HookState{before.ID: belay.HookWaiting, after.ID: belay.HookWaiting}
	step := func() HookStep {
		p := w.build()
		return NextTeardown(HookInput{Plan: &p, Run: testRun, Gate: (&sim{world: w}).gate(), Hooks: []HookRun{
			{Object: &before, Phase: belay.PreDelete, State: state[before.ID]}, {Object: &after, Phase: belay.PostDelete, State: state[after.ID]}}})
	}
	only := func(what string, i belay.ObjectID) {
		t.Helper()
		if s := step(); len(s.Run) != 1 || s.Run[0].ID != i || s.Done {
			t.Fatalf("%s: runs %+v", what, s.Run)
		}
	}
	only("first", before.ID)
	state[before.ID] = belay.HookRunning
	if s := step(); len(s.Run) != 0 || !strings.Contains(s.Waiting, "is running") {
		t.Fatalf("while it runs: %+v", s)
	}
	state[before.ID] = belay.HookFailed
	only("again after a failure", before.ID)
	state[before.ID] = belay.HookSucceeded
	only("then", id("ConfigMap", "c"))
	delete(w.live, id("ConfigMap", "c"))
	only("at last", after.ID)
	state[after.ID] = belay.HookSucceeded
	if s := step(); !s.Done {
		t.Fatalf("%+v", s)
	}
}

func TestHookLeftovers(t *testing.T) {
	hook := func(name string, policy ...belay.HookDelete) belay.Object {
		o := hookObject(id("Job", name), 0, belay.PreSync)
		o.Hook.Delete = policy
		return o
	}
	hooks := []belay.Object{hook("kept"), hook("onSuccess", belay.HookOnSuccess), hook("onFailure", belay.HookOnFailure)}
	for _, tt := range []struct {
		health      belay.Health
		over, prune bool
		want        string
	}{
		{belay.Healthy, false, true, "gone"},
		{belay.Healthy, true, true, "gone onSuccess"},
		{belay.Healthy, true, false, "onSuccess"},
		{belay.Degraded, false, true, "gone onFailure"},
		{belay.Progressing, true, true, "gone"},
	} {
		var live []belay.Live
		for _, name := range []string{"gone", "kept", "object", "onFailure", "onSuccess"} {
			l := applied(hook(name))
			l.Hook, l.Health = &belay.LiveHook{Run: testRun, Phase: belay.PreSync}, tt.health
			live = append(live, l)
		}
		live = append(live, applied(object(id("ConfigMap", "plain"), "x")))
		var got []string
		for _, a := range HookLeftovers(live, hooks, func(i belay.ObjectID) bool { return i.Name == "object" }, tt.over, tt.prune) {
			if a.Verb != belay.VerbDelete || a.Hook == "" {
				t.Errorf("%+v", a)
			}
			got = append(got, a.ID.Name)
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s, over %v, prune %v: deletes %q, want %q", tt.health, tt.over, tt.prune, s, tt.want)
		}
	}
}
