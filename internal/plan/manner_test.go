package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

// annotated is a desired object with annotations, as pairs.
func annotated(o belay.Object, pairs ...string) belay.Object {
	var list []string
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, fmt.Sprintf("%q:%q", pairs[i], pairs[i+1]))
	}
	o.Raw = fmt.Appendf(nil, `{"kind":%q,"metadata":{"name":%q,"labels":{"a":"b"},"annotations":{%s}}}`, o.ID.Kind, o.ID.Name, strings.Join(list, ","))
	return o
}

func TestManner(t *testing.T) {
	all := func(w *world) { s := &w.app.Spec.Sync; s.Adopt, s.Recreate, s.Replace = true, true, true }
	for _, c := range []struct {
		name        string
		kind        string
		annotations []string
		set         func(*world)
		live        func(*belay.Live)
		want        string
		otherwise   string
	}{
		{name: "nothing said", want: "", otherwise: "belay.dev/recreate: enabled, or set spec.sync.recreate"},
		{name: "the application allows all", set: all, want: "adopt recreate replace"},
		{name: "the object allows all", annotations: []string{belay.AnnotationAdopt, "enabled", belay.AnnotationRecreate, "enabled", belay.AnnotationReplace, "enabled"}, want: "adopt recreate replace"},
		{name: "the object allows nothing", set: all, annotations: []string{belay.AnnotationAdopt, "disabled", belay.AnnotationRecreate, "disabled", belay.AnnotationReplace, "disabled"},
			want: "", otherwise: "keeps it from being deleted"},
		{name: "Argo CD's words", annotations: []string{belay.AnnotationArgoOptions, "Force=true, Replace=true"}, want: "recreate replace"},
		{name: "ours win over Argo CD's", annotations: []string{belay.AnnotationArgoOptions, "Force=true,Replace=true", belay.AnnotationReplace, "disabled", belay.AnnotationRecreate, "disabled"}, want: "", otherwise: "disabled"},
		{name: "data", kind: "StatefulSet", set: all, want: "adopt replace", otherwise: "with the data that it holds"},
		{name: "data that allows it itself", kind: "StatefulSet", annotations: []string{belay.AnnotationRecreate, "enabled"}, want: "recreate"},
		{name: "must not be pruned", set: all, annotations: []string{belay.AnnotationPrune, "disabled"}, want: "adopt replace", otherwise: "must not be deleted"},
		{name: "Helm keeps it", set: all, annotations: []string{belay.AnnotationHelmPolicy, "keep"}, want: "adopt replace", otherwise: "must not be deleted"},
		{name: "the live one must not be pruned", set: all, live: func(l *belay.Live) { l.PruneDisabled = true }, want: "adopt replace", otherwise: "must not be deleted"},
		{name: "another application's", set: all, live: func(l *belay.Live) { l.Application = "other" }, want: "adopt replace", otherwise: "not applied by this application"},
		{name: "to be confirmed", set: all, annotations: []string{belay.AnnotationDelete, "confirm"}, want: "adopt replace", otherwise: "spec.sync.confirm"},
		{name: "confirmed", set: func(w *world) {
			all(w)
			w.app.Spec.Sync.Confirm = Token([]belay.Action{{ID: id("Deployment", "a")}})
		}, annotations: []string{belay.AnnotationDelete, "confirm"}, want: "adopt recreate replace"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			if c.kind == "" {
				c.kind = "Deployment"
			}
			o := object(id(c.kind, "a"), "1")
			w.has(o)
			w.desired[0] = annotated(o, c.annotations...)
			w.desired[0].Digest = "2"
			if c.set != nil {
				c.set(w)
			}
			if c.live != nil {
				w.mark(c.live, o.ID)
			}
			p := w.build()
			m := p.Actions[0].Manner
			var got []string
			for name, is := range map[string]bool{"adopt": m.Adopt, "recreate": m.Recreate, "replace": m.Replace} {
				if is {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			if strings.Join(got, " ") != c.want || !strings.Contains(m.NoRecreate, c.otherwise) || (m.NoRecreate == "") != m.Recreate {
				t.Errorf("%v, %q", got, m.NoRecreate)
			}
		})
	}
}

// Whatever applications and objects allow, and wherever it is killed: nothing is
// deleted that the application did not apply, nothing that holds data or must
// stay is deleted to be made anew, and what is deleted for that is made again.
func TestAdoptingAndRecreatingDeleteNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.un, w.claims, w.claimant, w.project.Spec.DeniedKinds = nil, map[belay.ObjectID]string{}, map[belay.ObjectID]string{}, nil
		w.app.Spec.Sync.PruneLimit = belay.PruneLimit{Percent: 100, From: 100}
		w.has(object(id("ConfigMap", "stays"), "1"))
		w.app.Spec.Sync.Adopt, w.app.Spec.Sync.Recreate = rapid.Bool().Draw(t, "adopt"), rapid.Bool().Draw(t, "recreate")
		options := map[belay.ObjectID]string{}
		for i := range w.desired {
			o := &w.desired[i]
			options[o.ID] = rapid.SampledFrom([]string{"", "", "enabled", "disabled"}).Draw(t, "option")
			if v := options[o.ID]; v != "" {
				*o = annotated(*o, belay.AnnotationRecreate, v, belay.AnnotationAdopt, v)
			}
		}
		for i, l := range w.live {
			l.Deleting = false
			if l.Application == "" {
				l.Application = "other"
			}
			w.live[i] = l
		}
		// What Belay does not see: objects of others that are in the way.
		foreign, refuses := map[belay.ObjectID]bool{}, map[belay.ObjectID]bool{}
		for _, o := range w.desired {
			_, there := w.live[o.ID]
			foreign[o.ID] = !there && rapid.Bool().Draw(t, "foreign")
			refuses[o.ID] = there && rapid.Bool().Draw(t, "immutable")
		}
		before := maps.Clone(w.live)
		remove := func(a *belay.Action, why string) {
			l, there := w.live[a.ID]
			if !there || l.Application != "shop" || foreign[a.ID] {
				t.Fatalf("%s deletes %s, which is not the application's", why, a.ID)
			}
			if why == "recreate" && (l.PruneDisabled || options[a.ID] == "disabled" || (holdsData(a.ID.GroupKind()) && options[a.ID] != "enabled") ||
				(!w.app.Spec.Sync.Recreate && options[a.ID] != "enabled")) {
				t.Fatalf("%s is deleted to be made anew", a.ID)
			}
			delete(w.live, a.ID)
		}
		for round := range 40 {
			p := w.build()
			ran := false
			for _, a := range p.Actions {
				if a.Blocked != nil || (round < 20 && rapid.IntRange(0, 3).Draw(t, "killed") == 0) {
					continue
				}
				ran = true
				switch {
				case a.Verb == belay.VerbDelete:
					remove(&a, "prune")
				case foreign[a.ID] && !a.Manner.Adopt: // refused
				case refuses[a.ID] && a.Verb != belay.VerbCreate && !a.Manner.Recreate: // refused
				case refuses[a.ID] && a.Verb != belay.VerbCreate:
					remove(&a, "recreate")
					refuses[a.ID] = false
				default:
					foreign[a.ID] = false
					w.live[a.ID] = applied(*a.Desired)
				}
			}
			if !ran && len(p.Actions) == 0 {
				break
			}
		}
		for _, o := range w.desired {
			allowed := options[o.ID] == "enabled" || (options[o.ID] == "" && w.app.Spec.Sync.Adopt)
			if l, there := w.live[o.ID]; !there && (!foreign[o.ID] || allowed) {
				t.Fatalf("%s is missing in the end", o.ID)
			} else if there && l.Digest != o.Digest && !refuses[o.ID] {
				t.Fatalf("%s is %+v in the end", o.ID, l)
			}
		}
		for i, l := range before {
			if _, there := w.live[i]; !there && l.Application != "shop" {
				t.Fatalf("%s was another application's, and is gone", i)
			}
		}
	})
}

