package belay

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Kind is a Kubernetes kind without its version: versions are encodings of one thing.
type Kind struct {
	Group string `json:"group,omitempty"`
	Kind  string `json:"kind"`
}

// String is "Deployment.apps", or "Secret" for the core group.
func (k Kind) String() string {
	if k.Group == "" {
		return k.Kind
	}
	return k.Kind + "." + k.Group
}

// ObjectID names one object of a cluster. Namespace is empty for cluster-scoped objects.
type ObjectID struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// GroupKind is the kind of the object.
func (id ObjectID) GroupKind() Kind { return Kind{Group: id.Group, Kind: id.Kind} }

// String is for people: "Deployment.apps guestbook/frontend".
func (id ObjectID) String() string {
	s := id.GroupKind().String() + " "
	if id.Namespace != "" {
		s += id.Namespace + "/"
	}
	return s + id.Name
}

// Compare orders IDs by kind, namespace, name.
func (id ObjectID) Compare(o ObjectID) int {
	return cmp.Or(cmp.Compare(id.Group, o.Group), cmp.Compare(id.Kind, o.Kind),
		cmp.Compare(id.Namespace, o.Namespace), cmp.Compare(id.Name, o.Name))
}

// FormatID is the value of [AnnotationID]: application/group/Kind/namespace/name.
func FormatID(application string, id ObjectID) string {
	return application + "/" + id.Group + "/" + id.Kind + "/" + id.Namespace + "/" + id.Name
}

// ParseID splits a value written by [FormatID]; ok is false for anything else.
func ParseID(s string) (application string, id ObjectID, ok bool) {
	p := strings.Split(s, "/")
	if len(p) != 5 || p[0] == "" || p[2] == "" || p[4] == "" {
		return "", ObjectID{}, false
	}
	return p[0], ObjectID{Group: p[1], Kind: p[2], Namespace: p[3], Name: p[4]}, true
}

// Origin is the place something was declared in.
type Origin struct {
	// Repo is the URL of the repository without credentials; empty for a working directory.
	Repo string `json:"repo,omitempty"`
	// Revision is the full commit id; empty for a working directory.
	Revision string `json:"revision,omitempty"`
	// File is slash-separated and relative to the root of the repository.
	File string `json:"file,omitempty"`
	// Line counts from 1; 0 means not known (a template's output has no line).
	Line int `json:"line,omitempty"`
}

// String is "file:line", for messages whose reader knows the repository.
func (o Origin) String() string {
	if o.Line == 0 {
		return o.File
	}
	return o.File + ":" + strconv.Itoa(o.Line)
}

// Object is one desired object of an application.
type Object struct {
	ID         ObjectID `json:"id"`
	APIVersion string   `json:"apiVersion"`
	// Raw is the manifest as compact JSON with sorted keys and without nulls.
	Raw json.RawMessage `json:"raw,omitempty"`
	// Redacted is true when Raw is a Secret's with digests in place of its values:
	// good to compare field names with, never to apply.
	Redacted bool `json:"redacted,omitempty"`
	// Digest identifies the manifest. It is set by [NewObject], replaced by a keyed
	// digest for a Secret, and renewed by stamping.
	Digest string `json:"digest"`
	// Wave orders the object within its application. Default 0.
	Wave int `json:"wave,omitempty"`
	// PruneDisabled is true when the manifest says that it stays when Git no longer
	// declares it. See [OptionsOf].
	PruneDisabled bool `json:"pruneDisabled,omitempty"`
	// Hook is set for an object that runs at moments of a sync.
	Hook *Hook `json:"hook,omitempty"`
	// Origin is the file the object came from.
	Origin Origin `json:"origin"`
}

// Sensitive reports whether the values of the object must never be shown or stored.
func (o *Object) Sensitive() bool { return o.ID.Group == "" && o.ID.Kind == "Secret" }

// GroupVersionKind of the manifest as group, version, kind.
func (o *Object) GroupVersionKind() (group, version, kind string) {
	group, version = SplitAPIVersion(o.APIVersion)
	return group, version, o.ID.Kind
}

// SplitAPIVersion splits "apps/v1" into group and version; the core group is empty.
func SplitAPIVersion(s string) (group, version string) {
	if g, v, ok := strings.Cut(s, "/"); ok {
		return g, v
	}
	return "", s
}

type objectHead struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string            `json:"name"`
		GenerateName string            `json:"generateName"`
		Namespace    string            `json:"namespace"`
		Annotations  map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// NewObject makes an Object of one JSON manifest. The error says what is wrong
