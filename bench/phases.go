package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
)

func (b *bench) rawRollout(ctx context.Context) error {
	b.say("  the raw loop: %d objects", b.rawSize()*len(resources))
	var writes []write
	for i := range b.rawSize() {
		writes = append(writes, writesOf(b.fleet.namespace(fleetRaw, i), "0", "0", len(resources))...)
	}
	b.self.take()
	b.plane.take()
	before, seen := b.read(nil), b.rawSeen.all(len(writes))
	began := time.Now()
	if err := b.raw.run(ctx, writes); err != nil {
		return err
	}
	at, err := b.rawSeen.wait(ctx, seen, "the objects of the raw loop")
	if err != nil {
		return err
	}
	used := b.read(nil).minus(before)
	b.res.raw("rollout.wall", b.scale(at.Sub(began).Seconds()))
	b.res.raw("rollout.requests", b.scale(float64(len(writes))))
	b.res.raw("rollout.patches", b.scale(float64(len(writes))))
	b.rawCPU("rollout", used, b.scale(1))
	b.rawMemory("rollout")
	return b.settle(ctx)
}

// rollout starts Belay with nothing in its data directory.
func (b *bench) rollout(ctx context.Context) (*server, error) {
	mark, err := b.audit.mark()
	if err != nil {
		return nil, err
	}
	b.plane.take()
	before, seen := b.read(nil), b.belaySeen.all(b.apps*len(resources))
	began := time.Now()
	s, err := b.serve(ctx)
	if err != nil {
		return nil, err
	}
	b.res.belay("rollout.serving", time.Since(began).Seconds())
	build, err := s.Version(ctx)
	if err != nil {
		return s, fmt.Errorf("ask for the version: %w", err)
	}
	b.res.Belay = strings.TrimSpace("belay " + build.Version + " " + build.Commit[:min(10, len(build.Commit))])
	at, err := b.belaySeen.wait(ctx, seen, "the objects of Belay")
	if err != nil {
		return s, err
	}
	b.res.belay("rollout.wall", at.Sub(began).Seconds())
	plane := b.read(nil).minus(before).plane // until the objects are there, as for the raw loop
	synced, err := s.awaitSynced(ctx, b.apps)
	if err != nil {
		return s, err
	}
	b.res.belay("rollout.synced", synced.Sub(began).Seconds())
	used := b.read(s)
	used.plane = plane
	b.ownCPU("rollout", used, 1)
	b.memory(s, "rollout")
	requests, err := b.requests(mark)
	if err != nil {
		return s, err
	}
	c, err := s.counters(ctx)
	if err != nil {
		return s, err
	}
	b.res.Requests["rollout"] = tally(requests)
	b.res.belay("rollout.requests", float64(len(requests)))
	b.res.belay("rollout.patches", float64(count(requests, request.patches)))
	b.res.belay("rollout.renders", c.renders)
	return s, b.settle(ctx)
}

// one commits to one application at a time, each time beside the same write by
// the raw loop.
func (b *bench) one(ctx context.Context, s *server) error {
	account, err := b.open(ctx, s)
	if err != nil {
		return err
	}
	copies, err := b.copies(ctx)
	if err != nil {
		return err
	}
	var raw, own, fetched []float64
	var rawUsed, ownUsed reading
	start := b.read(s)
	for n := range b.commits {
		i := n * max(1, b.apps/b.commits) % b.apps // spread over the fleet
		b.fleet.values[i] = fmt.Sprint("one-", n)
		d, err := b.rawOne(ctx, i)
		if err != nil {
			return err
		}
		raw = append(raw, d)
		wrote := b.read(s)
		rawUsed = rawUsed.plus(wrote.minus(start))
		if d, err = b.push(ctx, s, "Change "+b.fleet.name(i), map[int]map[string]string{b.fleet.repositoryOf(i): b.fleet.own(i)},
			b.belaySeen.value(b.fleet.namespace(fleetBelay, i), b.fleet.values[i])); err != nil {
			return err
		}
		own = append(own, d)
		ownUsed = ownUsed.plus(b.read(s).minus(wrote))
		began, r := time.Now(), b.fleet.repositoryOf(i)
		if err := copies[r].follow(ctx, b.repos[r]); err != nil {
			return err
		}
		fetched = append(fetched, time.Since(began).Seconds())
		start = b.read(s)
	}
	if err := b.quiet(ctx, s); err != nil {
		return err
	}
	// What it does after the object has changed is its work too, also while the raw
	// loop writes.
	ownUsed.belay = b.read(s).belay.minus(account.used.belay)
	b.res.raw("one.p50", 1000*quantile(raw, .5))
	b.res.raw("one.p99", 1000*quantile(raw, .99))
	b.res.belay("one.p50", 1000*quantile(own, .5))
	b.res.raw("one.p50.fetch", 1000*quantile(fetched, .5))
	b.res.belay("one.p99", 1000*quantile(own, .99))
	unit := 1000 / float64(b.commits)
	b.rawCPU("one", rawUsed, unit)
	b.ownCPU("one", ownUsed, unit)
	b.memory(s, "one")
	b.res.raw("one.requests", 1)
	b.res.raw("one.patches", 1)
	return b.close(ctx, s, account, "one", b.commits)
}

