package kube

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/belaydev/belay"
)

// managers are field managers of tools that people use by hand.
type managers []string

func (m managers) has(manager string) bool {
	head, _, _ := strings.Cut(manager, "/")
	return slices.Contains(m, manager) || slices.Contains(m, head)
}

// record is what is kept of one object.
type record struct {
	live       belay.Live
	version    uint64 // resourceVersion as a number; 0 if it is none
	generation int64
	// verified is the fingerprint whose managers were found right.
	verified string
	// replicas is true when spec.replicas seems to be ours.
	replicas bool
	// judgedBy is the check that told the health; empty where none did.
	judgedBy string
}

// trimmed is an arrived object, cut down to what is kept. ours is false for
// objects that only look like ours.
type trimmed struct {
	record
	ours bool
}

// GetObjectMeta lets a reflector's own store find a key for it.
func (t *trimmed) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: t.live.ID.Namespace, Name: t.live.ID.Name, ResourceVersion: t.live.ResourceVersion}
}

// trimmer cuts objects of one kind down.
type trimmer struct {
	resource    resource
	instance    string
	interactive managers
	// check tells the health; without Judge, the package's own rules do.
	check belay.HealthCheck
	// known is where an object was judged before; nil is nowhere.
	known *store
}

// trim takes what a watch delivered.
func (t trimmer) trim(obj any) (*trimmed, error) {
	switch o := obj.(type) {
	case *trimmed:
		return o, nil
	case *metav1.PartialObjectMetadata:
		out := t.meta(&o.ObjectMeta)
		out.live.Health, out.live.HealthMessage = metadataHealth(&o.ObjectMeta)
		return out, nil
	case *unstructured.Unstructured:
		content, _ := o.Object["metadata"].(map[string]any)
		var m metav1.ObjectMeta
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, &m); err != nil {
			return nil, fmt.Errorf("read the metadata of %s: %w", t.resource.kind, err)
		}
		out := t.meta(&m)
		if out.ours {
			t.judge(out, o)
			if out.live.Hook != nil {
				out.live.Health, out.live.HealthMessage = hookHealth(o, out.live.Health, out.live.HealthMessage)
			}
			out.live.Established = established(o)
		}
		return out, nil
	}
	return nil, fmt.Errorf("a watch of %s delivered %T", t.resource.kind, obj)
}

// judge tells the health of a whole object.
func (t trimmer) judge(out *trimmed, o *unstructured.Unstructured) {
	if t.check.Judge == nil || out.live.Deleting {
		out.live.Health, out.live.HealthMessage = healthOf(o)
		return
	}
	out.judgedBy = t.check.Digest
	if t.known != nil {
		if h, message, ok := t.known.judged(out.live.ID, out.live.UID, out.live.ResourceVersion, t.check.Digest); ok {
			out.live.Health, out.live.HealthMessage = h, message
			return
		}
	}
	out.live.Health, out.live.HealthMessage = t.check.Judge(o.Object)
}

// meta cuts metadata down. Health is left to the caller.
func (t trimmer) meta(m *metav1.ObjectMeta) *trimmed {
	id := belay.ObjectID{Group: t.resource.kind.Group, Kind: t.resource.kind.Kind, Namespace: intern(m.Namespace), Name: intern(m.Name)}
	out := &trimmed{record: record{
		live: belay.Live{
			ID: id, APIVersion: t.resource.apiVersion(), UID: string(m.UID), ResourceVersion: m.ResourceVersion,
			Namespaced: t.resource.namespaced, Deleting: m.DeletionTimestamp != nil, Established: true,
		},
		generation: m.Generation,
	}}
	out.version, _ = strconv.ParseUint(m.ResourceVersion, 10, 64)
	app, ours := ownerOf(id, m, t.instance)
	if !ours {
		return out
	}
	out.ours = true
	out.live.Application = intern(app)
	out.live.Digest = m.Annotations[belay.AnnotationDigest]
	o := belay.OptionsOf(m.Annotations)
	out.live.PruneDisabled, out.live.TeardownDisabled = o.KeepOnPrune, o.KeepOnTeardown
	out.live.ConfirmPrune, out.live.ConfirmTeardown = o.ConfirmPrune, o.ConfirmTeardown
	out.live.Wave, _ = belay.WaveOf(m.Annotations) // what is no number is no wave
	out.live.Hook = liveHook(m)
	out.replicas = slices.ContainsFunc(m.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		return appliedByUs([]metav1.ManagedFieldsEntry{e}) && claimsReplicas(&e)
	})
	out.live.Managers = fieldEntries(m.ManagedFields)
	out.live.Fingerprint = fingerprint(out.live.Managers, t.interactive)
	return out
}

