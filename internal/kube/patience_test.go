package kube

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
)

// A fault that stays costs requests now and then, whatever it is; when it ends, the
// picture is right again before long.
func TestAFaultThatStaysCostsLittle(t *testing.T) {
	for _, what := range []string{"internal", "away", "busy", "forbidden", "gone", "refused", "reset", "timeout", "slow", "cut", "missing"} {
		for _, resource := range []string{"gadgets", ""} {
			if resource == "" && slices.Contains([]string{"away", "busy", "reset", "timeout", "missing"}, what) {
				continue // much like others, of which there are many then
			}
			for _, plain := range []bool{false, true}[:1+len(resource)/len("gadgets")] {
				t.Run(fmt.Sprintf("%s of %q, plain lists %t", what, resource, plain), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						p := newPicture(t, 1)
						p.server.plainLists = plain
						defer p.run()()
						p.wait(time.Minute)
						p.Observe([]belay.VersionKind{{APIVersion: "v1", Kind: "ConfigMap"}, {APIVersion: "example.org/v1", Kind: "Gadget"}})
						k := p.server.kind("gadgets")
						for _, name := range []string{"x", "y", "z"} {
							p.server.change(k, "a", name, func(*modelObject) *modelObject { return &modelObject{labelled: true, app: "shop", digest: "d"} })
						}
						p.wait(time.Minute)
						since := time.Now()
						p.server.fail(modelFault{what: what, resource: resource, watches: true, lists: true, others: true, until: since.Add(time.Hour), pause: 20 * time.Second})
						p.server.cut(resource, false)
						p.wait(time.Hour)
						sent := map[string]int{}
						for _, r := range p.server.requests(since) {
							sent[r.resource]++
						}
						for of, n := range sent {
							if most := map[bool]int{true: 300, false: 3000}[of == ""]; n > most {
								t.Errorf("%d requests of %q in an hour", n, of)
							}
						}
						p.server.change(k, "a", "x", func(o *modelObject) *modelObject { o.edits++; return o })
						p.wait(2 * time.Hour)
						p.same()
					})
				})
			}
		}
	}
}

// bubble runs a test beside a Cluster that is ready, in no time.
func bubble(t *testing.T, test func(p *picture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPicture(t, 1)
		p.server.plainLists = false
		defer p.run()()
		p.wait(time.Minute)
		if err := p.Ready(); err != nil {
			t.Fatal(err)
		}
		test(p)
	})
}

func managed(app string) func(*modelObject) *modelObject {
	return func(*modelObject) *modelObject { return &modelObject{labelled: true, app: app, digest: "d"} }
}

// A kind that cannot be listed for days, as when the webhook that converts it is
// gone, neither ends the sweeps nor puts off the look at all others.
func TestSweepsGoOnBesideAKindThatCannotBeListed(t *testing.T) {
	bubble(t, func(p *picture) {
		p.server.fail(modelFault{what: "internal", resource: "gadgets", lists: true, until: time.Now().Add(100 * time.Hour)})
		p.wait(50 * time.Hour)
		k := p.server.kind("configmaps")
		p.server.change(k, "a", "x", managed("shop")) // as by an earlier life, from a backup
		p.wait(2 * time.Hour)
		if _, ok := p.Lookup(k.objectID("a", "x")); !ok {
			p.errorf("what is there is not found")
		}
	})
}

// Kinds that come and go all the time do not put the look at all others off, either.
func TestSweepsGoOnBesideKindsThatComeAndGo(t *testing.T) {
	bubble(t, func(p *picture) {
		k, widgets := p.server.kind("configmaps"), p.server.kind("widgets")
		p.server.change(k, "a", "x", managed("shop"))
		for range 6 {
			p.server.define(widgets, !widgets.served, 0)
			p.wait(20 * time.Minute)
		}
		if _, ok := p.Lookup(k.objectID("a", "x")); !ok {
			p.errorf("what is there is not found")
		}
	})
}

// A kind that is unknown at first and then cannot be listed is given up like any other.
func TestAKindThatCannotBeListedHoldsNothingUp(t *testing.T) {
	bubble(t, func(p *picture) {
		for _, f := range []modelFault{{what: "missing", until: time.Now().Add(32 * time.Second)}, {what: "internal", until: time.Now().Add(time.Hour)}} {
			f.resource, f.watches, f.lists = "gadgets", true, true
			p.server.fail(f)
		}
		wanted := []belay.VersionKind{{APIVersion: "example.org/v1", Kind: "Gadget"}}
		p.Observe(wanted)
		p.wait(5 * time.Minute)
		if !p.Observe(wanted) {
			p.errorf("it is waited for still")
		}
	})
}