// copies are repositories that follow those of the applications with Git alone.
func (b *bench) copies(ctx context.Context) ([]*repository, error) {
	out := make([]*repository, len(b.repos))
	for r, repo := range b.repos {
		var err error
		if out[r], err = makeRepository(ctx, repo.dir+".copy"); err != nil {
			return nil, err
		}
		if err := out[r].follow(ctx, repo); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// account is how things stood when a phase began.
type account struct {
	mark     int64
	counters counters
	used     reading
	probed   map[string]float64
}

// open begins an account when Belay is quiet.
func (b *bench) open(ctx context.Context, s *server) (a account, err error) {
	if err = b.quiet(ctx, s); err != nil {
		return a, err
	}
	s.sampler.take()
	if a.mark, err = b.audit.mark(); err != nil {
		return a, err
	}
	if a.counters, err = s.counters(ctx); err != nil {
		return a, err
	}
	if b.probe != nil {
		if a.probed, err = b.probe(s); err != nil {
			return a, err
		}
	}
	a.used = b.read(s)
	return a, nil
}

// close notes requests, renders and records of each of n commits.
func (b *bench) close(ctx context.Context, s *server, a account, phase string, n int) error {
	if b.probe != nil {
		now, err := b.probe(s)
		if err != nil {
			return err
		}
		for key, v := range now {
			b.probed[phase+"."+key] = (v - a.probed[key]) / float64(n)
		}
	}
	requests, err := b.requests(a.mark)
	if err != nil {
		return err
	}
	now, err := s.counters(ctx)
	if err != nil {
		return err
	}
	c := now.minus(a.counters)
	b.res.Requests[phase] = tally(requests)
	b.res.belay(phase+".requests", float64(count(requests, request.asks))/float64(n))
	b.res.belay(phase+".patches", float64(count(requests, request.patches))/float64(n))
	b.res.belay(phase+".renders", c.renders/float64(n))
	b.res.belay(phase+".records", c.records/float64(n))
	return nil
}

// rawOne is one write of the raw loop, until it is seen, in seconds. Of a fleet
// that is larger than the raw loop's, it is an application that stands for it.
func (b *bench) rawOne(ctx context.Context, i int) (float64, error) {
	ns := b.fleet.namespace(fleetRaw, i%b.rawSize())
	w := writesOf(ns, b.fleet.values[i], b.fleet.shared, 1)[0]
	seen := b.rawSeen.value(ns, b.fleet.values[i])
	began := time.Now()
	if err := b.raw.apply(ctx, w); err != nil {
		return 0, err
	}
	at, err := b.rawSeen.wait(ctx, seen, "a write of the raw loop")
	return at.Sub(began).Seconds(), err
}

// push commits to repositories, and returns the seconds from the hooks until the
// effect is seen. The clock starts when the branches have moved: how fast git
// makes a commit is nothing that Belay could do anything about.
func (b *bench) push(ctx context.Context, s *server, subject string, files map[int]map[string]string, seen *waiter) (float64, error) {
	var changed []int
	for r := range b.repos {
		if len(files[r]) > 0 {
			changed = append(changed, r)
		}
	}
	if err := inParallelBy(ctx, processors(), len(changed), func(ctx context.Context, k int) error {
		return b.repos[changed[k]].commit(ctx, subject, files[changed[k]])
	}); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := inParallel(ctx, len(changed), func(ctx context.Context, k int) error {
		_, err := s.Push(ctx, b.repos[changed[k]].url())
		return err
	}); err != nil {
		return 0, fmt.Errorf("send the push hook: %w", err)
	}
	at, err := b.belaySeen.wait(ctx, seen, "the effect of a commit")
	return at.Sub(began).Seconds(), err
}

// all commits to all applications, each time after the raw loop wrote as much
// and the libraries rendered as much.
func (b *bench) all(ctx context.Context, s *server) error {
	account, err := b.open(ctx, s)
	if err != nil {
		return err
	}
	var loop, pure, least, own []float64
	var rawUsed, pureUsed, ownUsed reading
	for n := range b.rounds {
		b.fleet.shared = fmt.Sprint("all-", n)
		wrote, used, err := b.rawAll(ctx)
		if err != nil {
			return err
		}
		rawUsed = rawUsed.plus(used)
		rendered, used, err := b.pureAll(ctx)
		if err != nil {
			return err
		}
		pureUsed = pureUsed.plus(used)
		loop, pure, least = append(loop, wrote), append(pure, rendered), append(least, wrote+rendered)
		if err := b.settle(ctx); err != nil {
			return err
		}
		before := b.read(s)
		files := map[int]map[string]string{}
		for r := range b.repos {
			files[r] = b.fleet.common(r)
		}
		d, err := b.push(ctx, s, "Change all", files, b.belaySeen.everywhere(b.fleet.shared, b.apps))
		if err != nil {
			return err
		}
		own = append(own, d)
		plane := b.read(s).minus(before).plane
		if err := b.quiet(ctx, s); err != nil {
			return err
		}
		used = b.read(s).minus(before)
		used.plane = plane
		ownUsed = ownUsed.plus(used)
	}
	b.res.raw("all.wall", quantile(least, .5))
	b.res.raw("all.wall.loop", quantile(loop, .5))
	b.res.raw("all.wall.render", quantile(pure, .5))
	b.res.belay("all.wall", quantile(own, .5))
	unit := 1 / float64(b.rounds)
	b.rawCPU("all", rawUsed, b.scale(unit))
	b.ownCPU("all", ownUsed, unit)
	b.res.raw("all.cpu.workers", pureUsed.bench*unit)
	b.res.raw("all.requests", float64(b.apps))
	b.res.raw("all.patches", float64(b.apps))
	b.memory(s, "all")
	return b.close(ctx, s, account, "all", b.rounds)
}

// rawAll has the raw loop write what a commit to all changes.
func (b *bench) rawAll(ctx context.Context) (seconds float64, used reading, err error) {
	var writes []write
	for i := range b.rawSize() {
		writes = append(writes, writesOf(b.fleet.namespace(fleetRaw, i), b.fleet.values[i], b.fleet.shared, 1)...)
	}
	seen, before := b.rawSeen.everywhere(b.fleet.shared, b.rawSize()), b.read(nil)
	began := time.Now()
	if err := b.raw.run(ctx, writes); err != nil {
		return 0, used, err
	}
	at, err := b.rawSeen.wait(ctx, seen, "the writes of the raw loop")
	return b.scale(at.Sub(began).Seconds()), b.read(nil).minus(before), err
}

// pureAll has the libraries render what a commit to all changes: everything. The
// first application is rendered before the time counts, as libraries read their
// schemas once.
func (b *bench) pureAll(ctx context.Context) (seconds float64, used reading, err error) {
	p, err := newPureRender(b.fleet)
	if err != nil {
		return 0, used, err
	}
	if err := p.run(ctx, min(b.apps, len(kinds))); err != nil {
		return 0, used, err
	}
	before := b.read(nil)
	began := time.Now()
	err = p.run(ctx, b.apps)
	return time.Since(began).Seconds(), b.read(nil).minus(before), err
}

// drift edits ConfigMaps by hand and waits for what Git says to be back. The
// clock starts before the edit is sent, so the edit itself is in it.
func (b *bench) drift(ctx context.Context, s *server) error {
	n := min(b.drifts, b.apps) // a second edit of the same object is healed later on purpose
	hand, err := metadata.NewForConfig(b.as("kubectl-edit"))
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	account, err := b.open(ctx, s)
	if err != nil {
		return err
	}
	var raw, own []float64
	for k := range n {
		i := k * max(1, b.apps/n)
		ns := b.fleet.namespace(fleetBelay, i)
		d, err := b.rawEdit(ctx, i, fmt.Sprint("raw-", k))
		if err != nil {
			return err
		}
		raw = append(raw, d)
		edited, body := b.belaySeen.value(ns, "by hand"), []byte(`{"data":{"value":"by hand"}}`)
		began := time.Now()
		if _, err := hand.Resource(schema.GroupVersionResource{Version: "v1", Resource: resources[0].plural}).Namespace(ns).
			Patch(ctx, "web", types.MergePatchType, body, metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
			return fmt.Errorf("edit by hand: %w", err)
		}
		if _, err := b.belaySeen.wait(ctx, edited, "an edit by hand"); err != nil {
			return err
		}
		at, err := b.belaySeen.wait(ctx, b.belaySeen.value(ns, b.fleet.values[i]), "an edit to be healed")
		if err != nil {
			return err
		}
		own = append(own, at.Sub(began).Seconds())
	}
	if err := b.quiet(ctx, s); err != nil {
		return err
	}
	used := b.read(s).minus(account.used)
	requests, err := b.requests(account.mark)
	if err != nil {
		return err
	}
	b.res.Requests["drift"] = tally(requests)
	// That something was healed is told as a Kubernetes Event afterwards; the heal
	// itself is what is compared with a write.
	heals := count(requests, func(r request) bool { return r.asks() && r.resource != "events" })
	b.res.raw("drift.p50", 1000*quantile(raw, .5))
	b.res.raw("drift.p99", 1000*quantile(raw, .99))
	b.res.belay("drift.p50", 1000*quantile(own, .5))
	b.res.belay("drift.p99", 1000*quantile(own, .99))
	b.res.belay("drift.cpu", 1000*used.belay.cpu()/float64(n))
	b.res.raw("drift.requests", 1)
	b.res.belay("drift.requests", float64(heals)/float64(n))
	return nil
}

// rawEdit is what an edit and its healing cost at least: two writes in a row.
func (b *bench) rawEdit(ctx context.Context, i int, value string) (float64, error) {
	began := time.Now()
	if err := b.raw.apply(ctx, writesOf(b.fleet.namespace(fleetRaw, i%b.rawSize()), value, b.fleet.shared, 1)[0]); err != nil {
		return 0, err
	}
	if _, err := b.rawOne(ctx, i); err != nil {
		return 0, err
	}
	return time.Since(began).Seconds(), nil
}

// atRest watches for a while. Memory is what is held at the end of it.
func (b *bench) atRest(ctx context.Context, s *server) error {
	if err := b.cleanedUp(ctx, s); err != nil {
		return err
	}
	account, err := b.open(ctx, s)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, b.rest); err != nil {
		return err
	}
	used, took := b.read(s).minus(account.used), time.Since(began).Seconds()
	requests, err := b.requests(account.mark)
	if err != nil {
		return err
	}
	b.res.Requests["rest"] = tally(requests)
	b.res.belay("rest.requests", float64(count(requests, request.asks)))
	b.res.belay("rest.cpu", 100*used.belay.cpu()/took)
	b.res.belay("rest.cpu.git", 100*used.belay.Others/took)
	b.memoryNow(s, "rest")
	return nil
}

// cleanedUp waits until what follows work is over as well, within two minutes: the
// ledger is signed and its packs combined, the index follows, memory is given back.
// What is done again and again is not over then, and counts as rest.
func (b *bench) cleanedUp(ctx context.Context, s *server) error {
	if b.rest < 10*time.Second {
		return nil // too short to be about more than requests
	}
	const interval, little = 15 * time.Second, 0.02
	for range 8 {
		before := b.read(s)
		if err := pause(ctx, interval); err != nil {
			return err
		}
		if b.read(s).minus(before).belay.cpu() < little*interval.Seconds() {
			return nil
		}
	}
	return nil
}

// atRestAgain looks at the memory of a server that did nothing but start.
func (b *bench) atRestAgain(ctx context.Context, s *server) error {
	if err := pause(ctx, b.rest); err != nil {
		return err
	}
	b.memoryNow(s, "restarted")
	return nil
}

// restart starts Belay again, with everything in sync and its caches kept.
func (b *bench) restart(ctx context.Context) (*server, error) {
	mark, err := b.audit.mark()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	s, err := b.serve(ctx)
	if err != nil {
		return nil, err
	}
	synced, err := s.awaitSynced(ctx, b.apps)
	if err != nil {
		return s, err
	}
	b.res.belay("restart.wall", synced.Sub(began).Seconds())
	u := s.sampler.usage()
	if err := b.quiet(ctx, s); err != nil {
		return s, err
	}
	requests, err := b.requests(mark)
	if err != nil {
		return s, err
	}
	c, err := s.counters(ctx)
	if err != nil {
		return s, err
	}
	b.res.Requests["restart"] = tally(requests)
	b.res.belay("restart.cpu", u.cpu())
	b.res.belay("restart.requests", float64(len(requests)))
	b.res.belay("restart.writes", float64(count(requests, request.writes)))
	b.res.belay("restart.renders", c.renders)
	b.res.belay("restart.cached", c.cached)
	b.memory(s, "restart")
	return s, nil
}
