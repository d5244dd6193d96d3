package reconcile

import (
	"slices"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// The last application that may declare an object can be read between the plan of
// another one to delete it and the question whether that may be: by then all is known,
// and the plan is of before.
func TestADeletionLooksAtClaimsLast(t *testing.T) {
	ns := belay.Live{ID: belay.ObjectID{Kind: "Namespace", Name: "y"}, UID: "2", Application: "web"}
	for name, c := range map[string]struct {
		live     belay.Live
		declares belay.ObjectID
		stays    bool
	}{
		"nobody declares it":          {configMap("web", "a", "1"), configMap("", "b", "").ID, false},
		"another declares it":         {configMap("web", "a", "1"), configMap("", "a", "").ID, true},
		"nothing in it is declared":   {ns, configMap("", "a", "").ID, false},
		"another declares what is in": {ns, belay.ObjectID{Kind: "ConfigMap", Namespace: "y", Name: "a"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e, target := movedEngine(t, onShelf(), onShelf(c.live))
			target.def.Spec.Sync.Automatic = true
			target.def.Spec.Sync.Confirm = plan.TokenOf([]string{belay.FormatID("", c.live.ID)})
			stays, err := belay.NewObject([]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"stays","namespace":"x"}}`), belay.Origin{})
			if err != nil {
				t.Fatal(err)
			}
			other := newApp("other")
			def := *target.def
			def.Name = "other"
			other.def = &def
			e.apps["other"] = other // it was not read yet

			planned := func() (del *belay.Action, allow func(*belay.Action) (bool, string)) {
				p, gate := e.plan(target, []belay.Object{stays})
				if i := slices.IndexFunc(p.Actions, deletes); i >= 0 {
					del = &p.Actions[i]
				}
				return del, gate.Allow
			}
			del, allow := planned()
			if del == nil || del.Blocked != nil {
				t.Fatalf("it is not planned to be deleted: %+v", del)
			}
			if ok, _ := allow(del); ok {
				t.Fatal("deleted before all was read")
			}
			e.claims["new"].replace("other", nil, []declared{{id: c.declares}})
			other.read, other.dirty = true, false
			ok, why := allow(del)
			if ok == c.stays {
				t.Errorf("allowed: %t (%s)", ok, why)
			}
			if woken := e.queue.queued[key{keyApp, "web"}]; woken != c.stays {
				t.Errorf("looked at again: %t", woken)
			}
			if del, _ := planned(); (del == nil || del.Blocked != nil) != c.stays {
				t.Errorf("then it is planned: %+v", del)
			}
		})
	}
}

// The same for the object of a hook that is left over: another application may come to
// declare it.
func TestALeftoverLooksAtClaimsLast(t *testing.T) {
	hook := configMap("web", "a", "1")
	hook.Hook = &belay.LiveHook{Run: "r", Phase: belay.PreSync}
	for _, name := range []string{"a", "b"} {
		e, target := movedEngine(t, onShelf(), onShelf(hook))
		out := e.leftovers(target, nil, plan.Gate{Allow: func(*belay.Action) (bool, string) {
			e.claims["new"].replace("other", nil, []declared{{id: configMap("", name, "").ID}}) // it is read at last
			return true, ""
		}})
		if deleted := len(out) == 1; deleted != (name != "a") {
			t.Errorf("%s is declared by another application: %+v", name, out)
		}
	}
}
