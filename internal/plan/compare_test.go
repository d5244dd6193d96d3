package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/belaydev/belay"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func entry(manager, operation, fields string, at time.Duration) belay.FieldEntry {
	return belay.FieldEntry{Manager: manager, Operation: operation, APIVersion: "v1", Time: noon.Add(at), Fields: json.RawMessage(fields)}
}

// What no API server of today sends, or not on demand.
func TestCompare(t *testing.T) {
	tests := []struct {
		name         string
		manifest     string
		ours         string
		others       []belay.FieldEntry
		taken, added []string
		by           string
	}{
		{name: "one port says the protocol, the other does not", manifest: `{"spec":{"ports":[{"port":53,"x":1},{"port":53,"protocol":"SCTP"}]}}`,
			ours: `{"f:spec":{"f:ports":{"k:{\"port\":53,\"protocol\":\"SCTP\"}":{".":{},"f:port":{},"f:protocol":{}},"k:{\"port\":53,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:x":{}}}}}`},
		{name: "the one that does not is gone", manifest: `{"spec":{"ports":[{"port":53},{"port":53,"protocol":"SCTP"}]}}`,
			ours:  `{"f:spec":{"f:ports":{"k:{\"port\":53,\"protocol\":\"SCTP\"}":{".":{},"f:port":{},"f:protocol":{}}}}}`,
			taken: []string{"spec.ports[port=53]"}},
		{name: "all keys are defaults", manifest: `{"spec":{"ports":[{"x":1}]}}`, ours: `{"f:spec":{"f:ports":{"k:{\"port\":80}":{".":{},"f:x":{}}}}}`},
		{name: "numbers", manifest: `{"spec":{"ports":[{"port":53.0}],"set":[1.0,9007199254740993]}}`,
			ours: `{"f:spec":{"f:ports":{"k:{\"port\":53}":{".":{},"f:port":{}}},"f:set":{"v:1":{},"v:9007199254740993":{}}}}`},
		{name: "by position", manifest: `{"spec":{"list":["a","b"]}}`, ours: `{"f:spec":{"f:list":{"i:0":{},"i:1":{}}}}`},
		{name: "one position gone", manifest: `{"spec":{"list":["a","b"]}}`, ours: `{"f:spec":{"f:list":{"i:0":{}}}}`, taken: []string{`spec.list["b"]`}},
		{name: "no entry of ours", manifest: `{"data":{"a":"1"}}`, taken: []string{"data.a"}},
		{name: "an entry that cannot be read", manifest: `{"data":{"a":"1"}}`, ours: `nonsense`, taken: []string{"data.a"}},
		{name: "the newest did it", manifest: `{"data":{"a":"1","b":"2"}}`, ours: `{}`, others: []belay.FieldEntry{
			entry("early", "Update", `{"f:data":{"f:a":{}}}`, time.Minute), entry("late", "Update", `{"f:data":{"f:b":{}}}`, time.Hour),
			entry("latest", "Update", `{"f:data":{"f:other":{}}}`, 2*time.Hour),
		}, taken: []string{"data.a", "data.b"}, by: "late"},
		{name: "a tool with its version", manifest: `{"data":{"a":"1"}}`, ours: `{"f:data":{"f:a":{}}}`,
			others: []belay.FieldEntry{entry("Mozilla/5.0", "Update", `{"f:data":{"f:b":{}}}`, 0)}, added: []string{"data.b"}, by: "Mozilla/5.0"},
		{name: "a whole new part", manifest: `{"data":{"a":"1"}}`, ours: `{"f:data":{"f:a":{}}}`,
			others: []belay.FieldEntry{entry("k9s", "Update", `{"f:spec":{"f:x":{".":{},"f:y":{}},"f:z":{}}}`, 0)}, added: []string{"spec.x", "spec.z"}, by: "k9s"},
		{name: "a tool's status", manifest: `{"data":{"a":"1"}}`, ours: `{"f:data":{"f:a":{}}}`,
			others: []belay.FieldEntry{entry("k9s", "Update", `{"f:status":{"f:x":{}}}`, 0)}},
		{name: "a tool that created the item we share", manifest: `{"spec":{"ports":[{"port":80}]}}`, ours: `{"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}}}}`,
			others: []belay.FieldEntry{entry("k9s", "Update", `{"f:spec":{"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}}}}`, 0)},
			added:  []string{`spec.ports[port=80,protocol="TCP"].targetPort`}, by: "k9s"},
		{name: "status and identity are not compared", manifest: `{"status":{"a":1}}`, ours: `{}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := &belay.Object{APIVersion: "v1", Raw: json.RawMessage(tt.manifest)}
			live := &belay.Live{Managers: tt.others}
			if tt.ours != "" {
				live.Managers = append(live.Managers, entry(belay.FieldManager, "Apply", tt.ours, 0))
			}
			if live.Managers == nil {
				live.Managers = []belay.FieldEntry{}
			}
			for range 20 { // nothing depends on the order of maps
				v := Compare(o, live, belay.DefaultInteractiveManagers())
				d := belay.Drift{}
				if v.Drift != nil {
					d = *v.Drift
				}
				if !slices.Equal(d.Taken, tt.taken) || !slices.Equal(d.Added, tt.added) || d.Manager != tt.by || v.OK != (len(tt.taken)+len(tt.added) == 0) {
					t.Fatalf("OK %v, %s\nwant taken %q, added %q by %q", v.OK, describe(v.Drift), tt.taken, tt.added, tt.by)
				}
			}
		})
	}
}

// Where Git declares something else than was applied, what an interactive tool holds
// is drift, and nothing else can be told from what Git brings and takes.
func TestUpdateTellsOfEditsByHand(t *testing.T) {
	w := newWorld()
	o := object(id("ConfigMap", "a"), "new")
	o.Raw = json.RawMessage(`{"data":{"brought":"1","edited":"2","removed":"3"},"spec":{"replicas":2,"controlled":1}}`)
	live := applied(o)
	live.Digest = "old"
	live.Managers = []belay.FieldEntry{
		entry(belay.FieldManager, "Apply", `{"f:data":{"f:left":{}}}`, 0),
		entry("controller", "Update", `{"f:spec":{"f:controlled":{}}}`, 2*time.Hour),
		entry("kubectl", "Update", `{"f:spec":{"f:replicas":{}}}`, time.Hour),
		entry("kubectl-edit", "Update", `{"f:data":{"f:edited":{},"f:more":{}}}`, time.Minute),
	}
	live.Managers[2].Subresource = "scale"
	w.desired = []belay.Object{o}
	w.live[o.ID] = live
	p := w.build()
	if len(p.Actions) != 1 || p.Actions[0].Verb != belay.VerbUpdate {
		t.Fatalf("actions %+v", p.Actions)
	}
	want := belay.Drift{Taken: []string{"data.edited", "spec.replicas"}, Added: []string{"data.more"}, Manager: "kubectl", Operation: "Update", Subresource: "scale", Time: live.Managers[2].Time}
	if d := p.Actions[0].Drift; d == nil || describe(d) != describe(&want) {
		t.Errorf("drift %s, want %s", describe(d), describe(&want))
	}
	live.Managers = live.Managers[:2]
	w.live[o.ID] = live
	if d := w.build().Actions[0].Drift; d != nil {
		t.Errorf("what Git brings is drift: %s", describe(d))
	}
}

func TestCompareTrustsWhatWasCompared(t *testing.T) {
	o := &belay.Object{Raw: json.RawMessage(`{"data":{"a":"1"}}`)}
	if v := Compare(o, &belay.Live{}, nil); !v.OK {
		t.Error("drift without managers")
	}
}

func TestPathName(t *testing.T) {
	for want, path := range map[string][]string{
		`spec.template.spec.containers[name="app"].image`: {"f:spec", "f:template", "f:spec", "f:containers", `k:{"name":"app"}`, "f:image"},
		`metadata.labels["app.kubernetes.io/name"]`:       {"f:metadata", "f:labels", "f:app.kubernetes.io/name"},
		`spec.ports[port=53,protocol="UDP"]`:              {"f:spec", "f:ports", `k:{"port":53,"protocol":"UDP"}`},
		`metadata.finalizers["a/b"]`:                      {"f:metadata", "f:finalizers", `v:"a/b"`},
		`spec.list[2].x`:                                  {"f:spec", "f:list", "i:2", "f:x"},
		`data["<&>.txt"]`:                                 {"f:data", "f:<&>.txt"},
	} {
		if got := pathName(path); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestFrontierSaysWhatItWaitsFor(t *testing.T) {
	served := true
	build := func(change func(w *world)) Step {
		w := newWorld()
		first := object(id("Deployment", "first"), "1")
		second := object(id("ConfigMap", "second"), "1")
		second.Wave = 1
		w.has(first)
		w.desired = append(w.desired, second)
		served = true
		change(w)
		p := w.build()
		return Frontier(&p, Gate{Desired: w.desired, Lookup: func(i belay.ObjectID) (belay.Live, bool) { l, ok := w.live[i]; return l, ok },
			Served: func(*belay.Object) bool { return served }, Allow: func(a *belay.Action) (bool, string) { return a.ID.Name != "not-now", "not now" }})
	}
	first := id("Deployment", "first")
	for _, tt := range []struct {
		name    string
		change  func(w *world)
		run     []string
		waiting string
		on      belay.ObjectID
	}{
		{"nothing to wait for", func(w *world) {}, []string{"second"}, "", belay.ObjectID{}},
		{"an unhealthy wave", func(w *world) {
			w.mark(func(l *belay.Live) { l.Health, l.HealthMessage = belay.Progressing, "1 of 2" }, first)
		}, nil, "wave 1 waits for Deployment.apps default/first of wave 0, which is Progressing: 1 of 2", first},
		{"a wave of unknown health", func(w *world) { w.mark(func(l *belay.Live) { l.Health = "" }, first) }, nil,
			"wave 1 waits for Deployment.apps default/first of wave 0, which is Unknown", first},
		{"a suspended wave", func(w *world) { w.mark(func(l *belay.Live) { l.Health = belay.Suspended }, first) }, []string{"second"}, "", belay.ObjectID{}},
		{"a kind that is not served", func(w *world) { served = false }, nil, "the cluster does not serve v1 ConfigMap yet", id("ConfigMap", "second")},
		{"a heal that must wait stops nothing", func(w *world) {
			w.has(object(id("Secret", "not-now"), "1"))
			w.mark(func(l *belay.Live) { l.Managers = drifted }, id("Secret", "not-now"))
		}, []string{"second"}, "not now", id("Secret", "not-now")},
		{"a heal comes before everything", func(w *world) {
			w.mark(func(l *belay.Live) { l.Managers, l.Health = drifted, belay.Degraded }, first)
		}, []string{"first"}, "", belay.ObjectID{}},
		{"a write that must wait stops what follows", func(w *world) { w.desired = append(w.desired, object(id("Secret", "not-now"), "1")) }, nil, "not now", id("Secret", "not-now")},
		{"and nothing beside it", func(w *world) { w.makes(id("Secret", "not-now"), id("Secret", "beside")) }, []string{"beside"}, "not now", id("Secret", "not-now")},
		{"a definition that is not served", func(w *world) {
			w.has(object(id("CustomResourceDefinition", "things"), "1"))
			w.mark(func(l *belay.Live) { l.Established = false }, id("CustomResourceDefinition", "things"))
		}, nil, "CustomResourceDefinition.apiextensions.k8s.io things is not served yet", id("CustomResourceDefinition", "things")},
		{"deletions wait for writes", func(w *world) { w.left(id("ConfigMap", "old")) }, []string{"second"}, "", belay.ObjectID{}},
		{"deletions go backwards", func(w *world) {
			w.desired = w.desired[:1]
			w.left(id("ConfigMap", "config"), id("Deployment", "old"))
			w.left(many("Secret", 0, 3)...)
			w.keeps(many("Secret", 3, 9)...)
		}, []string{"old"}, "", belay.ObjectID{}},
		{"deletions wait for deletions", func(w *world) {
			w.desired = w.desired[:1]
			w.left(id("ConfigMap", "old"), id("Thing", "old"))
			w.mark(func(l *belay.Live) { l.Deleting = true }, id("Thing", "old"))
		}, nil, "Thing.example.com default/old: is being deleted (if that does not end, look at its finalizers)", id("Thing", "old")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := build(tt.change)
			var run []string
			for _, a := range s.Run {
				run = append(run, a.ID.Name)
			}
			if !slices.Equal(run, tt.run) || s.Waiting != tt.waiting || s.On != tt.on {
				t.Errorf("runs %q, waits %q on %v\nwant %q, %q on %v", run, s.Waiting, s.On, tt.run, tt.waiting, tt.on)
			}
		})
	}
}

func ExampleCovers() {
	token := TokenOf([]string{"a", "b", "c"})
	fmt.Println(Covers(token, []string{"a", "b", "c"}), Covers(token, []string{"c"}), Covers(token, []string{"c", "d"}))
	// Output: true true false
}
