package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
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
	// user is who Belay is to the API server; "" counts requests by user agent.
	user string
	// path is where Belay finds git; "" is the environment's PATH.
	path string
	// interval is the time between polls; 0 is the default.
	interval time.Duration
	// calm is for how long Belay asks for nothing before something is measured.
	calm time.Duration
	say  func(format string, a ...any)
	// probe reads counters beside those that every run has; nil for none.
	probe func(*server) (map[string]float64, error)
}

// bench is one run.
type bench struct {
	benchConfig
	audit audit
	cfg   *rest.Config
	raw   *rawLoop
	fleet *fleet
	// repo has the definitions; repos the applications, by number. In one
	// repository they are the same.
	repo  *repository
	repos []*repository
	res   *result
	// rawSeen and belaySeen are the two fleets as the API server tells of them.
	rawSeen, belaySeen *observer
	// plane and self look at the memory of the control plane and of this program.
	plane, self memoryPeak
	// probed is what the probe's counters grew by in a commit, by phase.
	probed map[string]float64
}

func newBench(ctx context.Context, c benchConfig) (*bench, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	cfg.QPS, cfg.WarningHandler, cfg.Impersonate = -1, rest.NoWarnings{}, rest.ImpersonationConfig{}
	b := &bench{benchConfig: c, audit: audit{c.auditLog}, cfg: cfg, fleet: newFleet(c.apps, c.kind, c.prefix), probed: map[string]float64{},
		plane: memoryPeak{pid: c.controlPlane}, self: memoryPeak{pid: os.Getpid()}}
	b.res = newResult(c)
	if b.raw, err = newRawLoop(b.as("bench-raw")); err != nil {
		return nil, err
	}
	return b, b.makeRepositories(ctx)
}

func (b *bench) makeRepositories(ctx context.Context) (err error) {
	if b.repo, err = makeRepository(ctx, filepath.Join(b.dir, "fleet.git")); err != nil {
		return err
	}
	for r := range repositoriesOf(b.layout, b.apps) {
		repo, err := makeRepository(ctx, filepath.Join(b.dir, fmt.Sprintf("team-%03d.git", r)))
		if err != nil {
			return err
		}
		b.repos, b.fleet.urls = append(b.repos, repo), append(b.fleet.urls, repo.url())
	}
	for r, repo := range b.repos {
		if err := repo.commit(ctx, "The applications", b.fleet.content(r)); err != nil {
			return err
		}
	}
	if len(b.repos) == 0 {
		b.repos = []*repository{b.repo}
	}
	return b.repo.commit(ctx, "The fleet", b.fleet.files())
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
		return strings.HasPrefix(r.agent, "belay") && r.user == b.user
	})
}

// rawSize is how many applications the raw loop applies.
func (b *bench) rawSize() int {
	if b.rawApps > 0 {
		return min(b.rawApps, b.apps)
	}
	return b.apps
}

// scale makes what the raw loop took what it would have taken for the whole fleet.
func (b *bench) scale(v float64) float64 { return v * float64(b.apps) / float64(b.rawSize()) }