// What has to be confirmed is deleted with a confirmation and never without, what
// comes after it waits, and the rest goes on.
func TestConfirmedDeletions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.un, w.claims, w.claimant, w.project.Spec.DeniedKinds = nil, map[belay.ObjectID]string{}, map[belay.ObjectID]string{}, nil
		w.app.Spec.Sync.PruneLimit, w.app.Spec.Sync.Prune = belay.PruneLimit{Percent: 100, From: 100}, true
		w.has(object(id("ConfigMap", "stays"), "1"))
		if w.teardown = rapid.Bool().Draw(t, "teardown"); w.teardown {
			w.desired = nil
		}
		asks := map[belay.ObjectID]bool{}
		for _, i := range sortedIDs(w.live) {
			l := w.live[i]
			l.Wave = rapid.IntRange(-1, 2).Draw(t, "wave")
			l.ConfirmPrune, l.ConfirmTeardown = rapid.IntRange(0, 2).Draw(t, "prune") == 0, rapid.IntRange(0, 2).Draw(t, "teardown") == 0
			l.PruneDisabled, l.TeardownDisabled = false, false
			asks[i] = l.ConfirmPrune
			if w.teardown {
				asks[i] = l.ConfirmTeardown
			}
			asks[i] = asks[i] && !l.Deleting
			w.live[i] = l
		}
		p := w.build()
		if (p.Held == nil) != (len(p.HeldActions) == 0) {
			t.Fatalf("held: %v, %d actions", p.Held, len(p.HeldActions))
		}
		for _, h := range p.HeldActions {
			if !asks[h.ID] {
				t.Fatalf("%s is held", h.ID)
			}
		}
		for _, a := range p.Actions {
			if a.Verb == belay.VerbDelete && asks[a.ID] {
				t.Fatalf("%s would be deleted unconfirmed", a.ID)
			}
			for _, h := range p.HeldActions {
				if a.Verb == belay.VerbDelete && compareOrder(&a, &h) < 0 && a.Blocked == nil {
					t.Fatalf("%s would be deleted before %s", a.ID, h.ID)
				}
			}
			if a.Verb != belay.VerbDelete && a.Blocked != nil && a.Blocked.Code == belay.CodeHeld {
				t.Fatalf("%s of %s waits for a deletion", a.Verb, a.ID)
			}
		}
		if p.Held == nil {
			return
		}
		token := Token(p.HeldActions)
		if !strings.Contains(p.Held.Hint, token) {
			t.Fatalf("the hint %q has no token %q", p.Held.Hint, token)
		}
		if rapid.Bool().Draw(t, "where") {
			w.project.Spec.Confirm = []string{token}
		} else {
			w.app.Spec.Sync.Confirm = token
		}
		if p = w.build(); p.Held != nil {
			t.Fatalf("confirmed, and held: %v", p.Held)
		}
	})
}

