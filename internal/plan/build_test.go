package plan

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

// world is all that a plan depends on, as the tests make it up.
type world struct {
	app     belay.Application
	project belay.Project
	desired []belay.Object
	un      []Unresolved
	live    map[belay.ObjectID]belay.Live
	claims  map[belay.ObjectID]string // other applications' declarations
	// claimant names the application that gets a doubly declared object.
	claimant map[belay.ObjectID]string
	teardown bool
}

func newWorld() *world {
	w := &world{app: belay.Application{Name: "shop", Spec: belay.DefaultApplicationSpec()}, project: belay.OpenProject(),
		live: map[belay.ObjectID]belay.Live{}, claims: map[belay.ObjectID]string{}, claimant: map[belay.ObjectID]string{}}
	w.app.Origin = belay.Origin{File: "apps/shop.yaml", Line: 1}
	return w
}

func (w *world) input() Input {
	in := Input{Application: &w.app, Project: &w.project, Cluster: "local", Desired: w.desired, Unresolved: w.un, Teardown: w.teardown,
		Namespaced: func(o belay.Object) bool { return o.ID.Namespace != "" },
		Lookup:     func(id belay.ObjectID) (belay.Live, bool) { l, ok := w.live[id]; return l, ok },
		Claimant: func(id belay.ObjectID) (string, belay.Origin, bool) {
			who, ok := w.claimant[id]
			return who, belay.Origin{File: "apps/other.yaml", Line: 7}, ok
		},
		Claimed: func(id belay.ObjectID) bool { return w.claims[id] != "" },
	}
	for _, id := range sortedIDs(w.live) {
		if l := w.live[id]; l.Application == w.app.Name {
			in.Live = append(in.Live, l)
		}
	}
	return in
}

func sortedIDs[V any](m map[belay.ObjectID]V) []belay.ObjectID {
	return slices.SortedFunc(maps.Keys(m), belay.ObjectID.Compare)
}

func (w *world) build() belay.Plan { return Build(w.input()) }

// id is short for the tests: "apps/Deployment web", "Namespace web".
func id(kind, name string) belay.ObjectID {
	out := belay.ObjectID{Kind: kind, Namespace: "default", Name: name}
	switch kind {
	case "Deployment", "StatefulSet":
		out.Group = "apps"
	case "CustomResourceDefinition":
		out.Group, out.Namespace = crdGroup, ""
	case "ClusterRole":
		out.Group, out.Namespace = "rbac.authorization.k8s.io", ""
	case "ValidatingWebhookConfiguration":
		out.Group, out.Namespace = "admissionregistration.k8s.io", ""
	case "Thing":
		out.Group = "example.com"
	case "Namespace":
		out.Namespace = ""
	}
	return out
}

func object(i belay.ObjectID, digest string) belay.Object {
	raw := fmt.Appendf(nil, `{"kind":%q,"metadata":{"name":%q,"labels":{"a":"b"}}}`, i.Kind, i.Name)
	version := "v1"
	if i.Group != "" {
		version = i.Group + "/v1"
	}
	return belay.Object{ID: i, APIVersion: version, Raw: raw, Digest: digest, Origin: belay.Origin{File: i.Kind + "-" + i.Name + ".yaml", Line: 1}}
}

func applied(o belay.Object) belay.Live {
	return belay.Live{ID: o.ID, APIVersion: o.APIVersion, Application: "shop", Digest: o.Digest, UID: "uid", Namespaced: o.ID.Namespace != "",
		Established: true, Health: belay.Healthy, PruneDisabled: o.PruneDisabled, Wave: o.Wave}
}

// has makes the application declare objects and the cluster hold them.
func (w *world) has(objects ...belay.Object) {
	for _, o := range objects {
		w.desired = append(w.desired, o)
		w.live[o.ID] = applied(o)
	}
}

// left makes the cluster hold objects that Git no longer declares.
func (w *world) left(ids ...belay.ObjectID) {
	for _, i := range ids {
		w.live[i] = applied(object(i, "old"))
	}
}

func verbs(p *belay.Plan) map[belay.ObjectID]belay.Verb {
	out := map[belay.ObjectID]belay.Verb{}
	for _, a := range p.Actions {
		out[a.ID] = a.Verb
	}
	return out
}

var drifted = []belay.FieldEntry{} // nobody owns anything

