package health

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay"
)

// sample is a status as a controller writes it, and what it means.
type sample struct {
	Of   string       `json:"of"` // group/Kind
	Want belay.Health `json:"want"`
	Says string       `json:"says"` // part of the message
	// Is are conditions by type: "STATUS", "STATUS Reason" or "STATUS Reason: message".
	Is          map[string]string `json:"is"`
	Labels      map[string]any    `json:"labels"`
	Annotations map[string]any    `json:"annotations"`
	Generation  int64             `json:"generation"`
	Spec        map[string]any    `json:"spec"`
	Status      map[string]any    `json:"status"`
}

func (s *sample) object() map[string]any {
	_, kind, _ := strings.Cut(s.Of, "/")
	generation := s.Generation
	if generation == 0 {
		generation = 2
	}
	meta := map[string]any{"name": "one", "generation": generation}
	if s.Labels != nil {
		meta["labels"] = s.Labels
	}
	if s.Annotations != nil {
		meta["annotations"] = s.Annotations
	}
	o := map[string]any{"apiVersion": strings.TrimSuffix(s.Of, "/"+kind) + "/v1", "kind": kind, "metadata": meta}
	if s.Spec != nil {
		o["spec"] = s.Spec
	}
	status := maps.Clone(s.Status)
	for _, name := range slices.Sorted(maps.Keys(s.Is)) {
		if status == nil {
			status = map[string]any{}
		}
		value, rest, _ := strings.Cut(s.Is[name], " ")
		reason, message, _ := strings.Cut(rest, ": ")
		list, _ := status["conditions"].([]any)
		status["conditions"] = append(list, map[string]any{"type": name, "status": value, "reason": reason, "message": message,
			"lastTransitionTime": "2026-01-01T00:00:00Z"})
	}
	if status != nil {
		o["status"] = status
	}
	return o
}

func samples(t *testing.T) map[string][]sample {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	out := map[string][]sample{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		var list []sample
		if err := yaml.UnmarshalStrict(b, &list); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		out[filepath.Base(p)] = list
	}
	return out
}

// Every rule that is built in decides about at least one sample, and says of it
// what people who know the project would.
func TestBuiltInRules(t *testing.T) {
	set, err := NewSet(nil)
	if err != nil {
		t.Fatal(err)
	}
	hit := map[string]bool{}
	for file, list := range samples(t) {
		t.Run(file, func(t *testing.T) {
			for i := range list {
				s := &list[i]
				group, kind, _ := strings.Cut(s.Of, "/")
				check := set.For(belay.Kind{Group: group, Kind: kind})
				if check == nil {
					t.Errorf("%s: no rule is for it", s.Of)
					continue
				}
				v := check.Judge(s.object())
				if v.Health != s.Want || !strings.Contains(v.Message, s.Says) {
					t.Errorf("%s %v %v %v: %s %q by rule %d of %s, want %s %q", s.Of, s.Is, s.Spec, s.Status, v.Health, v.Message, v.Case, v.Rule, s.Want, s.Says)
				}
				if (v.Message == "") != (v.Health == belay.Healthy) {
					t.Errorf("%s %v %v %v: %s has the message %q", s.Of, s.Is, s.Spec, s.Status, v.Health, v.Message)
				}
				if !v.BuiltIn {
					t.Errorf("%s is not by a rule that is built in", s.Of)
				}
				hit[fmt.Sprintf("%s %d", v.Rule, v.Case)] = true
			}
		})
	}
	rules, err := BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		for i := range len(r.Spec.Rules) + 1 {
			if !hit[fmt.Sprintf("%s %d", r.Name, i)] {
				t.Errorf("%s: no sample for rule %d of %s (0 is otherwise)", r.Origin.File, i, r.Name)
			}
		}
	}
}

// No status, however odd, makes a rule that is built in fail.
func TestBuiltInRulesNeverFail(t *testing.T) {
	set, err := NewSet(nil)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		for _, pattern := range r.Spec.Kinds {
			group, kind, _ := strings.Cut(strings.ReplaceAll(pattern, "*", "example"), "/")
			check := set.For(belay.Kind{Group: group, Kind: kind})
			if check == nil {
				t.Fatalf("%s: no rule for %s", r.Name, pattern)
			}
			for _, object := range []map[string]any{
				{}, {"metadata": map[string]any{}}, {"metadata": map[string]any{"generation": int64(1)}, "kind": kind, "status": map[string]any{}},
				{"kind": kind, "metadata": map[string]any{"name": "x"}, "spec": map[string]any{}, "status": map[string]any{"conditions": []any{}}},
				{"kind": kind, "metadata": map[string]any{"name": "x"}, "status": map[string]any{"conditions": []any{map[string]any{"type": "Ready"}, "odd", map[string]any{}}}},
			} {
				if v := check.Judge(object); strings.Contains(v.Message, "].when: ") || strings.Contains(v.Message, "].messageExpression: ") {
					t.Errorf("%s of %v: %s", r.Name, object, v.Message)
				}
			}
		}
	}
}
