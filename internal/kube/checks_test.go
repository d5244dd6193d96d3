package kube_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/belaydev/belay"
)

// phases is a check that goes by status.phase and counts how often it was asked.
func phases(digest, good string, asked *atomic.Int64) belay.HealthCheck {
	return belay.HealthCheck{Digest: digest, Judge: func(object map[string]any) (belay.Health, string) {
		asked.Add(1)
		status, _ := object["status"].(map[string]any)
		phase, _ := status["phase"].(string)
		if phase == good {
			return belay.Healthy, ""
		}
		return belay.Degraded, fmt.Sprintf("phase is %q", phase)
	}}
}

// only is the checks of one kind.
func only(k belay.Kind, check belay.HealthCheck) belay.HealthChecks {
	return func(asked belay.Kind) (belay.HealthCheck, bool) { return check, asked == k && check.Judge != nil }
}

// oneOf keeps the check of each kind that is in the map.
func oneOf(checks map[belay.Kind]belay.HealthCheck) belay.HealthChecks {
	return func(k belay.Kind) (belay.HealthCheck, bool) {
		c, ok := checks[k]
		return c, ok
	}
}

// Rules tell the health of custom objects. New rules have the kinds concerned
// listed again, once each, and nothing else asked.
func TestHealthRules(t *testing.T) {
	f := begin(t)
	k := f.widgetKind("Namespaced")
	kind := belay.Kind{Group: k.group, Kind: k.kind}
	var asked atomic.Int64
	begun := f.cp.Mark(t)
	f.SetHealthRules(oneOf(map[belay.Kind]belay.HealthCheck{kind: phases("one", "Up", &asked)}))
	f.await("the kind to be observed", func() error {
		if !f.Observe([]belay.VersionKind{{APIVersion: k.group + "/v1", Kind: k.kind}, {APIVersion: "v1", Kind: "ConfigMap"}}) {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	other := f.mustCreate("other", f.configMap("other", "c", "v"))
	o := f.object("shop", f.widget(k, `"size":1`))
	f.mustCreate("shop", o)
	f.awaitLive(o.ID, "the rule to tell", func(l belay.Live) bool { return l.Health == belay.Degraded && l.HealthMessage == `phase is ""` })
	f.patch(k.gvr(), "one", "its-controller", `{"status":{"phase":"Up"}}`, "status")
	f.awaitLive(o.ID, "the status to tell", func(l belay.Live) bool { return l.Health == belay.Healthy && l.HealthMessage == "" })

	f.awaitWatch(begun, k.plural, "configmaps")

	// The same rules once more change nothing.
	since := f.cp.Mark(t)
	before := asked.Load()
	f.SetHealthRules(only(kind, phases("one", "Up", &asked)))
	if n := len(f.requests(since)); n != 0 || asked.Load() != before {
		t.Errorf("%d requests, %d judgements for the same rules", n, asked.Load()-before)
	}

	// Other rules do, without another word from the object.
	told, toldOther := f.notes.count("shop"), f.notes.count("other")
	f.SetHealthRules(only(kind, phases("two", "Ready", &asked)))
	if err := f.Ready(); err != nil {
		t.Errorf("new rules made the cluster unready: %v", err)
	}
	f.awaitLive(o.ID, "the new rule to tell", func(l belay.Live) bool { return l.Health == belay.Degraded && l.HealthMessage == `phase is "Up"` })
	f.awaitTold("shop", told)
	if f.notes.count("other") != toldOther {
		t.Error("an application without such an object was told")
	}
	for _, r := range f.requests(since, "list", "watch") {
		if r.Resource != k.plural {
			t.Errorf("%s of %s for a rule that is not for it", r.Verb, r.Resource)
		}
	}
	if n := asked.Load() - before; n != 1 {
		t.Errorf("one object was judged %d times", n)
	}

	// Without rules it is as before there were any.
	f.SetHealthRules(nil)
	f.awaitLive(o.ID, "no rule to tell", func(l belay.Live) bool { return l.Health == belay.Healthy })
	if live, ok := f.Lookup(other.ID); !ok || live.Health != belay.Healthy {
		t.Errorf("the other object is %+v", live)
	}
}

// A kind that is watched as metadata is watched whole while a rule wants its
// status; a Secret never is.
func TestHealthRulesOfKindsWithoutStatus(t *testing.T) {
	f := begin(t)
	var asked atomic.Int64
	role, secret := belay.Kind{Group: "rbac.authorization.k8s.io", Kind: "Role"}, belay.Kind{Kind: "Secret"}
	seen := belay.HealthCheck{Digest: "seen", Judge: func(object map[string]any) (belay.Health, string) {
		asked.Add(1)
		if _, ok := object["data"]; ok {
			t.Error("a value of a Secret arrived")
		}
		rules, _ := object["rules"].([]any)
		return belay.Suspended, fmt.Sprintf("%d rules", len(rules))
	}}
	r := f.object("shop", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"r","namespace":"$NS"},
		"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}`)
	s := f.object("shop", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"$NS"},"stringData":{"k":"v"}}`)
	begun := f.cp.Mark(t)
	f.Observe([]belay.VersionKind{{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "Role"}, {APIVersion: "v1", Kind: "Secret"}})
	f.mustCreate("shop", r)
	f.mustCreate("shop", s)
	f.awaitLive(r.ID, "health by metadata", func(l belay.Live) bool { return l.Health == belay.Healthy })
	f.awaitWatch(begun, "roles", "secrets")
	since := f.cp.Mark(t)
	f.SetHealthRules(oneOf(map[belay.Kind]belay.HealthCheck{role: seen, secret: seen}))
	f.awaitLive(r.ID, "health by the rule", func(l belay.Live) bool { return l.Health == belay.Suspended && l.HealthMessage == "1 rules" })
	if live, _ := f.Lookup(s.ID); live.Health != belay.Healthy {
		t.Errorf("the Secret is %s", live.Health)
	}
	for _, q := range f.requests(since, "list", "watch") {
		if strings.EqualFold(q.Resource, "secrets") {
			t.Errorf("%s of Secrets", q.Verb)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("judged %d times", asked.Load())
	}
	// A deletion is one whatever the rule says.
	gvr := schema.GroupVersionResource{Group: role.Group, Version: "v1", Resource: "roles"}
	f.patch(gvr, "r", "somebody", `{"metadata":{"finalizers":["example.org/wait"]}}`)
	f.remove(gvr, "r")
	f.awaitLive(r.ID, "the deletion to show", func(l belay.Live) bool { return l.Deleting && l.Health == belay.Progressing })
	f.patch(gvr, "r", "somebody", `{"metadata":{"finalizers":null}}`)
	f.awaitUnknown(r.ID)
}
