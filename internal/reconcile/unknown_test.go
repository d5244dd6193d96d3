package reconcile

import (
	"encoding/json"
	"testing"

	"github.com/belaydev/belay"
)

func TestUnknownValuesAreTakenForUnchanged(t *testing.T) {
	before := `{"data":{"a":"redacted:1","b":"redacted:2"}}`
	after := `{"data":{"a":"<encrypted>","b":"redacted:3","c":"<encrypted>"}}`
	var got struct{ Data map[string]string }
	if err := json.Unmarshal(unknownAsBefore(json.RawMessage(before), json.RawMessage(after)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Data["a"] != "redacted:1" || got.Data["b"] != "redacted:3" || got.Data["c"] != belay.EncryptedValue {
		t.Errorf("got %v", got.Data)
	}
	if got := unknownAsBefore(nil, json.RawMessage(after)); string(got) != after {
		t.Errorf("a new Secret became %s", got)
	}
}