func TestKeptObjectsKeepWhatHoldsThem(t *testing.T) {
	claim := belay.ObjectID{Kind: "PersistentVolumeClaim", Namespace: "data", Name: "db"}
	thing := id("Thing", "one")
	crd := belay.ObjectID{Group: crdGroup, Kind: "CustomResourceDefinition", Name: "things.example.com"}
	for _, teardown := range []bool{false, true} {
		w := newWorld()
		if w.teardown = teardown; !teardown {
			w.keeps(many("Secret", 0, 9)...)
		}
		w.left(claim, thing, crd, belay.ObjectID{Kind: "Namespace", Name: "data"}, belay.ObjectID{Kind: "Namespace", Name: "other"})
		w.mark(func(l *belay.Live) { l.PruneDisabled, l.TeardownDisabled = !teardown, teardown }, claim, thing)
		p := w.build()
		got := map[string]bool{}
		for _, a := range p.Actions {
			got[a.ID.String()] = a.Blocked == nil
		}
		if fmt.Sprint(got) != "map[CustomResourceDefinition.apiextensions.k8s.io things.example.com:false Namespace data:false Namespace other:true]" {
			t.Errorf("teardown %t: %v, held %v", teardown, got, p.Held)
		}
	}
}

func TestDeclaredObjectsKeepWhatHoldsThem(t *testing.T) {
	w := newWorld()
	policy := belay.ObjectID{Group: "example.com", Kind: "Policy", Namespace: "data", Name: "p"}
	w.keeps(many("Secret", 0, 9)...)
	w.has(object(policy, "1"))
	crd := func(name string) belay.ObjectID {
		return belay.ObjectID{Group: crdGroup, Kind: "CustomResourceDefinition", Name: name}
	}
	w.left(crd("policies.example.com"), crd("policysets.example.com"), crd("policies.example.org"), belay.ObjectID{Kind: "Namespace", Name: "data"},
		belay.ObjectID{Kind: "Namespace", Name: "other"})
	p := w.build()
	var held []string
	for _, a := range p.Actions {
		if a.Blocked == nil {
			continue
		}
		held = append(held, a.ID.String())
		if a.Blocked.Code != belay.CodeHeld || !strings.Contains(a.Blocked.Message, policy.String()) {
			t.Errorf("%s is held by %v", a.ID, a.Blocked)
		}
	}
	slices.Sort(held)
	if want := []string{"CustomResourceDefinition.apiextensions.k8s.io policies.example.com", "Namespace data"}; !slices.Equal(held, want) || len(p.Actions) != 5 {
		t.Errorf("held are %v of %d, want %v of 5", held, len(p.Actions), want)
	}
}