func TestBuildVerbs(t *testing.T) {
	o := object(id("ConfigMap", "a"), "1")
	tests := []struct {
		name    string
		set     func(w *world)
		verb    belay.Verb
		code    belay.Code
		nothing bool
	}{
		{name: "not there", set: func(w *world) { w.desired = []belay.Object{o} }, verb: belay.VerbCreate},
		{name: "right", set: func(w *world) { w.has(o) }, nothing: true},
		{name: "another digest", set: func(w *world) { w.has(o); w.desired[0].Digest = "2" }, verb: belay.VerbUpdate},
		{name: "drifted", set: func(w *world) { w.has(o); l := w.live[o.ID]; l.Managers = drifted; w.live[o.ID] = l }, verb: belay.VerbHeal},
		{name: "another application's, which lets it go", set: func(w *world) { w.has(o); l := w.live[o.ID]; l.Application = "other"; w.live[o.ID] = l }, verb: belay.VerbUpdate},
		{name: "nobody's since its annotation is gone", set: func(w *world) {
			w.has(o)
			l := w.live[o.ID]
			l.Application, l.Digest, l.Managers = "", "", drifted
			w.live[o.ID] = l
		}, verb: belay.VerbUpdate},
		{name: "no longer declared", set: func(w *world) { w.has(object(id("ConfigMap", "stays"), "1")); w.left(o.ID) }, verb: belay.VerbDelete},
		{name: "no longer declared, pruning disabled", set: func(w *world) { w.left(o.ID); l := w.live[o.ID]; l.PruneDisabled = true; w.live[o.ID] = l }, nothing: true},
		{name: "no longer declared, pruning off", set: func(w *world) { w.left(o.ID); w.app.Spec.Sync.Prune = false }, nothing: true},
		{name: "no longer declared here, but elsewhere", set: func(w *world) { w.left(o.ID); w.claims[o.ID] = "other" }, nothing: true},
		{name: "being deleted by hand", set: func(w *world) { w.has(o); l := w.live[o.ID]; l.Deleting = true; w.live[o.ID] = l }, verb: belay.VerbHeal, code: belay.CodeTerminating},
		{name: "being deleted by us", set: func(w *world) { w.left(o.ID); l := w.live[o.ID]; l.Deleting = true; w.live[o.ID] = l }, verb: belay.VerbDelete, code: belay.CodeTerminating},
		{name: "denied", set: func(w *world) { w.desired = []belay.Object{o}; w.project.Spec.DeniedKinds = []string{"ConfigMap"} }, verb: belay.VerbCreate, code: belay.CodeDenied},
		{name: "right, but no longer allowed", set: func(w *world) { w.has(o); w.project.Spec.DeniedKinds = []string{"ConfigMap"} }, verb: belay.VerbUpdate, code: belay.CodeDenied},
		{name: "deletion denied", set: func(w *world) {
			w.has(object(id("Secret", "stays"), "1"))
			w.left(o.ID)
			w.project.Spec.DeniedKinds = []string{"ConfigMap"}
		}, verb: belay.VerbDelete, code: belay.CodeDenied},
		{name: "claimed by another", set: func(w *world) { w.desired = []belay.Object{o}; w.claimant[o.ID] = "other" }, verb: belay.VerbCreate, code: belay.CodeInvalid},
		{name: "claimed by another, but ours", set: func(w *world) {
			w.has(o)
			w.desired[0].Digest = "2"
			w.claimant[o.ID] = "shop"
			w.claims[o.ID] = "other"
		}, verb: belay.VerbUpdate},
		{name: "torn down though pruning is off", set: func(w *world) { w.left(o.ID); w.app.Spec.Sync.Prune = false; w.teardown = true }, verb: belay.VerbDelete},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			tt.set(w)
			p := w.build()
			i := slices.IndexFunc(p.Actions, func(a belay.Action) bool { return a.ID == o.ID })
			if tt.nothing {
				if i >= 0 || p.Held != nil {
					t.Fatalf("got %+v, held %v; want nothing", p.Actions, p.Held)
				}
				return
			}
			if i < 0 {
				t.Fatalf("no action; held: %v", p.Held)
			}
			a := p.Actions[i]
			if a.Verb != tt.verb {
				t.Errorf("got %s, want %s", a.Verb, tt.verb)
			}
			switch {
			case tt.code == "" && a.Blocked != nil:
				t.Errorf("blocked: %v", a.Blocked)
			case tt.code != "" && (a.Blocked == nil || a.Blocked.Code != tt.code):
				t.Errorf("blocked by %v, want %s", a.Blocked, tt.code)
			case a.Blocked != nil && a.Blocked.Object != o.ID.String():
				t.Errorf("the reason names %q", a.Blocked.Object)
			}
		})
	}
}

