package reconcile

import (
	"testing"
)

// Whoever sees that an application waits sees what to do about it as well.
func TestWaitsHaveAHint(t *testing.T) {
	t.Parallel()
	w := newFakeWorld(t)
	w.refuse["refused"] = true
	shut := "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: shut}\nspec:\n  sources: [{repo: \"**\"}]\n  destinations: [{}]\n" +
		"  windows: [{kind: deny, schedule: \"0 * * * *\", duration: 2h}]\n"
	w.commit(ada, "All kinds of waits", map[string]string{
		"belay/shut-project.yaml": shut,
		"belay/base.yaml":         fakeApp("base"), "apps/base/refused": "1",
		"belay/late.yaml": fakeApp("late", "  dependsOn: [{name: well}, {name: base}]\n"), "apps/late/a": "1",
		"belay/well.yaml": fakeApp("well"), "apps/well/b": "1",
		"belay/shut.yaml": fakeApp("shut", "  project: shut\n"), "apps/shut/c": "1",
		"belay/rest.yaml": fakeApp("rest", "  suspend: {reason: migration}\n"), "apps/rest/d": "1",
	})
	w.start()
	for _, tt := range []struct{ name, message, hint string }{
		{"late", "waits for base, which is OutOfSync", "it goes on by itself; belay get app base shows what that one lacks"},
		{"shut", "waits for a window", `wait, or let one sync through, on the record: belay sync shut --override-window --reason "..."`},
		{"rest", "suspended: migration", "take spec.suspend out of its definition and commit"},
		{"well", "", ""},
	} {
		w.says(tt.name, tt.message)
		if tt.name == "well" {
			w.settled("well")
		}
		if st, err := w.e.Application(tt.name); err != nil || st.Hint != tt.hint {
			t.Errorf("%s says %q with the hint %q: %v; want %q", tt.name, st.Message, st.Hint, err, tt.hint)
		}
	}
}