// ownerOf says whether an object was applied by this instance of Belay, and for
// which application. Three things must agree: the object names itself (a copy of
// the annotation on another object does not), our manager applied it (a
// controller that copies labels and annotations did not), and the instance is
// ours. An object whose annotation somebody removed is still ours by its label,
// but nobody's in particular.
func ownerOf(id belay.ObjectID, m *metav1.ObjectMeta, instance string) (application string, ours bool) {
	if m.Labels[belay.LabelInstance] != instance || !appliedByUs(m.ManagedFields) {
		return "", false
	}
	text, annotated := m.Annotations[belay.AnnotationID]
	if !annotated {
		return "", m.Labels[belay.LabelManaged] == "true"
	}
	application, named, ok := belay.ParseID(text)
	if !ok || named != id {
		return "", false
	}
	return application, true
}

func appliedByUs(entries []metav1.ManagedFieldsEntry) bool {
	return slices.ContainsFunc(entries, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == belay.FieldManager && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == ""
	})
}

func fieldEntries(entries []metav1.ManagedFieldsEntry) []belay.FieldEntry {
	out := make([]belay.FieldEntry, len(entries))
	for i := range entries {
		e := &entries[i]
		out[i] = belay.FieldEntry{Manager: intern(e.Manager), Operation: intern(string(e.Operation)),
			Subresource: intern(e.Subresource), APIVersion: intern(e.APIVersion)}
		if e.Time != nil {
			out[i].Time = e.Time.UTC()
		}
		if e.FieldsV1 != nil {
			out[i].Fields = canonical(e.FieldsV1.GetRawBytes())
		}
	}
	return out
}

// canonical gives one set of fields one text: the order of keys and the
// escaping differ with the encoding that it arrived in.
func canonical(fields []byte) json.RawMessage {
	var tree any
	dec := json.NewDecoder(bytes.NewReader(fields))
	dec.UseNumber()
	if dec.Decode(&tree) != nil {
		return slices.Clone(fields)
	}
	out, err := json.Marshal(tree)
	if err != nil {
		return slices.Clone(fields)
	}
	return out
}

// fingerprint identifies the fields that we and interactive tools own, without
// the time: an edit that changes nothing is none.
func fingerprint(entries []belay.FieldEntry, interactive managers) string {
	var counted []*belay.FieldEntry
	for i := range entries {
		e := &entries[i]
		if e.Subresource != "" {
			continue
		}
		if (e.Manager == belay.FieldManager && e.Operation == string(metav1.ManagedFieldsOperationApply)) || interactive.has(e.Manager) {
			counted = append(counted, e)
		}
	}
	slices.SortFunc(counted, func(a, b *belay.FieldEntry) int {
		return cmp.Or(cmp.Compare(a.Manager, b.Manager), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.APIVersion, b.APIVersion))
	})
	h := sha256.New()
	for _, e := range counted {
		for _, s := range []string{e.Manager, e.Operation, e.APIVersion, string(e.Fields)} {
			fmt.Fprintf(h, "%d:%s", len(s), s)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// intern keeps one copy of a text that many objects share.
func intern(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}