func TestDoubleClaimNamesTheOther(t *testing.T) {
	w := newWorld()
	o := object(id("ConfigMap", "a"), "1")
	w.desired = []belay.Object{o}
	w.claimant[o.ID] = "other"
	const want = `ConfigMap-a.yaml:1: ConfigMap default/a: also declared by application "other" in apps/other.yaml:7, which it belongs to (declare it in one application only)`
	if got := w.build().Actions[0].Blocked.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What could not be placed protects its live object, whichever namespace that is in.
func TestUnresolvedIsNotPruned(t *testing.T) {
	w := newWorld()
	thing := id("Thing", "a")
	w.has(object(id("ConfigMap", "stays"), "1"))
	w.left(thing, id("Thing", "b"))
	declared := object(thing, "1")
	declared.ID.Namespace = "" // the cluster does not say that it is namespaced
	w.un = []Unresolved{{declared, &belay.Error{Code: belay.CodeUnknownKind}}}
	p := w.build()
	got := verbs(&p)
	want := map[belay.ObjectID]belay.Verb{declared.ID: belay.VerbCreate, id("Thing", "b"): belay.VerbDelete}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

var testKinds = []string{"ConfigMap", "Secret", "Deployment", "StatefulSet", "Thing", "Namespace", "CustomResourceDefinition", "ClusterRole", "ValidatingWebhookConfiguration"}

func drawID(t *rapid.T) belay.ObjectID {
	return id(rapid.SampledFrom(testKinds).Draw(t, "kind"), rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name"))
}

func drawWorld(t *rapid.T) *world {
	w := newWorld()
	for _, i := range rapid.SliceOfNDistinct(rapid.Custom(drawID), 0, 12, rapid.ID).Draw(t, "desired") {
		o := object(i, rapid.SampledFrom([]string{"1", "2"}).Draw(t, "digest"))
		o.Wave = rapid.IntRange(-1, 2).Draw(t, "wave")
		if rapid.IntRange(0, 9).Draw(t, "unresolved") == 0 {
			w.un = append(w.un, Unresolved{o, &belay.Error{Code: belay.CodeUnknownKind, Message: "not served"}})
			continue
		}
		w.desired = append(w.desired, o)
	}
	for _, i := range rapid.SliceOfNDistinct(rapid.Custom(drawID), 0, 14, rapid.ID).Draw(t, "live") {
		l := applied(object(i, rapid.SampledFrom([]string{"1", "2"}).Draw(t, "applied")))
		l.Application = rapid.SampledFrom([]string{"shop", "shop", "shop", "other", ""}).Draw(t, "application")
		l.PruneDisabled = rapid.IntRange(0, 4).Draw(t, "pruneDisabled") == 0
		l.Deleting = rapid.IntRange(0, 9).Draw(t, "deleting") == 0
		if rapid.IntRange(0, 3).Draw(t, "drifted") == 0 {
			l.Managers = drifted
		}
		w.live[i] = l
	}
	for _, i := range rapid.SliceOfNDistinct(rapid.Custom(drawID), 0, 4, rapid.ID).Draw(t, "claims") {
		w.claims[i] = "other"
		w.claimant[i] = rapid.SampledFrom([]string{"shop", "other"}).Draw(t, "claimant")
	}
	w.app.Spec.Sync.Prune = rapid.IntRange(0, 4).Draw(t, "prune") > 0
	w.app.Spec.Sync.PruneLimit = belay.PruneLimit{Percent: rapid.SampledFrom([]int{0, 10, 50, 100}).Draw(t, "percent"), From: rapid.IntRange(0, 12).Draw(t, "from")}
	if rapid.IntRange(0, 3).Draw(t, "deny") == 0 {
		w.project.Spec.DeniedKinds = []string{"Secret"}
	}
	return w
}

func TestBuildProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		p := w.build()
		declared := map[belay.ObjectID]bool{}
		for _, o := range w.desired {
			declared[o.ID] = true
		}
		unplaced := map[belay.ObjectID]bool{}
		for _, u := range w.un {
			unplaced[u.Object.ID] = true
		}
		planned := map[belay.ObjectID]int{}
		for _, a := range slices.Concat(p.Actions, p.HeldActions) {
			planned[a.ID]++
			denied := a.ID.Kind == "Secret" && len(w.project.Spec.DeniedKinds) > 0
			l, exists := w.live[a.ID]
			switch a.Verb {
			case belay.VerbDelete:
				if !exists || l.Application != "shop" {
					t.Fatalf("would delete %s, which is not ours", a.ID)
				}
				if declared[a.ID] || unplaced[a.ID] || w.claims[a.ID] != "" || l.PruneDisabled || !w.app.Spec.Sync.Prune {
					t.Fatalf("would delete %s against the rules", a.ID)
				}
				if a.Desired != nil || a.Live == nil || a.Live.ID != a.ID {
					t.Fatalf("a deletion of %s without its object", a.ID)
				}
			case belay.VerbCreate:
				if exists && !unplaced[a.ID] {
					t.Fatalf("would create %s, which is there", a.ID)
				}
			default:
				if !exists || a.Live == nil || a.Desired == nil {
					t.Fatalf("would %s %s, which is not there", a.Verb, a.ID)
				}
				if !denied && l.Digest == a.Desired.Digest && l.Application == "shop" && l.Managers == nil && !l.Deleting {
					t.Fatalf("would %s %s, which is right", a.Verb, a.ID)
				}
			}
			doubly := a.Verb != belay.VerbDelete && w.claimant[a.ID] == "other"
			if (denied || doubly || unplaced[a.ID]) && a.Blocked == nil {
				t.Fatalf("%s of %s is not blocked", a.Verb, a.ID)
			}
		}
		for _, o := range w.desired {
			if o.ID.Kind == "Secret" && len(w.project.Spec.DeniedKinds) > 0 && planned[o.ID] == 0 {
				t.Fatalf("%s is not allowed, and that is not told", o.ID)
			}
		}
		for i, n := range planned {
			if n > 1 {
				t.Fatalf("%d actions for %s", n, i)
			}
		}
		if p.Unchanged+len(p.Actions)-count(p.Actions, belay.VerbDelete) != len(w.desired)+len(w.un) {
			t.Fatalf("%d unchanged and %d actions do not make %d declared objects", p.Unchanged, len(p.Actions), len(w.desired)+len(w.un))
		}
		if p.Held != nil {
			if count(p.Actions, belay.VerbDelete) > 0 || len(p.HeldActions) == 0 {
				t.Fatal("a held plan deletes")
			}
			for _, a := range p.Actions {
				if a.Verb == belay.VerbCreate && a.Blocked == nil {
					t.Fatalf("a held plan creates %s", a.ID)
				}
			}
		} else if len(p.HeldActions) > 0 {
			t.Fatal("actions are held without a reason")
		}
		if !slices.IsSortedFunc(p.Actions, compareActions) {
			t.Fatal("not in order of execution")
		}

		// The same facts in another order make the same plan.
		w.desired = shuffled(t, w.desired)
		w.un = shuffled(t, w.un)
		in := w.input()
		in.Live = shuffled(t, in.Live)
		if q := Build(in); q.Digest != p.Digest || !reflect.DeepEqual(verbs(&q), verbs(&p)) || !sameOrder(q.Actions, p.Actions) {
			t.Fatal("the order of the input changes the plan")
		}
	})
}

