package health

import (
	"strings"
	"testing"

	"github.com/belaydev/belay"
)

func database(name string, kinds []string, cases ...belay.HealthCase) belay.HealthRule {
	spec := belay.DefaultHealthRuleSpec()
	spec.Kinds, spec.Rules = kinds, cases
	return belay.HealthRule{Name: name, Spec: spec}
}

func setOf(t *testing.T, rules ...belay.HealthRule) *Set {
	t.Helper()
	all := map[string]belay.HealthRule{}
	for _, r := range rules {
		all[r.Name] = r
	}
	s, err := NewSet(all)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var databaseKind = belay.Kind{Group: "example.com", Kind: "Database"}

func TestJudge(t *testing.T) {
	rule := database("database", []string{"example.com/Database"},
		belay.HealthCase{When: "spec.?paused.orValue(false)", Health: belay.Suspended, Message: "spec.paused is true"},
		belay.HealthCase{When: "conditions.Ready.status == 'True'", Health: belay.Healthy, Message: "never shown"},
		belay.HealthCase{When: "status.?phase.orValue('') == 'Failed'", Health: belay.Degraded, MessageExpression: "'it failed:  ' + status.reason"},
		belay.HealthCase{When: "status.?phase.orValue('') == 'Odd'", Health: belay.Unknown},
		belay.HealthCase{When: "status.boom", Health: belay.Degraded},
	)
	check := setOf(t, rule).For(databaseKind)
	meta := map[string]any{"name": "one", "generation": int64(3)}
	for _, tt := range []struct {
		name    string
		object  map[string]any
		health  belay.Health
		message string
		decided int
	}{
		{"the first that holds", map[string]any{"spec": map[string]any{"paused": true}, "status": map[string]any{"phase": "Failed"}}, belay.Suspended, "spec.paused is true", 1},
		{"healthy has no message", map[string]any{"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}}, belay.Healthy, "", 2},
		{"a message by expression, in one line", map[string]any{"status": map[string]any{"phase": "Failed", "reason": "no\n space"}}, belay.Degraded, "it failed: no space", 3},
		{"no message", map[string]any{"status": map[string]any{"phase": "Odd"}}, belay.Unknown, `HealthRule "database", spec.rules[3]`, 4},
		{"a field that is not there", map[string]any{"status": map[string]any{}}, belay.Unknown, `HealthRule "database", spec.rules[4].when: there is no field "boom"`, 5},
		{"a message that cannot be told", map[string]any{"status": map[string]any{"phase": "Failed"}}, belay.Unknown, `spec.rules[2].messageExpression: there is no field "reason"`, 3},
		{"a wrong type", map[string]any{"status": map[string]any{"boom": "x"}}, belay.Unknown, "the result is string, want bool", 5},
		{"otherwise", map[string]any{"status": map[string]any{"boom": false}}, belay.Progressing, `no rule of HealthRule "database" applies`, 0},
		{"not observed", map[string]any{"metadata": meta, "status": map[string]any{"observedGeneration": int64(2), "phase": "Failed"}}, belay.Progressing, "generation 3 has not been observed yet", 0},
		{"not observed, as text", map[string]any{"metadata": meta, "status": map[string]any{"observedGeneration": "2"}}, belay.Progressing, "generation 3", 0},
		{"observed", map[string]any{"metadata": meta, "spec": map[string]any{"paused": true}, "status": map[string]any{"observedGeneration": float64(3)}}, belay.Suspended, "paused", 1},
		{"a long message", map[string]any{"status": map[string]any{"phase": "Failed", "reason": strings.Repeat("ü", 1000)}}, belay.Degraded, "ü…", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := check.Judge(tt.object)
			if v.Health != tt.health || !strings.Contains(v.Message, tt.message) || v.Case != tt.decided || v.Rule != "database" || v.BuiltIn {
				t.Errorf("got %+v", v)
			}
			if tt.health == belay.Healthy && v.Message != "" || len(v.Message) > maxMessage+len("…") || strings.Contains(v.Message, "\n") {
				t.Errorf("message %q", v.Message)
			}
		})
	}
	rule.Spec.IgnoreGeneration, rule.Spec.Rules, rule.Spec.Otherwise = true, nil, belay.Healthy
	if v := setOf(t, rule).For(databaseKind).Judge(map[string]any{"metadata": meta, "status": map[string]any{"observedGeneration": int64(1)}}); v.Health != belay.Healthy {
		t.Errorf("ignoreGeneration: %+v", v)
	}
	if v := setOf(t, database("empty", []string{"example.com/Database"})).For(databaseKind).Judge(map[string]any{}); v.Health != belay.Progressing || v.Message != "it has no status yet" {
		t.Errorf("no status: %+v", v)
	}
}

// A rule for a kind by name counts before one by a glob, the closer glob before
// the wider one, and any in Git before one that is built in.
func TestWhichRule(t *testing.T) {
	s := setOf(t, database("wide", []string{"*/Database"}), database("close", []string{"*.example.com/Data*"}), database("exact", []string{"a.example.com/Database", "Pod"}),
		database("mine", []string{"cert-manager.io/Certificate"}))
	for _, tt := range []struct{ group, kind, want string }{
		{"a.example.com", "Database", "exact"}, {"b.example.com", "Database", "close"}, {"x.y.example.com", "Datastore", "close"},
		{"example.org", "Database", "wide"}, {"example.org", "Other", ""}, {"", "Pod", "exact"}, {"", "Service", ""},
		{"cert-manager.io", "Certificate", "mine"}, {"cert-manager.io", "Issuer", "cert-manager-issuer"},
		{"ec2.aws.upbound.io", "VPC", "crossplane-managed"}, {"aws.upbound.io", "ProviderConfig", "crossplane-providerconfig"},
		{"notification.toolkit.fluxcd.io", "Alert", "flux-notification"}, {"notification.toolkit.fluxcd.io", "Receiver", "flux"},
		{"apps", "Deployment", ""},
	} {
		got := ""
		if c := s.For(belay.Kind{Group: tt.group, Kind: tt.kind}); c != nil {
			got = c.name
		}
		if got != tt.want {
			t.Errorf("%s/%s: %q, want %q", tt.group, tt.kind, got, tt.want)
		}
	}
}

func TestConflicts(t *testing.T) {
	rules := map[string]belay.HealthRule{}
	for _, r := range []belay.HealthRule{database("b", []string{"example.com/Database", "example.com/Other"}), database("a", []string{"example.com/Database", "example.com/Database"}), database("c", []string{"*.com/*"})} {
		rules[r.Name] = r
	}
	got := Conflicts(rules)
	if len(got) != 1 || got[0] != (ConflictError{Kind: "example.com/Database", Wins: "a", Loses: "b"}) || !strings.Contains(got[0].Error(), `HealthRule "a" and HealthRule "b"`) {
		t.Errorf("got %v", got)
	}
}

// What a check says decides its digest, and nothing else does.
func TestDigest(t *testing.T) {
	one := database("r", []string{"example.com/Database"}, belay.HealthCase{When: "true", Health: belay.Healthy})
	digest := func(r belay.HealthRule) string {
		c, ok := setOf(t, r).Checks()(databaseKind)
		if !ok {
			t.Fatal("no check")
		}
		return c.Digest
	}
	same := one
	same.Origin = belay.Origin{File: "elsewhere.yaml", Line: 7}
	other := database("r", []string{"example.com/Database"}, belay.HealthCase{When: "true", Health: belay.Degraded})
	if digest(one) != digest(same) || digest(one) == digest(other) {
		t.Error("the digest does not follow what the rule says")
	}
	if _, ok := setOf(t).Checks()(belay.Kind{Group: "example.org", Kind: "X"}); ok {
		t.Error("there is a check for a kind that no rule is for")
	}
}

func BenchmarkNewSet(b *testing.B) {
	for b.Loop() {
		if _, err := NewSet(nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	s, err := NewSet(nil)
	if err != nil {
		b.Fatal(err)
	}
	c := s.For(belay.Kind{Group: "cert-manager.io", Kind: "Certificate"})
	o := map[string]any{"metadata": map[string]any{"generation": int64(1)}, "status": map[string]any{"conditions": []any{
		map[string]any{"type": "Ready", "status": "False"}, map[string]any{"type": "Issuing", "status": "True", "message": "x"}}}}
	b.ReportAllocs()
	for b.Loop() {
		c.Judge(o)
	}
}