func (b *bench) run(ctx context.Context) (*result, error) {
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	defer b.rawSeen.end()
	defer b.belaySeen.end()
	looking, stop := context.WithCancel(ctx)
	defer stop()
	go b.plane.follow(looking)
	go b.self.follow(looking)
	if err := b.rawRollout(ctx); err != nil {
		return nil, fmt.Errorf("the raw loop: %w", err)
	}
	if err := b.life(ctx); err != nil {
		return nil, withLog(err, filepath.Join(b.dir, "belay.log"))
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
		{"a restart", b.restart, []phase{{"rest after the restart", b.atRestAgain}}},
	} {
		b.say("  %s", start.name)
		s, err := start.begin(ctx)
		for _, p := range start.phases {
			if err == nil {
				b.say("  %s", p.name)
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
	names := b.namespaces()
	b.say("  making %d namespaces", len(names))
	warm := b.prefix + "-warm"
	own := b.as("bench")
	if err := makeNamespaces(ctx, own, append(names, warm)); err != nil {
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
	if b.rawSeen, err = observe(ctx, own, fleetRaw, b.prefix+"-"+fleetRaw, b.say); err != nil {
		return err
	}
	if b.belaySeen, err = observe(ctx, own, fleetBelay, b.prefix+"-"+fleetBelay, b.say); err != nil {
		b.rawSeen.end()
	}
	return err
}

// namespaces of both fleets.
func (b *bench) namespaces() []string {
	var out []string
	for i := range b.apps {
		out = append(out, b.fleet.namespace(fleetBelay, i))
		if i < b.rawSize() {
			out = append(out, b.fleet.namespace(fleetRaw, i))
		}
	}
	return out
}

// reading is what the processes have used until now, in seconds of CPU.
type reading struct {
	belay        usage
	plane, bench float64
}

// read reads; without a server, of the others alone.
func (b *bench) read(s *server) reading {
	r := reading{plane: cpuOf(b.controlPlane), bench: cpuOf(os.Getpid())}
	if s != nil {
		r.belay = s.sampler.usage()
	}
	return r
}

func (r reading) minus(q reading) reading {
	return reading{r.belay.minus(q.belay), r.plane - q.plane, r.bench - q.bench}
}

func (r reading) plus(q reading) reading {
	return reading{r.belay.plus(q.belay), r.plane + q.plane, r.bench + q.bench}
}

// rawCPU notes what the raw loop used, in the unit of the figure: this whole
// program, which also looks at what happens.
func (b *bench) rawCPU(phase string, r reading, unit float64) {
	b.res.raw(phase+".cpu", r.bench*unit)
	b.res.raw(phase+".cpu.controlplane", r.plane*unit)
}

// rawMemory notes what this program held at most, and the control plane meanwhile.
func (b *bench) rawMemory(phase string) {
	b.res.raw("memory."+phase, megabytes(b.self.take()))
	b.res.raw("memory."+phase+".controlplane", megabytes(b.plane.take()))
}

// ownCPU notes what Belay used.
func (b *bench) ownCPU(phase string, r reading, unit float64) {
	b.res.belay(phase+".cpu", r.belay.cpu()*unit)
	b.res.belay(phase+".cpu.process", r.belay.Process*unit)
	b.res.belay(phase+".cpu.workers", r.belay.Workers*unit)
	b.res.belay(phase+".cpu.git", r.belay.Others*unit)
	b.res.belay(phase+".cpu.controlplane", r.plane*unit)
}

// memory notes the peaks since it was called last.
func (b *bench) memory(s *server, phase string) {
	p := s.sampler.take()
	b.res.belay("memory."+phase, megabytes(p.All))
	b.res.belay("memory."+phase+".process", megabytes(p.Process))
	b.res.belay("memory."+phase+".workers", megabytes(p.Workers))
	b.res.belay("memory."+phase+".git", megabytes(p.Others))
	b.res.belay("memory."+phase+".controlplane", megabytes(b.plane.take()))
}

// memoryNow notes what is held at this moment.
func (b *bench) memoryNow(s *server, phase string) {
	u := s.sampler.usage()
	b.res.belay("memory."+phase, megabytes(u.Memory))
	b.res.belay("memory."+phase+".process", megabytes(u.MemoryProcess))
	b.res.belay("memory."+phase+".program", megabytes(u.MemoryProgram))
	b.res.belay("memory."+phase+".workers", megabytes(u.MemoryWorkers))
	b.res.belay("memory."+phase+".git", megabytes(u.MemoryOthers))
}

// megabytes are those of a million bytes.
func megabytes(n int64) float64 { return float64(n) / 1e6 }

// newborn is longer than any time between two looks at what an API server serves,
// of which there are several after a start: kinds may still arrive.
const newborn = 4 * time.Second

// quiet waits until Belay asks the cluster for nothing and has written down what
// it last did, so that all of that is counted.
func (b *bench) quiet(ctx context.Context, s *server) error {
	if err := s.awaitHealthy(ctx, b.apps); err != nil {
		return err
	}
	before, err := s.counters(ctx)
	if err != nil {
		return err
	}
	calm := b.calm
	if !s.settled {
		calm = max(calm, newborn)
	}
	for range 20 {
		mark, err := b.audit.mark()
		if err != nil {
			return err
		}
		if err := pause(ctx, calm); err != nil {
			return err
		}
		r, err := b.requests(mark)
		if err != nil {
			return err
		}
		now, err := s.counters(ctx)
		if err != nil {
			return err
		}
		if len(r) == 0 && now == before {
			s.settled = true
			return nil
		}
		before = now
	}
	return nil // what it goes on doing is counted
}

// quantile is the nearest rank: a value that was measured. Of fewer than a
// hundred, the 0.99 quantile is the worst.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}
