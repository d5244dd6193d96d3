package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/window"
)

// A preview says what would change. That it would not change now, because a person
// or the clock is waited for, it has to say as well.

// previewWaits says why nothing of a preview would be applied now; "" if it would.
func (e *Engine) previewWaits(t *target, s subject, out *belay.Preview, now time.Time) string {
	if len(out.Changes) == 0 {
		return ""
	}
	var why []string
	say := func(reason string) {
		if reason != "" {
			why = append(why, reason)
		}
	}
	e.mu.Lock()
	h := e.holds[t.def.Name]
	e.mu.Unlock()
	if !s.gone { // a suspension leaves Git with the definition
		say(suspension(t.def))
	}
	if h != nil {
		say(heldAt(&h.Hold))
	}
	if list, err := window.Compile(t.project.Spec.Windows); err == nil { // else the definitions have an error
		say(window.Decide(list, t.def.Name, t.cluster, false, now).Reason())
	}
	sync := t.def.Spec.Sync
	switch {
	case s.gone:
	case !sync.Automatic:
		say("automatic sync is off; belay sync " + t.def.Name + " applies it")
	case !sync.SelfHeal && !slices.ContainsFunc(out.Changes, func(c belay.PreviewChange) bool { return c.Verb != belay.VerbHeal }):
		say(fmt.Sprintf("self-heal is off; belay sync %s sets it back", t.def.Name))
	}
	return strings.Join(why, "; ")
}
