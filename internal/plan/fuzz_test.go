package plan

import (
	"encoding/json"
	"testing"

	"github.com/belaydev/belay"
)

// managedFields of any content give a verdict. What covers nothing is drift
// wherever something is declared.
func FuzzCompare(f *testing.F) {
	f.Add(`{"f:data":{"f:value":{}}}`, `{"f:metadata":{"f:labels":{"f:x":{}}}}`)
	f.Add(`{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:name":{}}}}}`, `{}`)
	f.Add(`null`, `[`)
	manifest := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"l":"m"}},"data":{"value":"1"},"spec":{"containers":[{"name":"a","image":"b"}]}}`
	o, err := belay.NewObject([]byte(manifest), belay.Origin{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, ours, theirs string) {
		live := belay.Live{ID: o.ID, Managers: []belay.FieldEntry{
			{Manager: belay.FieldManager, Operation: "Apply", APIVersion: "v1", Fields: json.RawMessage(ours)},
			{Manager: "kubectl-edit", Operation: "Update", APIVersion: "v1", Fields: json.RawMessage(theirs)},
		}}
		v := Compare(&o, &live, belay.DefaultInteractiveManagers())
		if v.OK != (v.Drift == nil) {
			t.Fatalf("right is %v, and drift %v", v.OK, v.Drift)
		}
		if (ours == "" || ours == "{}" || ours == "null") && v.OK {
			t.Fatalf("%q covers a manifest", ours)
		}
	})
}
