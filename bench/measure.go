package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// benchConfig is what a run is made with.
type benchConfig struct {
	options
	kubeconfig, auditLog string
	// controlPlane is its process, 0 if it cannot be looked at.
	controlPlane int
	// prefix of all namespaces; instance of Belay, "" on a control plane of its own.
	prefix, instance string
	// pprof is where Belay serves profiles; nowhere if it is "".
	pprof string
	// logLevel of Belay, "" for the default.
	logLevel string
	// shared counts requests in these namespaces alone: others use the control plane too.
	shared bool
	// calm is for how long Belay asks for nothing before something is measured.
	calm time.Duration
	say  func(format string, a ...any)
}

// bench is one run.
type bench struct {
	benchConfig
	audit audit
	cfg   *rest.Config
	raw   *rawLoop
	fleet *fleet
	repo  *repository
	res   *result
	// rawSeen and belaySeen are the two fleets as the API server tells of them.
	rawSeen, belaySeen *observer
}

func newBench(ctx context.Context, c benchConfig) (*bench, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	cfg.QPS, cfg.WarningHandler = -1, rest.NoWarnings{}
	b := &bench{benchConfig: c, audit: audit{c.auditLog}, cfg: cfg, fleet: newFleet(c.apps, c.kind, c.prefix), res: newResult(c.options)}
	if b.raw, err = newRawLoop(b.as("bench-raw")); err != nil {
		return nil, err
	}
	if b.repo, err = makeRepository(ctx, filepath.Join(c.dir, "fleet.git")); err != nil {
		return nil, err
	}
	return b, b.repo.commit(ctx, "The fleet", b.fleet.files())
}

// as is the configuration under a name in the audit log.
func (b *bench) as(agent string) *rest.Config {
	cfg := rest.CopyConfig(b.cfg)
	cfg.UserAgent = agent
	return cfg
}

// requests of Belay since a mark.
func (b *bench) requests(mark int64) ([]request, error) {
	return b.audit.since(mark, func(r request) bool {
		return strings.HasPrefix(r.agent, "belay") && (!b.shared || ofPrefix(r.namespace, b.prefix))
	})
}

func (b *bench) run(ctx context.Context) (*result, error) {
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	defer b.rawSeen.end()
	defer b.belaySeen.end()
	if err := b.rawRollout(ctx); err != nil {
		return nil, fmt.Errorf("the raw loop: %w", err)
	}
	if err := b.life(ctx); err != nil {
		return nil, fmt.Errorf("%w\nthe end of Belay's log:\n%s", err, tail(filepath.Join(b.dir, "belay.log")))
	}
	return b.res, nil
}

// life is that of Belay, from the first rollout to a restart.
func (b *bench) life(ctx context.Context) error {
	for _, start := range []struct {
		name   string
		begin  func(context.Context) (*server, error)
		phases []phase
	}{
		{"the first rollout", b.rollout, []phase{
			{"commits to one application", b.one}, {"commits to all applications", b.all}, {"edits by hand", b.drift}, {"rest", b.atRest}}},
		{"a restart", b.restart, nil},
	} {
		b.say("%s", start.name)
		s, err := start.begin(ctx)
		for _, p := range start.phases {
			if err == nil {
				b.say("%s", p.name)
				err = p.run(ctx, s)
			}
		}
		if s != nil {
			err = errors.Join(err, s.stop())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", start.name, err)
		}
	}
	return nil
}

// phase is a measurement of a server that runs.
type phase struct {
	name string
	run  func(context.Context, *server) error
}

func (b *bench) settle(ctx context.Context) error { return settle(ctx, b.controlPlane) }

