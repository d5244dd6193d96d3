// Package manifestdiff shows the difference between two manifests of one
// object to people: as a unified diff of YAML, without what the API server
// writes by itself, and without the values of a Secret.
//
// It is pure. It must not know of clusters, terminals or colours.
package manifestdiff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"github.com/belaydev/belay"
	"sigs.k8s.io/yaml"
)

// Labels of the two sides in the head of a diff.
const (
	Before = "live"
	After  = "planned"
)

// masked stands for a value of a Secret that reached this package unredacted.
const masked = belay.RedactedPrefix + "hidden"

// context is the number of unchanged lines around a change.
const context = 3

// Unified returns the unified diff from before to after as YAML with sorted
// keys; it is empty where they do not differ. An empty or null side is an object
// that is not there. Fields that the API server sets and Belay's own digest are
// left out. The values of a Secret show only where [belay.RedactSecret] already
// replaced them; any other value is hidden, and then a change of it does not
// show. A side that is not a JSON object is shown as one line that says so.
func Unified(before, after json.RawMessage) string {
	a, b := text(before), text(after)
	if a == b {
		return ""
	}
	out, err := udiff.ToUnified(Before, After, a, udiff.Lines(a, b), context)
	if err != nil {
		// Only edits that do not fit their text fail, and these were made from it.
		return fmt.Sprintf("--- %s\n+++ %s\n", Before, After)
	}
	return out
}

// text is the manifest as YAML, "" for one that is not there.
func text(manifest json.RawMessage) string {
	if t := bytes.TrimSpace(manifest); len(t) == 0 || string(t) == "null" {
		return ""
	}
	var m map[string]any
	dec := json.NewDecoder(bytes.NewReader(manifest))
	dec.UseNumber()
	if err := dec.Decode(&m); err != nil {
		return "# not a JSON object\n"
	}
	hideSecret(m)
	dropServerFields(m)
	raw, err := json.Marshal(m)
	if err != nil {
		return "# not a JSON object\n"
	}
	out, err := yaml.JSONToYAML(raw)
	if err != nil {
		return "# not a JSON object\n"
	}
	return string(out)
}

// dropServerFields removes what no manifest declares.
func dropServerFields(m map[string]any) {
	delete(m, "status")
	meta, ok := m["metadata"].(map[string]any)
	if !ok {
		return
	}
	for _, f := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
		delete(meta, f)
	}
	if ann, ok := meta["annotations"].(map[string]any); ok {
		delete(ann, belay.AnnotationDigest)
		if len(ann) == 0 {
			delete(meta, "annotations")
		}
	}
}

// hideSecret is the second lock: whoever calls has redacted already.
func hideSecret(m map[string]any) {
	if m["kind"] != "Secret" || m["apiVersion"] != "v1" {
		return
	}
	if data, ok := m["data"].(map[string]any); ok {
		for k, v := range data {
			// A colon is not in base64, so no value of a real Secret begins like this.
			if s, ok := v.(string); !ok || !strings.HasPrefix(s, belay.RedactedPrefix) {
				data[k] = masked
			}
		}
	}
	if data, ok := m["stringData"].(map[string]any); ok {
		for k := range data {
			data[k] = masked
		}
	}
	if meta, ok := m["metadata"].(map[string]any); ok {
		if ann, ok := meta["annotations"].(map[string]any); ok {
			delete(ann, "kubectl.kubernetes.io/last-applied-configuration")
		}
	}
}
