package ledgertest

import (
	"time"

	"github.com/belaydev/belay"
)

// Shop tells the story of two applications over nine days, for documents and for
// tests of what people read. On Tuesday the 24th Grace doubled the replicas of
// shop, which Ada approved, and mail went out with it.
func (l *Ledger) Shop() {
	l.t.Helper()
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 11, day, hour, minute, 11, 0, time.UTC) }
	ada, grace, edsger := People[0], People[1], People[2]
	web := func(image string, n int) belay.Manifest { return Workload("shop", "web", image, n) }
	commit := func(n int, author, subject string, at time.Time, approver string) belay.Commit {
		c := belay.Commit{ID: Hash(n), Author: author, Time: at.Add(-20 * time.Minute), Subject: subject}
		if approver != "" {
			c.Approvers, c.Reviewers = []string{approver}, []string{approver}
		}
		return c
	}
	shop := func(n int, who, subject, approver string, at time.Time, result belay.Result, m ...belay.Manifest) Deploy {
		d := Deploy{Application: "shop", Cluster: "production", Project: "web", Actor: who, Message: "1 updated", Change: Hash(n), Revision: Hash(n),
			Started: at, Took: 3200 * time.Millisecond, Result: result, Commits: []belay.Commit{commit(n, who, subject, at, approver)}, Manifests: m}
		if n > 1 {
			d.Previous = Hash(n - 1)
		}
		return d
	}
	l.Append(belay.Event{Time: at(16, 8, 59), Type: belay.EventStarted, Message: "the server started, v0.3.0"})
	l.Deploy(shop(1, ada, "Open the shop", "", at(16, 9, 0), belay.Succeeded, web("shop:1.0", 2)))
	l.Deploy(shop(2, edsger, "Release 1.1", grace, at(18, 14, 30), belay.Succeeded, web("shop:1.1", 2)))
	drift := belay.Event{Time: at(20, 22, 5), Type: belay.EventDrift, Application: "shop", Cluster: "production", Project: "web", Object: "Deployment.apps shop/web",
		Actor: "kubectl-edit", Message: "changed: spec.replicas by kubectl-edit (Update)",
		Detail: &belay.Detail{Drift: &belay.Drift{Taken: []string{"spec.replicas"}, Manager: "kubectl-edit", Operation: "Update", Time: at(20, 22, 4)}}}
	healed := drift
	healed.Time, healed.Type, healed.Actor, healed.Message = at(20, 22, 6), belay.EventHealed, "", "set back to what Git declares"
	l.Append(drift, healed)
	l.Append(belay.Event{Time: at(24, 13, 40), Type: belay.EventRevision, Repo: "https://git.example.org/fleet.git", Ref: "main", Revision: Hash(3), Actor: grace,
		Message: "main is at " + Hash(3)[:7] + ": Double the replicas of everything for the sale"})
	sale := shop(3, grace, "Double the replicas of everything for the sale", ada, at(24, 13, 41), belay.Succeeded, web("shop:1.1", 4))
	l.Deploy(sale)
	sale.Application, sale.Project, sale.Previous, sale.Manifests = "mail", "office", Hash(1), []belay.Manifest{Workload("mail", "sender", "mail:7", 2)}
	l.Deploy(sale)
	l.Deploy(shop(4, edsger, "Release 1.2", ada, at(25, 9, 12), belay.Failed, web("shop:1.2", 4)))
	l.Append(belay.Event{Time: at(25, 9, 20), Type: belay.EventDenied, Application: "shop", Project: "web", Actor: "mallory", Message: "sync was denied: mallory may not sync shop"})
}