// prepare makes the namespaces and warms the control plane up: the first apply
// of a kind makes it read schemas, which whoever came first would pay for.
func (b *bench) prepare(ctx context.Context) (err error) {
	b.say("making %d namespaces", 2*b.apps)
	warm := b.prefix + "-warm"
	names := []string{warm}
	for i := range b.apps {
		names = append(names, b.fleet.namespace(fleetBelay, i), b.fleet.namespace(fleetRaw, i))
	}
	own := b.as("bench")
	if err := makeNamespaces(ctx, own, names); err != nil {
		return err
	}
	for _, value := range []string{"0", "1"} {
		if err := b.raw.run(ctx, writesOf(warm, value, value, len(resources))); err != nil {
			return err
		}
	}
	if err := b.raw.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Delete(ctx, warm, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete namespace %s: %w", warm, err)
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	if b.rawSeen, err = observe(ctx, own, fleetRaw, b.prefix+"-"+fleetRaw); err != nil {
		return err
	}
	if b.belaySeen, err = observe(ctx, own, fleetBelay, b.prefix+"-"+fleetBelay); err != nil {
		b.rawSeen.end()
	}
	return err
}

func (b *bench) rawRollout(ctx context.Context) error {
	b.say("the raw loop: %d objects", b.apps*len(resources))
	var writes []write
	for i := range b.apps {
		writes = append(writes, writesOf(b.fleet.namespace(fleetRaw, i), "0", "0", len(resources))...)
	}
	before, seen := readUsage(b.controlPlane), b.rawSeen.all(len(writes))
	began := time.Now()
	if err := b.raw.run(ctx, writes); err != nil {
		return err
	}
	at, err := b.rawSeen.wait(ctx, seen, "the objects of the raw loop")
	if err != nil {
		return err
	}
	b.res.raw("rollout.wall", at.Sub(began).Seconds())
	b.res.raw("rollout.requests", float64(len(writes)))
	b.res.raw("rollout.patches", float64(len(writes)))
	b.res.raw("rollout.cpu.controlplane", readUsage(b.controlPlane).minus(before).cpu())
	return b.settle(ctx)
}

// rollout starts Belay with nothing in its data directory.
func (b *bench) rollout(ctx context.Context) (*server, error) {
	mark, err := b.audit.mark()
	if err != nil {
		return nil, err
	}
	before, seen := readUsage(b.controlPlane), b.belaySeen.all(b.apps*len(resources))
	began := time.Now()
	s, err := b.serve(ctx)
	if err != nil {
		return nil, err
	}
	b.res.belay("rollout.serving", time.Since(began).Seconds())
	at, err := b.belaySeen.wait(ctx, seen, "the objects of Belay")
	if err != nil {
		return s, err
	}
	b.res.belay("rollout.wall", at.Sub(began).Seconds())
	b.res.belay("rollout.cpu.controlplane", readUsage(b.controlPlane).minus(before).cpu())
	synced, err := s.awaitSynced(ctx, b.apps)
	if err != nil {
		return s, err
	}
	b.res.belay("rollout.synced", synced.Sub(began).Seconds())
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
	b.res.belay("rollout.patches", float64(count(requests, func(r request) bool { return r.verb == "patch" })))
	b.res.belay("rollout.renders", c.renders)
	u := s.sampler.usage()
	b.cpu("rollout", u, 1)
	b.memory(s, "rollout")
	return s, b.settle(ctx)
}

// cpu notes what was used, in the unit of the figure.
func (b *bench) cpu(phase string, u usage, unit float64) {
	b.res.belay(phase+".cpu", u.cpu()*unit)
	b.res.belay(phase+".cpu.process", u.Process*unit)
	b.res.belay(phase+".cpu.workers", u.Workers*unit)
	b.res.belay(phase+".cpu.others", u.Others*unit)
}

// memory notes the peaks since it was called last.
func (b *bench) memory(s *server, phase string) {
	all, own := s.sampler.take()
	b.res.belay("memory."+phase, megabytes(all))
	b.res.belay("memory."+phase+".process", megabytes(own))
}

func megabytes(n int64) float64 { return float64(n) / (1 << 20) }

// quiet waits until Belay asks the cluster for nothing, and what it last did is counted.
func (b *bench) quiet(ctx context.Context, s *server) error {
	if _, err := s.awaitSynced(ctx, b.apps); err != nil {
		return err
	}
	for range 20 {
		mark, err := b.audit.mark()
		if err != nil {
			return err
		}
		if err := pause(ctx, b.calm); err != nil {
			return err
		}
		if r, err := b.requests(mark); err != nil || len(r) == 0 {
			return err
		}
	}
	return nil // what it goes on asking is counted
}

// one commits to one application at a time, each time beside the same write by
// the raw loop.
func (b *bench) one(ctx context.Context, s *server) error {
	if err := b.quiet(ctx, s); err != nil {
		return err
	}
	mark, err := b.audit.mark()
	if err != nil {
		return err
	}
	before, err := s.counters(ctx)
	if err != nil {
		return err
	}
	used := s.sampler.usage()
	var raw, own []float64
	for n := range b.commits {
		i := n * max(1, b.apps/b.commits) % b.apps // spread over the fleet
		b.fleet.values[i] = fmt.Sprint("one-", n)
		d, err := b.rawOne(ctx, i)
		if err != nil {
			return err
		}
		raw = append(raw, d)
		if d, err = b.push(ctx, s, fmt.Sprint("Change ", b.fleet.name(i)), b.fleet.own(i),
			b.belaySeen.value(b.fleet.namespace(fleetBelay, i), b.fleet.values[i])); err != nil {
			return err
		}
		own = append(own, d)
	}
	u := s.sampler.usage().minus(used)
	if err := b.quiet(ctx, s); err != nil {
		return err
	}
	b.res.raw("one.p50", 1000*quantile(raw, .5))
	b.res.raw("one.p99", 1000*quantile(raw, .99))
	b.res.belay("one.p50", 1000*quantile(own, .5))
	b.res.belay("one.p99", 1000*quantile(own, .99))
	b.cpu("one", u, 1000/float64(b.commits))
	b.memory(s, "one")
	b.res.raw("one.requests", 1)
	return b.perCommit(ctx, s, "one", b.commits, mark, before)
}

// perCommit notes requests and renders of each of n commits.
func (b *bench) perCommit(ctx context.Context, s *server, phase string, n int, mark int64, before counters) error {
	requests, err := b.requests(mark)
	if err != nil {
		return err
	}
	now, err := s.counters(ctx)
	if err != nil {
		return err
	}
	b.res.Requests[phase] = tally(requests)
	b.res.belay(phase+".requests", float64(len(requests))/float64(n))
	b.res.belay(phase+".renders", now.minus(before).renders/float64(n))
	return nil
}

// rawOne is one write of the raw loop, until it is seen, in seconds.
func (b *bench) rawOne(ctx context.Context, i int) (float64, error) {
	ns := b.fleet.namespace(fleetRaw, i)
	w := writesOf(ns, b.fleet.values[i], b.fleet.shared, 1)[0]
	seen := b.rawSeen.value(ns, b.fleet.values[i])
	began := time.Now()
	if err := b.raw.apply(ctx, w); err != nil {
		return 0, err
	}
	at, err := b.rawSeen.wait(ctx, seen, "a write of the raw loop")
	return at.Sub(began).Seconds(), err
}

// push commits, and returns the seconds from the hook until its effect is seen.
// The clock starts when the branch has moved: how fast git makes a commit is
// nothing that Belay could do anything about.
func (b *bench) push(ctx context.Context, s *server, subject string, files map[string]string, seen *waiter) (float64, error) {
	if err := b.repo.commit(ctx, subject, files); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := s.Push(ctx, b.repo.url()); err != nil {
		return 0, fmt.Errorf("send the push hook: %w", err)
	}
	at, err := b.belaySeen.wait(ctx, seen, "the effect of a commit")
	return at.Sub(began).Seconds(), err
}

// all commits to all applications, each time after the raw loop wrote as much.
func (b *bench) all(ctx context.Context, s *server) error {
	mark, err := b.audit.mark()
	if err != nil {
		return err
	}
	before, err := s.counters(ctx)
	if err != nil {
		return err
	}
	var raw, own []float64
	var cpu usage
	for n := range b.rounds {
		b.fleet.shared = fmt.Sprint("all-", n)
		var writes []write
		for i := range b.apps {
			writes = append(writes, writesOf(b.fleet.namespace(fleetRaw, i), b.fleet.values[i], b.fleet.shared, 1)...)
		}
		seen := b.rawSeen.everywhere(b.fleet.shared, b.apps)
		began := time.Now()
		if err := b.raw.run(ctx, writes); err != nil {
			return err
		}
		at, err := b.rawSeen.wait(ctx, seen, "the writes of the raw loop")
		if err != nil {
			return err
		}
		raw = append(raw, at.Sub(began).Seconds())
		used := s.sampler.usage()
		d, err := b.push(ctx, s, "Change all", b.fleet.common(), b.belaySeen.everywhere(b.fleet.shared, b.apps))
		if err != nil {
			return err
		}
		own = append(own, d)
		if err := b.quiet(ctx, s); err != nil {
			return err
		}
		cpu = cpu.plus(s.sampler.usage().minus(used))
	}
	b.res.raw("all.wall", quantile(raw, .5))
	b.res.belay("all.wall", quantile(own, .5))
	b.cpu("all", cpu, 1/float64(b.rounds))
	b.res.raw("all.requests", float64(b.apps))
	b.memory(s, "all")
	return b.perCommit(ctx, s, "all", b.rounds, mark, before)
}

// drift edits ConfigMaps by hand and waits for what Git says to be back. The
// clock starts before the edit is sent, so the edit itself is in it.
func (b *bench) drift(ctx context.Context, s *server) error {
	n := min(b.drifts, b.apps) // a second edit of the same object is healed later on purpose
	hand, err := metadata.NewForConfig(b.as("kubectl-edit"))
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	mark, err := b.audit.mark()
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
	requests, err := b.requests(mark)
	if err != nil {
		return err
	}
	b.res.Requests["drift"] = tally(requests)
	// That something was healed is told as a Kubernetes Event afterwards; the heal
	// itself is what is compared with a write.
	heals := slices.DeleteFunc(slices.Clone(requests), func(r request) bool { return r.resource == "events" })
	b.res.raw("drift.p50", 1000*quantile(raw, .5))
	b.res.raw("drift.p99", 1000*quantile(raw, .99))
	b.res.belay("drift.p50", 1000*quantile(own, .5))
	b.res.belay("drift.p99", 1000*quantile(own, .99))
	b.res.raw("drift.requests", 1)
	b.res.belay("drift.requests", float64(len(heals))/float64(n))
	return nil
}

// rawEdit is what an edit and its healing cost at least: two writes in a row.
func (b *bench) rawEdit(ctx context.Context, i int, value string) (float64, error) {
	began := time.Now()
	if err := b.raw.apply(ctx, writesOf(b.fleet.namespace(fleetRaw, i), value, b.fleet.shared, 1)[0]); err != nil {
		return 0, err
	}
	if _, err := b.rawOne(ctx, i); err != nil {
		return 0, err
	}
	return time.Since(began).Seconds(), nil
}

func (b *bench) atRest(ctx context.Context, s *server) error {
	if err := b.quiet(ctx, s); err != nil {
		return err
	}
	s.sampler.take()
	mark, err := b.audit.mark()
	if err != nil {
		return err
	}
	before := s.sampler.usage()
	if err := pause(ctx, b.rest); err != nil {
		return err
	}
	used := s.sampler.usage().minus(before)
	requests, err := b.requests(mark)
	if err != nil {
		return err
	}
	b.res.Requests["rest"] = tally(requests)
	b.res.belay("rest.requests", float64(len(requests)))
	b.res.belay("rest.cpu", 100*used.cpu()/b.rest.Seconds())
	b.memory(s, "rest")
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

// quantile is the nearest rank: a value that was measured. Of fewer than a
// hundred, the 0.99 quantile is the worst.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
