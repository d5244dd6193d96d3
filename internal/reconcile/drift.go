package reconcile

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// tellDrift reports each drift once, with who did it. It is on the record before
// anything is set back: the last of them is waited for, and none overtakes another.
func (e *Engine) tellDrift(ctx context.Context, t *target, p *belay.Plan) error {
	a := t.app
	var last *belay.Event
	var lastID belay.ObjectID
	say := func() {
		e.Logger.Info("drift", "application", a.name, "cluster", t.cluster, "object", last.Object, "manager", last.Actor, "what", last.Message)
	}
	for i := range p.Actions {
		act := &p.Actions[i]
		var msg, mark, actor string
		switch {
		case act.Verb == belay.VerbCreate && a.syncedIDs[act.ID] != "":
			msg, mark = "deleted by hand, or its label "+belay.LabelManaged+" removed", "deleted"
		case a.undone(act):
			msg, mark = "changed by hand: Belay's own annotations", act.Live.Fingerprint
		case act.Drift != nil: // of a heal, or of what Git changed too and may not be written yet
			msg, mark, actor = driftMessage(act.Drift), act.Live.Fingerprint, act.Drift.Manager
		default:
			continue
		}
		if a.drifted[act.ID] == mark {
			continue
		}
		a.drifted[act.ID] = mark
		if last != nil {
			e.publish(*last)
			say()
		}
		last, lastID = &belay.Event{Type: belay.EventDrift, Application: a.name, Cluster: t.cluster, Object: act.ID.String(), Repo: t.rev.Repo,
			Revision: t.rev.Commit, Actor: actor, Message: msg}, act.ID
		if act.Drift != nil {
			last.Detail = &belay.Detail{Drift: act.Drift}
		}
	}
	if last == nil {
		return nil
	}
	if _, err := e.record(ctx, *last); err != nil {
		delete(a.drifted, lastID) // told again, and by the log only then
		return err
	}
	say()
	return nil
}

func driftMessage(d *belay.Drift) string {
	msg := ""
	if len(d.Taken) > 0 {
		msg = "changed: " + some(d.Taken)
	}
	if len(d.Added) > 0 {
		if msg != "" {
			msg += "; "
		}
		msg += "added: " + some(d.Added)
	}
	if d.Manager == "" {
		return msg + " (removed; Kubernetes does not record by whom)"
	}
	op := d.Operation
	if d.Subresource != "" {
		op += " of " + d.Subresource
	}
	if !d.Time.IsZero() { // Kubernetes keeps none for some subresources
		op += " at " + d.Time.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("%s by %s (%s)", msg, d.Manager, op)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func some(items []string) string {
	const most = 5
	if len(items) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), len(items)-most)
	}
	return strings.Join(items, ", ")
}
