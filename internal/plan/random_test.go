package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

// Whatever people do to an object with interactive tools, healing what Compare
// finds gives back the object as it was first applied. Nothing but the contents
// of the object is the judge, so a change that Compare misses fails the test.
func TestHealingUndoesAnyEdit(t *testing.T) {
	s := newServer(t)
	s.custom()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		document := rapid.SampledFrom([]string{web, settings, thing}).Draw(rt, "object")
		o := s.named(document, fmt.Sprintf("random-%d", n))
		s.apply(o)
		defer s.unblock(o)
		judged := func() map[string]any {
			c := contents(s.get(o))
			// The number of replicas is whoever's scales, unless it is declared.
			if spec, ok := c["spec"].(map[string]any); ok && !strings.Contains(string(o.Raw), `"replicas"`) {
				delete(spec, "replicas")
			}
			return c
		}
		before := judged()
		managers := map[string]bool{}
		for range rapid.IntRange(1, 4).Draw(rt, "edits") {
			manager := rapid.SampledFrom([]string{"kubectl-edit", "k9s", "Mozilla"}).Draw(rt, "manager")
			if s.editAtRandom(rt, o, manager) {
				managers[manager] = true
			}
		}
		changed := !reflect.DeepEqual(judged(), before)
		v := s.compare(o)
		if v.OK && changed {
			rt.Fatalf("missed that\n%s\nis now\n%s%s", text(before), text(contents(s.get(o))), ours(s.live(o)))
		}
		if !v.OK && len(managers) == 0 {
			rt.Fatalf("nobody edited, but: %s", describe(v.Drift))
		}
		if !v.OK && v.Drift.Manager != "" && !managers[v.Drift.Manager] {
			rt.Fatalf("%q did not do it", v.Drift.Manager)
		}
		for range 3 {
			if v.OK {
				break
			}
			s.heal(o, v)
			v = s.compare(o)
		}
		if !v.OK {
			rt.Fatalf("healing does not end: %s%s", describe(v.Drift), ours(s.live(o)))
		}
		if after := judged(); !reflect.DeepEqual(after, before) {
			rt.Fatalf("healed, but\n%s\nis now\n%s%s", text(before), text(after), ours(s.live(o)))
		}
	})
}

func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// contents is what edits can change, lists with keys in one order: that order has no owner.
func contents(u *unstructured.Unstructured) map[string]any {
	out := map[string]any{}
	for k, v := range u.DeepCopy().Object {
		switch k {
		case "metadata":
			annotations := u.GetAnnotations()
			delete(annotations, "deployment.kubernetes.io/revision")
			out[k] = map[string]any{"labels": u.GetLabels(), "annotations": annotations, "finalizers": u.GetFinalizers()}
		case "status":
		default:
			out[k] = ordered(v)
		}
	}
	return out
}

func ordered(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = ordered(e)
		}
	case []any:
		for i, e := range v {
			v[i] = ordered(e)
		}
		slices.SortFunc(v, func(a, b any) int { return strings.Compare(text(a), text(b)) })
	}
	return v
}

// editAtRandom changes, adds or removes something and writes the whole object
// back, as an editor does. It returns false if the API server did not take it.
func (s *server) editAtRandom(rt *rapid.T, o *belay.Object, manager string) bool {
	u := s.get(o)
	var places []func()
	content := u.Object
	collect(rt, []any{}, map[string]any{"metadata": map[string]any{"labels": content["metadata"].(map[string]any)["labels"]}}, &places)
	for _, k := range slices.Sorted(maps.Keys(content)) {
		if k == "spec" || k == "data" {
			collect(rt, []any{k}, content[k], &places)
		}
	}
	rapid.SampledFrom(places).Draw(rt, "place")()
	_, err := s.resource(o).Update(s.t.Context(), u, metav1.UpdateOptions{FieldManager: manager})
	return err == nil
}

// collect lists everything that an edit might do below v.
func collect(rt *rapid.T, path []any, v any, places *[]func()) {
	at := fmt.Sprint(path...)
	switch v := v.(type) {
	case map[string]any:
		add := func() {
			v[rapid.SampledFrom([]string{"a", "x", "env", "args", "nodeSelector", "minReadySeconds", "paused"}).Draw(rt, "new key of "+at)] = value(rt)
		}
		*places = append(*places, add)
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if !strings.HasPrefix(k, "belay.dev/") && len(v) > 1 { // the last one is the blind spot that Compare tells of
				*places = append(*places, func() { delete(v, k) })
			}
			if scalar(v[k]) {
				*places = append(*places, func() { v[k] = like(rt, v[k]) })
			}
			if list, ok := v[k].([]any); ok {
				*places = append(*places, func() { v[k] = append(slices.Clone(list), item(rt, list)) })
				if len(list) > 0 {
					*places = append(*places, func() { v[k] = slices.Clone(list)[1:] }, func() { v[k] = slices.Clone(list)[:len(list)-1] })
				}
			}
			collect(rt, append(slices.Clip(path), k), v[k], places)
		}
	case []any:
		for i := range v {
			if scalar(v[i]) {
				*places = append(*places, func() { v[i] = like(rt, v[i]) })
			}
			collect(rt, append(slices.Clip(path), i), v[i], places)
		}
	}
}

// item makes one more item for a list, after the ones it has.
func item(rt *rapid.T, list []any) any {
	if len(list) == 0 {
		return value(rt)
	}
	m, ok := list[0].(map[string]any)
	if !ok {
		return like(rt, list[0])
	}
	m = maps.Clone(m)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if scalar(m[k]) {
			m[k] = like(rt, m[k])
		}
	}
	return m
}

func scalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

func value(rt *rapid.T) any {
	return rapid.SampledFrom([]any{"v", int64(7), true, []any{"v"}, map[string]any{"k": "v"}, []any{map[string]any{"name": "N", "value": "v"}}}).Draw(rt, "value")
}

func like(rt *rapid.T, v any) any {
	switch v.(type) {
	case int64:
		return int64(rapid.IntRange(0, 90).Draw(rt, "number"))
	case bool:
		return rapid.Bool().Draw(rt, "bool")
	}
	return rapid.SampledFrom([]string{"other", "Recreate", "UDP", "200m", ""}).Draw(rt, "text")
}
