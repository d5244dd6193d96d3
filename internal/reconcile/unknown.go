package reconcile

import (
	"encoding/json"

	"github.com/belaydev/belay"
)

// unknownAsBefore takes the values of a Secret that whoever rendered it could not
// decrypt for what they are in the cluster. Both manifests are redacted.
func unknownAsBefore(before, after json.RawMessage) json.RawMessage {
	var old, now struct {
		Data map[string]string `json:"data"`
	}
	var m map[string]any
	if json.Unmarshal(before, &old) != nil || json.Unmarshal(after, &now) != nil || json.Unmarshal(after, &m) != nil {
		return after
	}
	data, ok := m["data"].(map[string]any)
	changed := false
	for k, v := range now.Data {
		if was, there := old.Data[k]; ok && there && v == belay.EncryptedValue {
			data[k], changed = was, true
		}
	}
	if !changed {
		return after
	}
	out, err := json.Marshal(m)
	if err != nil {
		return after
	}
	return out
}