// with the manifest, without its values; the caller adds the place. It is
// [ErrLeftOut] for what is right and not part of a sync.
func NewObject(manifest []byte, origin Origin) (Object, error) {
	var tree any
	dec := json.NewDecoder(bytes.NewReader(manifest))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		return Object{}, fmt.Errorf("not a JSON document: %w", err)
	}
	m, ok := tree.(map[string]any)
	if !ok {
		return Object{}, fmt.Errorf("a Kubernetes object must be a mapping")
	}
	raw, err := json.Marshal(dropNulls(m))
	if err != nil {
		return Object{}, fmt.Errorf("encode the manifest: %w", err)
	}
	if err := checkCase(m); err != nil {
		return Object{}, err
	}
	if err := checkTexts(m); err != nil {
		return Object{}, err
	}
	var head objectHead
	if err := json.Unmarshal(raw, &head); err != nil {
		if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return Object{}, fmt.Errorf("%s must be a string, but is %s; quote it", te.Field, article(te.Value))
		}
		return Object{}, fmt.Errorf("read the manifest: %w", err)
	}
	switch {
	case head.APIVersion == "":
		return Object{}, fmt.Errorf("apiVersion is missing")
	case head.Kind == "":
		return Object{}, fmt.Errorf("kind is missing")
	case head.Metadata.Name == "" && head.Metadata.GenerateName == "":
		return Object{}, fmt.Errorf("metadata.name of the %s is missing", head.Kind)
	}
	hook, err := parseHook(head.Metadata.Annotations)
	if err != nil {
		return Object{}, err
	}
	if head.Metadata.Name == "" {
		if raw, head.Metadata.Name, err = generatedName(m, raw, &head, hook); err != nil {
			return Object{}, err
		}
	}
	group, _ := SplitAPIVersion(head.APIVersion)
	o := Object{
		ID:         ObjectID{Group: group, Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name},
		APIVersion: head.APIVersion,
		Raw:        raw,
		Digest:     Digest(raw),
		Hook:       hook,
		Origin:     origin,
	}
	if err := checkOptions(head.Metadata.Annotations, o.ID); err != nil {
		return Object{}, err
	}
	o.PruneDisabled = OptionsOf(head.Metadata.Annotations).KeepOnPrune && hook == nil
	_, ours := head.Metadata.Annotations[AnnotationWave]
	_, argo := head.Metadata.Annotations[AnnotationArgoWave]
	switch {
	case ours || argo || hook == nil:
		o.Wave, err = WaveOf(head.Metadata.Annotations)
	default:
		o.Wave, err = hookWeight(head.Metadata.Annotations)
	}
	if err != nil {
		return Object{}, fmt.Errorf("%s: %w", o.ID, err)
	}
	return o, nil
}

// checkCase makes sure that nobody takes a field for another: Go reads JSON whatever
// the case of its names, and the API server does not.
func checkCase(m map[string]any) error {
	meta, _ := m["metadata"].(map[string]any)
	for _, in := range []struct {
		path   string
		fields map[string]any
		names  []string
	}{{"", m, []string{"apiVersion", "kind", "metadata"}}, {"metadata.", meta, []string{"name", "generateName", "namespace", "labels", "annotations"}}} {
		for _, k := range slices.Sorted(maps.Keys(in.fields)) {
			for _, name := range in.names {
				if k != name && strings.EqualFold(k, name) {
					return fmt.Errorf("%s%s means nothing; write %s%s", in.path, k, in.path, name)
				}
			}
		}
	}
	return nil
}

// checkTexts makes sure that labels and annotations are texts: YAML takes many a
// version or "yes" for something else, and the API server says only that it
// cannot read the object.
func checkTexts(m map[string]any) error {
	meta, _ := m["metadata"].(map[string]any)
	for _, field := range []string{"labels", "annotations"} {
		texts, ok := meta[field].(map[string]any)
		if _, is := meta[field]; is && !ok {
			return fmt.Errorf("metadata.%s must be a mapping of strings, but is %s", field, article(jsonType(meta[field])))
		}
		for _, k := range slices.Sorted(maps.Keys(texts)) {
			if _, ok := texts[k].(string); !ok {
				return fmt.Errorf("metadata.%s.%s must be a string, but is %s; quote it", field, k, article(jsonType(texts[k])))
			}
		}
	}
	return nil
}

func jsonType(v any) string {
	switch v.(type) {
	case json.Number:
		return "number"
	case string:
		return "string"
	case bool:
		return "bool"
	case []any:
		return "array"
	}
	return "object"
}

// WaveOf reads the wave of an object from its annotations.
func WaveOf(annotations map[string]string) (int, error) {
	name := AnnotationWave
	wave, ok := annotations[name]
	if !ok {
		name = AnnotationArgoWave
		wave, ok = annotations[name]
	}
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(wave))
	if err != nil {
		return 0, fmt.Errorf("annotation %s must be a whole number, not %q", name, wave)
	}
	return n, nil
}

// generatedName gives a hook with a generateName its name, which is made of the
// manifest: the same manifest has the same name in every run, so that Belay finds
// again what it made.
func generatedName(m map[string]any, raw []byte, head *objectHead, hook *Hook) (named []byte, name string, err error) {
	switch {
	case hook == nil:
		return nil, "", fmt.Errorf("metadata.generateName cannot be kept equal to Git; give the %s a metadata.name", head.Kind)
	case head.Kind == "Secret":
		return nil, "", fmt.Errorf("metadata.generateName of a Secret would tell of its values; give it a metadata.name")
	}
	meta, ok := m["metadata"].(map[string]any)
	if !ok {
		return nil, "", fmt.Errorf("metadata of the %s is not a mapping", head.Kind)
	}
	name = head.Metadata.GenerateName + Digest(raw)[:8]
	delete(meta, "generateName")
	meta["name"] = name
	named, err = json.Marshal(m)
	if err != nil {
		return nil, "", fmt.Errorf("encode the manifest: %w", err)
	}
	return named, name, nil
}

// dropNulls removes map entries that are null: an apply of null means "not
// mine", and the API server keeps no field for it.
func dropNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if e == nil {
				delete(v, k)
				continue
			}
			v[k] = dropNulls(e)
		}
	case []any:
		for i, e := range v {
			v[i] = dropNulls(e)
		}
	}
	return v
}

// Digest is the first 16 bytes of the SHA-256 of data in hex: short enough for
// an annotation, long enough that no two manifests meet by chance.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// article puts "a" or "an" before the name of a JSON type.
func article(s string) string {
	if strings.ContainsAny(s[:min(1, len(s))], "aeiou") {
		return "an " + s
	}
	return "a " + s
}
