package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
	"github.com/belaydev/belay/internal/events"
	"github.com/belaydev/belay/internal/footprint"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/kube"
	"github.com/belaydev/belay/internal/ledger"
	"github.com/belaydev/belay/internal/ledger/index"
	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/manifestdiff"
	"github.com/belaydev/belay/internal/reconcile"
	"github.com/belaydev/belay/internal/runlog"
	"github.com/belaydev/belay/internal/server"
	"github.com/belaydev/belay/internal/source"
	"github.com/belaydev/belay/internal/version"
)

// defaultListen is where a server listens unless it is told otherwise.
const defaultListen = "127.0.0.1:8180"

// keptEvents is how many events a server remembers for those who ask later.
const keptEvents = 10_000

// When nothing happened for restAfter, memory is given back, and not more often than
// once in restEvery: it takes a collection of all garbage. By then the ledger is
// signed and tidied, and the index has followed.
const (
	restAfter = 20 * time.Second
	restEvery = time.Minute
)

func newServe(env *env) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve --repo URL",
		Short: "Keep clusters equal to a Git repository",
		Long: `Loads the definitions below --path of a Git repository, makes the clusters they
name equal to Git, and keeps them so, until it is told to end. The HTTP API,
metrics and health checks are served on --listen.

Clusters are reached with --kubeconfig (or KUBECONFIG, ~/.kube/config, or the
service account it runs as), unless a Cluster definition says otherwise.

What it did is recorded in the ledger, a Git repository in --data; with
--ledger-remote it is pushed to another, and fetched back when it was lost. All
else in --data are caches. When the ledger cannot be written no deployment starts.

With --leader-elect several processes stand by for one another: one holds a lease
in the server's own cluster and works, and another takes over when it ends or is
silent. With --only-cluster NAME --own-credentials the process delivers to the
cluster it runs in, and needs nobody else.`,
		Example: `  belay serve --repo https://git.example.com/platform/fleet.git
  belay serve --repo git@git.example.com:platform/fleet.git --ref main --path belay/
  belay serve --repo /srv/fleet --kubeconfig ~/.kube/test --data /tmp/belay`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.log, o.checkpoint = env.log, env.checkpoint
			kube.SetLogger(slog.New(newSparing(env.log.Handler())).With("component", "client-go"))
			footprint.Tune()
			s, err := newServing(cmd.Context(), o)
			if err != nil {
				return err
			}
			return s.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.repo, "repo", "", "URL or path of the repository with the definitions (required)")
	f.StringVar(&o.ref, "ref", "main", "branch, tag, commit or semver range to follow")
	f.StringVar(&o.path, "path", "belay/", "directory of the definitions")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the server's own cluster")
	f.StringVar(&o.data, "data", "", "directory of the ledger and of caches (default: $XDG_DATA_HOME/belay, or ~/.local/share/belay)")
	f.StringVar(&o.listen, "listen", defaultListen, "address of the HTTP API, on loopback")
	f.StringVar(&o.onlyCluster, "only-cluster", "", "deliver to this cluster alone")
	f.StringVar(&o.instance, "instance", "", "name of this Belay, if several deliver to one cluster")
	f.DurationVar(&o.interval, "interval", 30*time.Second, "time between polls of a repository that sets none")
	f.BoolVar(&o.ownCredentials, "own-credentials", false, "with --only-cluster: reach that cluster with the server's own credentials, whatever its definition says")
	f.StringArrayVar(&o.plugins, "allow-exec-plugin", nil, "program that kubeconfigs of Cluster definitions may run to get credentials: its name in PATH, or its path (may be repeated)")
	f.StringArrayVar(&o.namespaces, "namespace", nil, "look at and deliver to this namespace alone, in every cluster (may be repeated)")
	f.StringVar(&o.digestKey, "digest-key-file", "", "file with the key of the digests that stand for Secrets, shared by processes that stand by for one another (default: made in --data)")
	o.election.addFlags(f)
	o.open.addFlags(f)
	o.ledger.addFlags(f)
	o.signing.addFlags(f)
	o.commits.addFlags(f)
	_ = cmd.MarkFlagRequired("repo") // the flag is defined above
	return cmd
}

// serveOptions are what a server is started with.
type serveOptions struct {
	repo, ref, path, kubeconfig, data, listen, onlyCluster, instance string

	ownCredentials bool
	plugins        []string
	namespaces     []string
	digestKey      string
	election       electionOptions
	open           openOptions
	ledger         ledgerOptions
	signing        configSigning
	commits        commitOptions

	interval   time.Duration
	log        *slog.Logger
	checkpoint func(string)
}

// serving is a server with everything it is made of.
type serving struct {
	url      string
	engine   *reconcile.Engine
	bus      *events.Bus
	log      *slog.Logger
	listener net.Listener
	http     *server.Server
	open     []openServer
	lease    *kube.Lease // nil without leader election
	// elected is closed when the lease is held, ready when what was fetched before
	// that counts no more.
	elected, ready chan struct{}
	parts          *parts
	data           *dataDir
	runs           *runlog.Log
	ledger         *ledger.Ledger
	index          *index.Index // of the ledger
	recorder       *recorder
	idler          *footprint.Idler // of memory
	denials        *denials
	group          string      // of those that stand by for one another, in the ledger
	began          belay.Event // the first of this life
}

// check finds what no server can be started with, before anything is made.
func (o *serveOptions) check() error {
	if o.ownCredentials && o.onlyCluster == "" {
		return usageError("--own-credentials needs --only-cluster: they are those of one cluster")
	}
	if !fs.ValidPath(cleanPath(o.path)) {
		return usageError(fmt.Sprintf("--path is a directory inside the repository, not %q", o.path))
	}
	if o.interval <= 0 {
		return usageError(fmt.Sprintf("--interval is longer than nothing, not %s", o.interval))
	}
	if err := kube.CheckPlugins(o.plugins); err != nil {
		return err
	}
	_, err := repoURL(o.repo)
	return err
}

