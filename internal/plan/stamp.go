package plan

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/belaydev/belay"
)

// lastApplied is where "kubectl apply" keeps what it applied.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// Stamp puts Belay's label and annotations on a resolved object, and its
// namespace into the manifest. The digest of the result depends on the rendered
// digest and on what is stamped, not on the bytes: a redacted Secret and the
// same Secret in full have one digest. The rules that fit the object are part of
// it, because they decide what is applied. The error names the object and the field,
// never a value.
func Stamp(o belay.Object, application, instance string, rules ...belay.IgnoreRule) (belay.Object, error) {
	var m map[string]any
	if err := unmarshal(o.Raw, &m); err != nil {
		return o, fmt.Errorf("read the manifest of %s: %w", o.ID, err)
	}
	meta, _ := m["metadata"].(map[string]any)
	if meta == nil {
		return o, fmt.Errorf("metadata of %s is not a mapping", o.ID)
	}
	if o.ID.Namespace == "" {
		delete(meta, "namespace")
	} else {
		meta["namespace"] = o.ID.Namespace
	}
	// These are the server's; a manifest exported from a cluster carries them.
	for _, k := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink",
		"deletionTimestamp", "deletionGracePeriodSeconds"} {
		delete(meta, k)
	}
	if o.Sensitive() {
		if err := foldStringData(m, o.ID); err != nil {
			return o, err
		}
	}
	labels, err := stringMap(meta, "labels", o.ID)
	if err != nil {
		return o, err
	}
	annotations, err := stringMap(meta, "annotations", o.ID)
	if err != nil {
		return o, err
	}
	delete(annotations, lastApplied) // a copy of the whole object, secret values and all
	delete(annotations, belay.AnnotationHookRun)
	id := belay.FormatID(application, o.ID)
	o.Digest = belay.Digest([]byte(o.Digest + "\n" + id + "\n" + instance + ignoreMark(rules, o.ID)))
	labels[belay.LabelManaged] = "true"
	delete(labels, belay.LabelInstance)
	if instance != "" {
		labels[belay.LabelInstance] = instance
	}
	annotations[belay.AnnotationID] = id
	annotations[belay.AnnotationDigest] = o.Digest
	o.Raw, err = json.Marshal(m)
	return o, err
}

func stringMap(meta map[string]any, key string, id belay.ObjectID) (map[string]any, error) {
	v, ok := meta[key]
	if !ok {
		out := map[string]any{}
		meta[key] = out
		return out, nil
	}
	out, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("metadata.%s of %s is not a mapping", key, id)
	}
	return out, nil
}

// foldStringData moves stringData into data. The API server would do that too,
// but it would note stringData as the field we own, and nobody as the owner of
// data: no change of a value would be seen, and no removed key would go away.
func foldStringData(secret map[string]any, id belay.ObjectID) error {
	v, ok := secret["stringData"]
	if !ok {
		return nil
	}
	plain, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("stringData of %s is not a mapping", id)
	}
	delete(secret, "stringData")
	data, ok := secret["data"].(map[string]any)
	if !ok && secret["data"] != nil {
		return fmt.Errorf("data of %s is not a mapping", id)
	}
	if !ok && len(plain) > 0 {
		data = make(map[string]any, len(plain))
		secret["data"] = data
	}
	for k, v := range plain {
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("stringData.%s of %s must be a string; quote it", k, id)
		}
		data[k] = base64.StdEncoding.EncodeToString([]byte(s))
	}
	return nil
}