// Another watch that has had no answer yet is no sign that the server answers again.
func TestANewWatchIsNoAnswer(t *testing.T) {
	bubble(t, func(p *picture) {
		p.Observe([]belay.VersionKind{{APIVersion: "v1", Kind: "ConfigMap"}})
		p.wait(time.Minute)
		p.server.fail(modelFault{what: "timeout", watches: true, lists: true, others: true, until: time.Now().Add(time.Hour), pause: 25 * time.Second})
		p.server.cut("", true)
		p.wait(5 * time.Minute)
		p.Observe([]belay.VersionKind{{APIVersion: "example.org/v1", Kind: "Gadget"}})
		for range 100 {
			if p.Ready() == nil {
				p.errorf("it is ready, and does not answer")
				return
			}
			p.wait(time.Second)
		}
	})
}

// What is served now is found out however long discovery is down.
func TestDiscoveryIsReadUntilThatSucceeds(t *testing.T) {
	bubble(t, func(p *picture) {
		p.Observe([]belay.VersionKind{{APIVersion: "new.example.org/v1", Kind: "Widget"}})
		p.server.fail(modelFault{what: "internal", others: true, until: time.Now().Add(20 * time.Minute)})
		k := p.server.kind("widgets")
		p.server.define(k, true, 0)
		p.server.change(k, "a", "x", managed("shop"))
		p.wait(25 * time.Minute)
		if _, ok := p.Lookup(k.objectID("a", "x")); !ok {
			p.errorf("the kind is not found")
		}
		p.same()
	})
}

// An API server that has just started does not name what is defined in the cluster.
// That is no sign that all of it was deleted.
func TestWhatDiscoveryDoesNotNameYetIsThere(t *testing.T) {
	bubble(t, func(p *picture) {
		k := p.server.kind("widgets")
		p.server.define(k, true, 0)
		p.server.change(k, "a", "x", managed("shop"))
		p.Observe([]belay.VersionKind{{APIVersion: "new.example.org/v1", Kind: "Widget"}})
		p.wait(10 * time.Minute)
		before := p.Facts()
		if _, ok := p.Lookup(k.objectID("a", "x")); !ok {
			p.errorf("it is not known")
		}
		p.server.fail(modelFault{what: "refused", watches: true, lists: true, others: true, until: time.Now().Add(time.Minute)})
		p.server.cut("", true)
		p.server.show(k, false)
		p.wait(65 * time.Second)
		for range 30 {
			p.wait(time.Second)
			if got := p.Facts(); got.Digest != before.Digest {
				p.errorf("it is said to serve something else: %v", got.APIVersions)
				return
			}
		}
		p.server.show(k, true)
		p.wait(time.Hour)
		p.same()
		p.server.define(k, false, 0)
		p.wait(time.Hour)
		p.same()
		if got := p.Facts(); got.Digest == before.Digest {
			p.errorf("what is no longer defined is kept")
		}
	})
}

// The answer to a write that comes when the kind has vanished, or the object was
// deleted, is no object.
func TestAnAnswerThatComesTooLate(t *testing.T) {
	for _, vanish := range []bool{true, false} {
		bubble(t, func(p *picture) {
			k := p.server.kind("widgets")
			p.server.define(k, true, 0)
			p.Observe([]belay.VersionKind{{APIVersion: "new.example.org/v1", Kind: "Widget"}})
			p.wait(10 * time.Minute)
			p.server.fail(modelFault{what: "late", resource: "widgets", others: true, until: time.Now().Add(time.Second), pause: 20 * time.Second})
			id := k.objectID("a", "x")
			project := belay.OpenProject()
			permit, err := project.Permit(&belay.Application{Name: "shop"}, "test", id, true)
			if err != nil {
				p.t.Fatal(err)
			}
			p.writes.Go(func() {
				if _, err := p.Apply(p.t.Context(), permit, belay.Action{Verb: belay.VerbCreate, ID: id, Desired: desired(p.t, k, "shop", "d", id)}); err != nil {
					p.errorf("apply: %v", err)
				}
				p.look("shop")
			})
			p.wait(2 * time.Second)
			if vanish {
				p.server.freeze("widgets", time.Hour) // no watch tells of it
				p.server.define(k, false, 0)
			} else {
				p.server.change(k, "a", "x", func(*modelObject) *modelObject { return nil })
			}
			p.writes.Wait()
			p.wait(time.Minute)
			p.same()
		})
	}
}
