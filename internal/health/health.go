// Package health tells how objects are by rules, and sums them up to the health
// of their application.
//
// It is pure: values in, values out. What it knows of kinds is data: rules from
// Git and those in builtin/. It must not know how objects are observed, nor what
// is done about their health.
package health

import (
	"fmt"

	"github.com/belaydev/belay"
)

// severity orders healths from good to bad: what a person should hear of first
// comes last. Suspended is somebody's wish and hides nothing that works. What is
// Unknown may be fine, what is Progressing is not yet, and what is Missing is
// not even there. Degraded has failed, and waiting does not mend it.
var severity = map[belay.Health]int{
	belay.Healthy:     0,
	belay.Suspended:   1,
	belay.Unknown:     2,
	belay.Progressing: 3,
	belay.Missing:     4,
	belay.Degraded:    5,
}

// Aggregate is the worst health among the objects, and a message that names the
// first object that has it, what it says, and how many others have it too. The
// order from worst to best is Degraded, Missing, Progressing, Unknown, Suspended,
// Healthy; anything else counts as Unknown. Without objects, nothing is wrong:
// Healthy. The message is empty for Healthy.
func Aggregate(objects []belay.ObjectStatus) (health belay.Health, message string) {
	worst, count := -1, 0
	for i := range objects {
		switch {
		case worst < 0 || severity[known(objects[i].Health)] > severity[known(objects[worst].Health)]:
			worst, count = i, 1
		case known(objects[i].Health) == known(objects[worst].Health):
			count++
		}
	}
	if worst < 0 {
		return belay.Healthy, ""
	}
	o := &objects[worst]
	health = known(o.Health)
	if health == belay.Healthy {
		return health, ""
	}
	message = o.String() + " is " + word(health)
	if o.Message != "" {
		message += ": " + o.Message
	}
	if count > 1 {
		message += fmt.Sprintf(" (and %d more)", count-1)
	}
	return health, message
}

func known(h belay.Health) belay.Health {
	if _, ok := severity[h]; ok {
		return h
	}
	return belay.Unknown
}

// word is how a health reads in a sentence.
func word(h belay.Health) string {
	switch h {
	case belay.Progressing:
		return "progressing"
	case belay.Degraded:
		return "degraded"
	case belay.Suspended:
		return "suspended"
	case belay.Missing:
		return "missing"
	}
	return "in unknown health"
}
