package kube

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/belaydev/belay"
)

// left is a manifest without what is left to others.
type left struct {
	raw []byte
	// fields are left, with everything below.
	fields []fieldpath.Path
}

// leave takes out of a manifest what the rules leave to others, of an object that
// is there. An apply without a field of our own would delete it: whoever applies
// the result gives up left.fields first.
//
// A field within an atomic one cannot be left alone: it is left with the whole.
func leave(o *belay.Object, entries []metav1.ManagedFieldsEntry, rules []belay.IgnoreRule) (left, error) {
	if len(rules) == 0 {
		return left{raw: o.Raw}, nil
	}
	var tree map[string]any
	if err := utiljson.Unmarshal(o.Raw, &tree); err != nil {
		return left{}, fmt.Errorf("read the manifest: %w", err)
	}
	all, theirs := fieldpath.NewSet(), fieldpath.NewSet()
	for i := range entries {
		e := &entries[i]
		if e.APIVersion != o.APIVersion {
			continue
		}
		s, err := fieldsOf(e)
		if err != nil {
			return left{}, err
		}
		all = all.Union(s)
		if belay.IgnoresManager(rules, e.Manager) {
			theirs = theirs.Union(s)
		}
	}
	var out left
	var pointers [][]string
	for _, p := range belay.IgnoredPointers(rules) {
		path, depth := follow(all, tree, p)
		pointers = append(pointers, p[:depth])
		if path != nil {
			out.fields = append(out.fields, path)
		}
	}
	belay.CutPointers(tree, pointers)
	theirs.Leaves().Iterate(func(p fieldpath.Path) {
		if !vital(p) {
			removePath(tree, p)
			out.fields = append(out.fields, p.Copy())
		}
	})
	out.fields = slices.DeleteFunc(out.fields, func(p fieldpath.Path) bool { return len(p) == 0 })
	var err error
	out.raw, err = json.Marshal(tree)
	return out, err
}

// follow finds the path that a pointer means, as the owners of fields name it; nil
// if nobody owns anything there. depth is how much of the pointer it is.
func follow(owned *fieldpath.Set, v any, pointer []string) (path fieldpath.Path, depth int) {
	for i, part := range pointer {
		var e fieldpath.PathElement
		switch at := v.(type) {
		case []any:
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 || n >= len(at) {
				return nil, len(pointer)
			}
			found, ok := elementOf(owned, at[n])
			if !ok {
				return nil, len(pointer)
			}
			e, v = found, at[n]
		default:
			m, _ := v.(map[string]any)
			e, v = fieldpath.PathElement{FieldName: &part}, m[part]
		}
		path = append(path, e)
		if next, ok := owned.Children.Get(e); ok {
			owned = next
			continue
		}
		switch {
		case owned.Members.Has(e):
			return path, i + 1
		case i < len(pointer)-1:
			return nil, len(pointer)
		}
	}
	return path, len(pointer)
}

// elementOf finds how the owners of fields name an item of a list. An item may
// leave out parts of its key that have a default.
func elementOf(owned *fieldpath.Set, item any) (out fieldpath.PathElement, ok bool) {
	said := -1
	consider := func(e fieldpath.PathElement) {
		if n := fit(e, item); n > said {
			out, ok, said = e, true, n
		}
	}
	owned.Members.Iterate(consider)
	owned.Children.Iterate(consider)
	return out, ok
}

// fit is how many parts of an element's key an item says itself; -1 if it is another.
func fit(e fieldpath.PathElement, item any) int {
	if e.Value != nil {
		if value.Equals(*e.Value, value.NewValueInterface(item)) {
			return 1
		}
		return -1
	}
	m, isMap := item.(map[string]any)
	if e.Key == nil || !isMap {
		return -1
	}
	n := 0
	for _, f := range *e.Key {
		got, ok := m[f.Name]
		if ok && !value.Equals(f.Value, value.NewValueInterface(runtime.DeepCopyJSONValue(got))) {
			return -1
		}
		if ok {
			n++
		}
	}
	return n
}

// vital are fields that are never left to others: what makes an object itself and
// ours, and the fields by which an item of a list is known.
func vital(p fieldpath.Path) bool {
	last := p[len(p)-1]
	if len(p) > 1 && last.FieldName != nil && p[len(p)-2].Key != nil {
		for _, f := range *p[len(p)-2].Key {
			if f.Name == *last.FieldName {
				return true
			}
		}
	}
	if last.FieldName == nil {
		return false
	}
	return len(p) == 1 && (*last.FieldName == "apiVersion" || *last.FieldName == "kind") ||
		len(p) == 3 && strings.HasPrefix(*last.FieldName, belay.OwnPrefix)
}

// restore gives fields of an object the values that they have in another, but for
// Belay's own marks.
func restore(u, from *unstructured.Unstructured, fields []fieldpath.Path) {
	if len(fields) == 0 {
		return
	}
	labels, annotations := u.GetLabels(), u.GetAnnotations()
	for _, p := range fields {
		u.Object, _ = copyPath(u.Object, from.Object, p).(map[string]any)
	}
	u.SetLabels(withMarks(u.GetLabels(), labels))
	u.SetAnnotations(withMarks(u.GetAnnotations(), annotations))
}

func withMarks(names, marked map[string]string) map[string]string {
	for k, v := range marked {
		if strings.HasPrefix(k, belay.OwnPrefix) {
			if names == nil {
				names = map[string]string{}
			}
			names[k] = v
		}
	}
	return names
}

func copyPath(to, from any, p fieldpath.Path) any {
	if len(p) == 0 {
		return runtime.DeepCopyJSONValue(from)
	}
	switch e := p[0]; {
	case e.FieldName != nil:
		src, ok := from.(map[string]any)
		if !ok {
			return to
		}
		v, ok := src[*e.FieldName]
		if !ok {
			return to
		}
		m, ok := to.(map[string]any)
		if !ok {
			m = map[string]any{}
		}
		m[*e.FieldName] = copyPath(m[*e.FieldName], v, p[1:])
		return m
	case e.Key != nil || e.Value != nil:
		src, _ := from.([]any)
		list, _ := to.([]any)
		i := slices.IndexFunc(src, func(item any) bool { return stands(e, item) })
		if i < 0 {
			return to
		}
		j := slices.IndexFunc(list, func(item any) bool { return stands(e, item) })
		if j < 0 {
			return append(list, copyPath(nil, src[i], p[1:]))
		}
		list[j] = copyPath(list[j], src[i], p[1:])
		return list
	}
	return to
}