// What another application has in a namespace, or of a kind, keeps it as well.
func TestOthersKeepWhatHoldsTheirs(t *testing.T) {
	for _, teardown := range []bool{false, true} {
		w := newWorld()
		if w.teardown = teardown; !teardown {
			w.keeps(many("Secret", 0, 9)...)
		}
		ns := belay.ObjectID{Kind: "Namespace", Name: "data"}
		w.left(ns, belay.ObjectID{Kind: "Namespace", Name: "other"})
		theirs := belay.ObjectID{Kind: "ConfigMap", Namespace: "data", Name: "c"}
		in := w.input()
		in.Within = func(container belay.ObjectID) (belay.ObjectID, string, bool) {
			return theirs, "tenant", GoesWith(theirs, container)
		}
		held := 0
		for _, a := range Build(in).Actions {
			if a.Blocked == nil {
				continue
			}
			if held++; a.ID != ns || a.Blocked.Code != belay.CodeHeld || !strings.Contains(a.Blocked.Message, `ConfigMap data/c would go with it, which application "tenant" declares`) {
				t.Errorf("%s is held by %v", a.ID, a.Blocked)
			}
		}
		if held != 1 {
			t.Errorf("%d held, teardown %v", held, teardown)
		}
	}
}

// What the rules leave to others is no drift, whoever changes it and however; what
// is beside it is.
func TestIgnoredFieldsAreNoDrift(t *testing.T) {
	s := newServer(t)
	rule := func(pointers ...string) belay.IgnoreRule { return belay.IgnoreRule{Pointers: pointers} }
	for i, c := range []struct {
		document, manager, patch string
		json                     bool // a JSON patch
		rule                     belay.IgnoreRule
		beside                   string // another patch, which is drift
	}{
		{document: web, manager: "kubectl-edit", patch: `{"spec":{"replicas":9}}`, rule: rule("/spec/replicas"), beside: `{"spec":{"minReadySeconds":3}}`},
		{document: web, manager: "kubectl-label", patch: `{"metadata":{"labels":{"team":"b"}}}`, rule: rule("/metadata/labels/team"), beside: `{"metadata":{"labels":{"app":"x"}}}`},
		{document: web, manager: "kubectl-label", patch: `{"metadata":{"labels":{"new":"b"}}}`, rule: rule("/metadata/labels/new"), beside: `{"metadata":{"labels":{"other":"x"}}}`},
		{document: web, manager: "kubectl-label", patch: `{"metadata":{"labels":{"team":null}}}`, rule: rule("/metadata/labels/team"), beside: `{"metadata":{"labels":{"app":null}}}`},
		{document: web, manager: "kubectl-annotate", patch: `{"metadata":{"annotations":{"a.b/c":"d"}}}`, rule: rule("/metadata/annotations/a.b~1c"), beside: `{"metadata":{"annotations":{"a.b":"d"}}}`},
		{document: web, manager: "k9s", json: true, patch: `[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"x"}]`,
			rule: rule("/spec/template/spec/containers/0/image"), beside: `[{"op":"replace","path":"/spec/template/spec/containers/0/command","value":["y"]}]`},
		{document: web, manager: "k9s", json: true, patch: `[{"op":"replace","path":"/spec/template/spec/containers/0/env/1/value","value":"x"}]`,
			rule: rule("/spec/template/spec/containers/0/env/1"), beside: `[{"op":"replace","path":"/spec/template/spec/containers/0/env/0/value","value":"x"}]`},
		{document: web, manager: "k9s", json: true, patch: `[{"op":"replace","path":"/spec/template/spec/containers/0/args","value":["x"]}]`,
			rule: rule("/spec/template/spec/containers/0/args/0"), beside: `[{"op":"remove","path":"/spec/template/spec/containers/0/command"}]`},
		{document: settings, manager: "kubectl-edit", patch: `{"data":{"a":"9","new":"x"}}`, rule: rule("/data"), beside: `{"metadata":{"labels":{"x":"y"}}}`},
		{document: settings, manager: "kubectl-edit", patch: `{"data":{"a":null}}`, rule: rule("/data/a"), beside: `{"data":{"b":null}}`},
		{document: settings, manager: "operator-of-data", patch: `{"data":{"a":"9"}}`, rule: belay.IgnoreRule{Managers: []string{"operator-*"}}, beside: `{"data":{"b":null}}`},
		{document: settings, manager: "kubectl-edit", patch: `{"data":{"a":"9","new":"x"}}`, rule: belay.IgnoreRule{Managers: []string{"kubectl-edit"}}, beside: ``},
	} {
		o := s.named(c.document, fmt.Sprintf("ignored-%d", i))
		s.apply(o)
		defer s.unblock(o)
		kind := types.MergePatchType
		if c.json {
			kind = types.JSONPatchType
		}
		s.edit(o, c.manager, kind, c.patch)
		compare := func() Verdict { return Compare(o, s.live(o), belay.DefaultInteractiveManagers(), c.rule) }
		if v := s.compare(o); v.OK {
			t.Errorf("%s by %s: not seen without a rule", c.patch, c.manager)
		}
		if v := compare(); !v.OK {
			t.Errorf("%s by %s with %v: %s%s", c.patch, c.manager, c.rule, describe(v.Drift), ours(s.live(o)))
		}
		if c.beside == "" {
			continue
		}
		s.edit(o, "kubectl-edit", kind, c.beside)
		if v := compare(); v.OK {
			t.Errorf("%s beside %v: not seen", c.beside, c.rule)
		}
	}
}

