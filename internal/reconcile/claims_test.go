package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

// TestClaimsFollowDeclarations compares the registry with the plain definition:
// an application claims what it declares now, and nothing else.
func TestClaimsFollowDeclarations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClaims()
		model := map[string][]declared{}
		apps := []string{"a", "b", "c"}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			name := rapid.SampledFrom(apps).Draw(t, "app")
			var now []declared
			for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 5), 0, 6, rapid.ID).Draw(t, "objects") {
				now = append(now, declared{id: belay.ObjectID{Kind: "ConfigMap", Namespace: fmt.Sprint("n", n/3), Name: fmt.Sprint(n)},
					origin: belay.Origin{File: name, Line: n}})
			}
			told := c.replace(name, model[name], now)
			before := model[name]
			model[name] = now
			for _, other := range apps {
				if other == name {
					continue
				}
				// Whoever shares an object that was taken up or let go has to hear of it.
				if shared := sharesChanged(before, now, model[other]); shared && !told[other] {
					t.Fatalf("%s was not told of a change by %s", other, name)
				}
			}
			checkClaims(t, c, model)
		}
	})
}

func sharesChanged(before, now, other []declared) bool {
	has := func(l []declared, id belay.ObjectID) bool {
		return slices.ContainsFunc(l, func(d declared) bool { return d.id == id })
	}
	for _, d := range other {
		if has(before, d.id) != has(now, d.id) {
			return true
		}
	}
	return false
}

func checkClaims(t *rapid.T, c *claims, model map[string][]declared) {
	who := map[belay.ObjectID][]string{}
	for _, app := range slices.Sorted(maps.Keys(model)) {
		for _, d := range model[app] {
			who[d.id] = append(who[d.id], app)
		}
	}
	if len(c.by) != len(who) {
		t.Fatalf("%d objects claimed, %d declared", len(c.by), len(who))
	}
	for _, ns := range []string{"n0", "n1"} {
		for _, but := range []string{"a", "b", "c"} {
			o, app, ok := c.within(belay.ObjectID{Kind: "Namespace", Name: ns}, func(app string) bool { return app != but })
			want := ""
			for _, other := range slices.Sorted(maps.Keys(model)) {
				if other != but && want == "" && slices.ContainsFunc(model[other], func(d declared) bool { return d.id.Namespace == ns }) {
					want = other
				}
			}
			if ok != (want != "") || app != want || ok && (o.Namespace != ns || !slices.Contains(who[o], app)) {
				t.Fatalf("in %s, but of %s, is %s of %q; want one of %q", ns, but, o, app, want)
			}
		}
	}
	for id, apps := range who {
		winner, at, contested := c.claimant(id, "")
		if contested != (len(apps) > 1) {
			t.Fatalf("%s declared by %v: contested %v", id, apps, contested)
		}
		if contested && (winner != apps[0] || at.File != winner) {
			t.Fatalf("%s belongs to %s (%s), want %s", id, winner, at.File, apps[0])
		}
		for _, owner := range apps {
			if winner, _, ok := c.claimant(id, owner); ok && winner != owner {
				t.Fatalf("%s is %s's in the cluster, but goes to %s", id, owner, winner)
			}
			if c.claimed(id, owner) != (len(apps) > 1) {
				t.Fatalf("claimed(%s, but %s) is wrong for %v", id, owner, apps)
			}
		}
	}
}

func TestHotStaysWithinItsBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHot(4096)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			name := fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "name"))
			size := rapid.IntRange(0, 2000).Draw(t, "size")
			h.put(name, "d"+name, []belay.Object{{Raw: make([]byte, size)}})
			if _, ok := h.get(name, "d"+name); !ok {
				t.Fatal("what was put last is gone")
			}
			if _, ok := h.get(name, "other"); ok {
				t.Fatal("found under another digest")
			}
			total := 0
			for el := h.order.Front(); el != nil; el = el.Next() {
				total += el.Value.(*hotEntry).size
			}
			if total != h.size || (h.size > h.limit && h.order.Len() > 1) || h.order.Len() != len(h.byName) {
				t.Fatalf("size %d, counted %d, entries %d", h.size, total, h.order.Len())
			}
		}
	})
}
