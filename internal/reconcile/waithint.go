package reconcile

import (
	"fmt"
	"strings"

	"github.com/belaydev/belay"
)

// What to do about a wait. A message says what an application waits for; who looks at
// it wants to know whether it goes on by itself, and how to have it go on.

// suspendedHint says how a suspension ends.
const suspendedHint = "take spec.suspend out of its definition and commit"

// windowHint says how to get around windows.
func windowHint(name string) string {
	return fmt.Sprintf("wait, or let one sync through, on the record: belay sync %s --override-window --reason \"...\"", name)
}

// hintWait adds to a status what to do about what its application waits for, where
// nothing else is to be done.
func hintWait(s *belay.ApplicationStatus, t *target) {
	says := func(why *string) bool { return why != nil && *why != "" && strings.Contains(s.Message, *why) }
	switch {
	case s.Hint != "":
	case s.Suspended != "":
		s.Hint = suspendedHint
	case says(t.outside):
		s.Hint = windowHint(s.Name)
	case says(t.unready):
		s.Hint = fmt.Sprintf("it goes on by itself; belay get app %s shows what that one lacks", t.lacks)
	}
}
