package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// soakOptions are the command line of a soak.
type soakOptions struct {
	options
	length, calm, crash, commit, drift, sample time.Duration
	// script has a letter for each commit, and begins anew at its end.
	script  string
	seed    uint64
	csvFile string
}

// soakScript is two minutes of commits at one a second: to one application, and now
// and then one goes, another comes, one is broken and mended; once to all.
var soakScript = strings.Repeat("1111111111r1111111111a1111b11m", 2) + "A" + strings.Repeat("1111111111r1111111111a1111b11m", 2)[1:]

func parseSoak(args []string, stderr io.Writer) (soakOptions, error) {
	var o soakOptions
	f := flag.NewFlagSet("bench soak", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.DurationVar(&o.length, "for", time.Hour, "how long the fleet lives")
	f.DurationVar(&o.calm, "calm", -1, "time at its end without crashes, in which what a process gathers would show (default: a sixth)")
	f.DurationVar(&o.crash, "crash", time.Minute, "time from one crash to the next")
	f.DurationVar(&o.commit, "commit", time.Second, "time from one commit to the next")
	f.DurationVar(&o.drift, "drift", time.Second, "time from one edit by hand to the next")
	f.DurationVar(&o.sample, "sample", 5*time.Second, "time from one look to the next")
	f.IntVar(&o.apps, "apps", 200, "number of applications at first")
	f.StringVar(&o.kind, "kind", "mix", "what they are made with: "+strings.Join(kinds, ", "))
	f.StringVar(&o.script, "script", soakScript, "what the commits do, a letter each, again and again: 1 change one application, A change all, r remove one, a add one, b break one, m mend it")
	f.Uint64Var(&o.seed, "seed", 1, "of what is random")
	f.StringVar(&o.jsonFile, "json", "", "write everything to this file")
	f.StringVar(&o.csvFile, "csv", "", "write the samples to this file")
	o.belayFlag(f)
	o.devclusterFlag(f)
	f.StringVar(&o.dir, "dir", "", "keep everything in this directory (default: a temporary one, removed at the end)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.calm < 0 {
		o.calm = o.length / 6
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case strings.Trim(o.script, "1Arabm") != "" || o.script == "":
		return o, fmt.Errorf("--script has the letters 1, A, r, a, b and m, not %q", o.script)
	case o.apps < 4:
		return o, errors.New("--apps is at least 4")
	case min(o.length, o.crash, o.commit, o.drift, o.sample) <= 0 || o.calm > o.length:
		return o, errors.New("times are longer than 0, and --calm is no longer than --for")
	}
	return o, checkKind(o.kind)
}

func runSoak(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parseSoak(args, stderr)
	if err != nil {
		return err
	}
	if err := o.findPrograms(); err != nil {
		return err
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "belay-soak-"); err != nil {
			return fmt.Errorf("make a directory: %w", err)
		}
		defer func() { _ = os.RemoveAll(o.dir) }() // what is left is in the temporary directory
	} else if o.dir, err = filepath.Abs(o.dir); err != nil {
		return fmt.Errorf("find %q: %w", o.dir, err)
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	began := time.Now()
	say := func(format string, a ...any) {
		fmt.Fprintf(stderr, "%8s  %s\n", time.Since(began).Truncate(time.Second), fmt.Sprintf(format, a...))
	}
	say("starting a control plane")
	cp, err := startControlPlane(ctx, o.devcluster, filepath.Join(o.dir, "cluster"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.stop()) }()
	s, err := newSoak(ctx, soakConfig{soakOptions: o, kubeconfig: cp.kubeconfig, prefix: "soak", say: say})
	if err != nil {
		return err
	}
	res, err := s.run(ctx)
	if res == nil {
		return err
	}
	err = errors.Join(err, res.write(o.jsonFile, o.csvFile))
	res.print(stdout)
	if err == nil && !res.passed() {
		err = errors.New("not all that was to hold did")
	}
	return err
}

// soakConfig is what a soak is made with.
type soakConfig struct {
	soakOptions
	kubeconfig string
	// prefix of all namespaces; instance of Belay, "" on a control plane of its own.
	prefix, instance string
	// patient has every commit of the script, edit and look wait until it can be made.
	// Else it is left out, or another is made, as the pace matters.
	patient bool
	say     func(format string, a ...any)
}

// soak is one run.
type soak struct {
	soakConfig
	cfg    *rest.Config
	kube   kubernetes.Interface
	living *living
	sights *sights
	res    *soakResult
	began  time.Time
	// server is whoever serves now; nil while it is down.
	server soakServer
	events soakEvents
}

func newSoak(ctx context.Context, c soakConfig) (*soak, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	cfg.QPS, cfg.WarningHandler, cfg.UserAgent = -1, rest.NoWarnings{}, "bench-soak"
	s := &soak{soakConfig: c, cfg: cfg, res: newSoakResult(c.soakOptions)}
	if s.kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	repo, err := makeRepository(ctx, filepath.Join(c.dir, "fleet.git"))
	if err != nil {
		return nil, err
	}
	s.living = newLiving(c.apps, c.kind, c.prefix, repo, c.seed)
	return s, repo.commit(ctx, "The fleet", s.living.files())
}

// namespaces are those of all applications, of the spare ones too.
func (s *soak) namespaces() []string {
	out := make([]string, len(s.living.state))
	for i := range out {
		out[i] = s.living.fleet.namespace(fleetBelay, i)
	}
	return out
}

// run lets the fleet live, and then looks at what became of it. The result is nil
// where it did not come so far.
func (s *soak) run(ctx context.Context) (*soakResult, error) {
	s.say("making %d namespaces", len(s.namespaces()))
	if err := makeNamespaces(ctx, s.cfg, s.namespaces()); err != nil {
		return nil, err
	}
	foreign, err := s.makeForeign(ctx)
	if err != nil {
		return nil, err
	}
	s.sights = watchSights(ctx, s.kube, s.prefix, s.say)
	defer s.sights.end()
	s.say("the first rollout of %d applications", s.apps)
	if err := s.server.start(ctx, s); err != nil {
		return nil, err
	}
	defer func() { _ = s.server.kill() }() // it was stopped before, if all went well
	if err := s.server.awaitSynced(ctx, s.living.there()); err != nil {
		return nil, err
	}
	s.say("living for %s, without crashes for the last %s", s.length, s.calm)
	s.began = time.Now()
	if err := s.live(ctx); err != nil {
		return nil, s.withLog(err)
	}
	s.say("no more pushes; comparing everything with Git")
	if err := s.conclude(ctx, foreign); err != nil {
		return nil, s.withLog(err)
	}
	s.res.judge()
	return s.res, nil
}

func (s *soak) withLog(err error) error {
	return withLog(err, s.logFile())
}

func (s *soak) logFile() string { return filepath.Join(s.dir, "belay.log") }
func (s *soak) dataDir() string { return filepath.Join(s.dir, "data") }