func count(actions []belay.Action, v belay.Verb) (n int) {
	for i := range actions {
		if actions[i].Verb == v {
			n++
		}
	}
	return n
}

func sameOrder(a, b []belay.Action) bool {
	return slices.EqualFunc(a, b, func(x, y belay.Action) bool { return x.ID == y.ID && x.Verb == y.Verb })
}

func shuffled[T any](t *rapid.T, in []T) []T {
	if len(in) < 2 {
		return in
	}
	return rapid.Permutation(in).Draw(t, "order")
}

// A digest tells plans apart.
func TestDigest(t *testing.T) {
	base := func() *world {
		w := newWorld()
		w.has(object(id("ConfigMap", "a"), "1"), object(id("ConfigMap", "b"), "1"))
		w.desired[0].Digest = "2"
		return w
	}
	seen := map[string]string{}
	for name, change := range map[string]func(w *world){
		"as it is":           func(w *world) {},
		"another manifest":   func(w *world) { w.desired[0].Digest = "3" },
		"another object too": func(w *world) { w.desired[1].Digest = "2" },
		"another wave":       func(w *world) { w.desired[0].Wave = 1 },
		"a deletion":         func(w *world) { w.left(id("ConfigMap", "c")) },
		"blocked":            func(w *world) { w.project.Spec.DeniedKinds = []string{"ConfigMap"} },
		"held":               func(w *world) { w.left(id("ConfigMap", "c")); w.app.Spec.Sync.PruneLimit = belay.PruneLimit{} },
		"another name":       func(w *world) { w.app.Name = "shop2"; w.claims[id("ConfigMap", "b")] = "x" },
	} {
		w := base()
		change(w)
		d := w.build().Digest
		if other, dup := seen[d]; dup {
			t.Errorf("%q and %q have one digest", name, other)
		}
		seen[d] = name
	}
}