// A process that ended after it took over what somebody added, and before the
// apply that removes it, leaves nothing behind.
func TestInterruptedTakeOverIsFinished(t *testing.T) {
	s := newServer(t)
	o := s.named(settings, "interrupted")
	s.apply(o)
	defer s.unblock(o)
	s.edit(o, "kubectl-edit", types.MergePatchType, `{"data":{"added":"x"}}`)
	s.takeOver(o, s.compare(o).TakeOver)
	v := s.compare(o)
	if v.OK || !slices.Equal(v.Drift.Added, []string{"data.added"}) || v.Drift.Manager != belay.FieldManager {
		t.Fatalf("after the take-over alone: %s", describe(v.Drift))
	}
	s.heal(o, v)
	if v := s.compare(o); !v.OK || strings.Contains(text(s.get(o).Object["data"]), "added") {
		t.Errorf("%s: %s", describe(v.Drift), text(s.get(o).Object["data"]))
	}
}

func TestStampTellsOfRules(t *testing.T) {
	o := manifest(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"b"}}`, "a.yaml")
	digest := func(rules ...belay.IgnoreRule) string {
		s, err := Stamp(o, "shop", "", rules...)
		if err != nil {
			t.Fatal(err)
		}
		return s.Digest
	}
	plain := digest()
	if digest(belay.IgnoreRule{Kind: "Secret", Pointers: []string{"/data"}}) != plain {
		t.Error("a rule for others changes it")
	}
	one := digest(belay.IgnoreRule{Kind: "ConfigMap", Pointers: []string{"/data"}})
	if one == plain || one == digest(belay.IgnoreRule{Pointers: []string{"/data/a"}}) || one != digest(belay.IgnoreRule{Name: "a", Pointers: []string{"/data"}}) {
		t.Error("another rule must be another digest, and the same rule the same")
	}
}
