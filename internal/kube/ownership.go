package kube

import (
	"bytes"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/belaydev/belay"
)

// ownership is the managed fields of an object as sets that can be reckoned
// with. An apply removes what its manager owned and no longer names, so whose a
// field is before an apply decides what becomes of it.
type ownership struct {
	entries []metav1.ManagedFieldsEntry
	sets    []*fieldpath.Set
	changed []bool
}

func ownershipOf(m *metav1.ObjectMeta) (*ownership, error) {
	o := &ownership{entries: slices.Clone(m.ManagedFields), changed: make([]bool, len(m.ManagedFields))}
	for i := range o.entries {
		s, err := fieldsOf(&o.entries[i])
		if err != nil {
			return nil, err
		}
		o.sets = append(o.sets, s)
	}
	return o, nil
}

func fieldsOf(e *metav1.ManagedFieldsEntry) (*fieldpath.Set, error) {
	s := fieldpath.NewSet()
	if e.FieldsV1 == nil {
		return s, nil
	}
	if err := s.FromJSON(bytes.NewReader(e.FieldsV1.GetRawBytes())); err != nil {
		return nil, fmt.Errorf("read the fields of manager %q: %w", e.Manager, err)
	}
	return s, nil
}

func isOurs(e *metav1.ManagedFieldsEntry) bool {
	return appliedByUs([]metav1.ManagedFieldsEntry{*e})
}

// ours is the place of our entry, which is made if it is not there.
func (o *ownership) ours(apiVersion string) int {
	for i := range o.entries {
		if isOurs(&o.entries[i]) {
			return i
		}
	}
	now := metav1.Now()
	o.entries = append(o.entries, metav1.ManagedFieldsEntry{Manager: belay.FieldManager, Operation: metav1.ManagedFieldsOperationApply,
		APIVersion: apiVersion, Time: &now, FieldsType: "FieldsV1"})
	o.sets, o.changed = append(o.sets, fieldpath.NewSet()), append(o.changed, false)
	return len(o.entries) - 1
}

// set changes what an entry owns.
func (o *ownership) set(i int, s *fieldpath.Set) {
	if !s.Equals(o.sets[i]) {
		o.sets[i], o.changed[i] = s, true
	}
}

// takeOver makes ours what the entries that fit own, but for what is spared,
// which stays theirs.
func (o *ownership) takeOver(apiVersion string, fits func(*metav1.ManagedFieldsEntry) bool, spared func(*fieldpath.Set) *fieldpath.Set) {
	for i := range o.entries {
		if e := &o.entries[i]; e.Subresource == "" && !isOurs(e) && fits(e) {
			kept := spared(o.sets[i])
			if taken := o.sets[i].Difference(kept); !taken.Empty() {
				us := o.ours(apiVersion)
				o.set(us, o.sets[us].Union(taken))
				o.set(i, kept)
			}
		}
	}
}

// giveUp leaves fields without an owner, if they were ours: the value stays.
func (o *ownership) giveUp(fields *fieldpath.Set) {
	for i := range o.entries {
		if isOurs(&o.entries[i]) {
			o.set(i, o.sets[i].Difference(fields))
		}
	}
}

// write puts the sets back into the metadata, and says whether anything changed.
func (o *ownership) write(m *metav1.ObjectMeta) (bool, error) {
	if !slices.Contains(o.changed, true) {
		return false, nil
	}
	m.ManagedFields = nil
	for i, e := range o.entries {
		if o.changed[i] {
			if o.sets[i].Empty() && !isOurs(&e) {
				continue
			}
			raw, err := o.sets[i].ToJSON()
			if err != nil {
				return false, fmt.Errorf("write the fields of manager %q: %w", e.Manager, err)
			}
			e.FieldsV1 = metav1.NewFieldsV1(string(raw))
		}
		m.ManagedFields = append(m.ManagedFields, e)
	}
	return true, nil
}

// below are those of the owned fields that paths lead to or through.
func below(owned *fieldpath.Set, paths []fieldpath.Path) *fieldpath.Set {
	out := fieldpath.NewSet()
	if len(paths) == 0 {
		return out
	}
	owned.Iterate(func(q fieldpath.Path) {
		if slices.ContainsFunc(paths, func(p fieldpath.Path) bool { return len(p) <= len(q) && q[:len(p)].Equals(p) }) {
			out.Insert(q.Copy())
		}
	})
	return out
}