// newServing opens the data directory and the listener and wires the parts; on
// an error nothing is left open.
func newServing(ctx context.Context, o serveOptions) (_ *serving, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := git.CheckInstalled(ctx); err != nil {
		return nil, err
	}
	wanted, err := o.signing.rules()
	if err != nil {
		return nil, err
	}
	l, err := server.Listen(ctx, o.listen)
	if err != nil {
		return nil, err
	}
	open, err := o.open.listen(ctx)
	defer func() {
		if err != nil {
			_ = l.Close() // nobody was told of it
			open.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	data, err := openData(cmp.Or(o.data, defaultDataDir()))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = data.Close()
		}
	}()
	if o.digestKey != "" {
		if data.key, err = sharedKey(o.digestKey); err != nil {
			return nil, err
		}
	}
	s := &serving{url: "http://" + l.Addr().String(), bus: events.New(keptEvents), log: o.log, listener: l, data: data,
		elected: make(chan struct{}), ready: make(chan struct{})}
	if s.runs, err = runlog.Open(filepath.Join(data.path, "runs")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.runs.Close() // nothing was written
		}
	}()
	if s.lease, err = o.election.lease(&o, open.hook); err != nil {
		return nil, err
	}
	if s.ledger, err = o.ledger.open(ctx, data, o.instance, o.log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.ledger.Close(context.WithoutCancel(ctx)) // nothing was written
		}
	}()
	if s.index, err = openIndex(data, s.ledger.Flush, o.log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.index.Close() // it is made again
		}
	}()
	if err = s.wire(&o, wanted); err != nil {
		return nil, err
	}
	s.open = s.servers(&o.open, open)
	s.began = s.started(&o)
	if s.lease != nil {
		s.group = strings.TrimSpace("lease " + s.lease.Name() + " " + o.onlyCluster)
	}
	return s, nil
}

// wire makes what works on the data directory, and connects it.
func (s *serving) wire(o *serveOptions, wanted *belay.Signatures) error {
	program := footprint.Find()
	var hub atomic.Pointer[source.Hub] // there is none yet, and the ledger may be written to
	s.idler = footprint.NewIdler(restAfter, restEvery, func() {
		if h := hub.Load(); h != nil {
			h.Rest()
		}
		program.Release()
	})
	s.recorder = &recorder{bus: s.bus, ledger: s.ledger, grown: func() { s.index.Wake(); s.idler.Touch() }}
	s.denials = &denials{publish: s.recorder.Publish, now: time.Now}
	commits, err := o.commits.signing(s.data.path, o.log)
	if err != nil {
		return err
	}
	s.parts, err = newParts(partsOptions{
		signing: commits, repo: o.repo, instance: o.instance, kubeconfig: o.kubeconfig, plugins: o.plugins, namespaces: o.namespaces,
		ownCredentials: o.ownCredentials, lease: s.lease, interval: o.interval, data: s.data, log: o.log,
		sourceChanged: func(url string) { s.engine.SourceChanged(url) },
		rewritten:     func(url, ref, old, now string) { s.engine.HistoryRewritten(url, ref, old, now) },
	})
	if err != nil {
		return err
	}
	hub.Store(s.parts.hub)
	s.engine = reconcile.New(reconcile.Options{
		Repo: s.parts.repo, Ref: o.ref, Path: cleanPath(o.path), Instance: o.instance, OnlyCluster: o.onlyCluster,
		Sources: s.parts.sources, Renderer: s.parts.renderer, Committer: s.parts.committer, Deployments: s.index, Connector: s.parts.connector,
		NewIndex: newIndex, Provenance: s.parts.provenance, ConfigSignatures: wanted,
		Recorder: s.recorder, Logger: o.log, Diff: manifestdiff.Unified, SecretKey: s.data.key, Runs: s.runs,
		ManifestFile: record.ManifestFile, Checkpoint: o.checkpoint,
	})
	shown := electing{s.engine, s.lease, s.ledger}
	s.http = server.New(server.Config{Engine: shown, Events: s.bus, Metrics: newRegistry(s.engine, shown.standingBy, s.ledger, s.data.path), Schemas: catalog.Schema,
		Record: s.index, Build: version.Get(), Denied: s.denials.denied, Log: o.log})
	return nil
}

// cleanPath is the --path as the catalog takes it.
func cleanPath(p string) string {
	return cmp.Or(strings.Trim(filepath.ToSlash(filepath.Clean(p)), "/"), ".")
}

// run serves until ctx ends.
func (s *serving) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s.log.Info("serving", "url", s.url, "repo", s.engine.Repo, "ref", s.engine.Ref, "path", s.engine.Path, "data", s.data.path,
		"sandbox", s.parts.pool.Sandbox(), "version", version.Get().Version)
	s.recorder.Publish(s.began)
	runs := []func(context.Context) error{s.lead, s.fetch, func(ctx context.Context) error { return s.http.Serve(ctx, s.listener) }}
	for _, o := range s.open {
		runs = append(runs, func(ctx context.Context) error { return server.ServeOpen(ctx, o.listener, o.handler, s.log) })
	}
	var wg sync.WaitGroup
	errs := make([]error, len(runs))
	for i, run := range runs {
		wg.Go(func() {
			errs[i] = run(ctx)
			stop() // none of them is of use without the others
		})
	}
	wg.Wait()
	s.idler.End()
	s.parts.close()
	errs = append(errs, s.closeLedger(ctx), s.index.Close())
	s.log.Info("stopped")
	return errors.Join(append(errs, s.runs.Close(), s.data.Close())...)
}
