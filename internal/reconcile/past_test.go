package reconcile

import (
	"strings"
	"testing"

	"github.com/belaydev/belay"
)

func TestGoingBackToWhatDidNotSucceedIsTold(t *testing.T) {
	for result, told := range map[belay.Result]bool{belay.Succeeded: false, "": false, belay.Failed: true, belay.Superseded: true} {
		w := ofDeployment(&belay.Deployment{ID: "main/7", Application: "shop", Result: result})
		if told != (len(w.notes) == 1) || told && !strings.Contains(w.notes[0], "shop: deployment main/7, which this goes back to, did not succeed ("+string(result)+")") {
			t.Errorf("%q: %q", result, w.notes)
		}
	}
}
