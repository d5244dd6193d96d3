package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/kube"
	"github.com/belaydev/belay/internal/reconcile"
	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/source"
	"github.com/belaydev/belay/internal/version"
)

// cacheBytes bounds the render cache on disk.
const cacheBytes = 1 << 30

// parts are the adapters of an engine. This file is where they are fitted to
// the interfaces that the engine declares.
type parts struct {
	repo      string // as the engine names it
	hub       *source.Hub
	pool      *render.Pool
	sources   reconcile.Sources
	renderer  reconcile.Renderer
	connector reconcile.Connector
	committer reconcile.Committer
	// provenance checks the signatures of sources.
	provenance *provenance
}

type partsOptions struct {
	repo, instance, kubeconfig string
	// plugins are the programs that kubeconfigs may run; ownCredentials reaches
	// every cluster with the server's own.
	plugins        []string
	namespaces     []string // none for whole clusters
	ownCredentials bool
	lease          *kube.Lease

	interval      time.Duration
	data          *dataDir
	log           *slog.Logger
	sourceChanged func(url string)
	rewritten     func(url, ref, old, now string)
	// signing is what the commits that are made have for a committer and a key; nil
	// where none is made.
	signing *commitSigning
	// lenient lets encrypted values be unknown where the keys cannot be had.
	lenient bool
	// own reads Secrets of the server's own cluster; nil asks that cluster.
	own secrets
}

func newParts(o partsOptions) (*parts, error) {
	repo, err := repoURL(o.repo)
	if err != nil {
		return nil, err
	}
	if o.kubeconfig != "" { // a file that was named and is not there is a slip, not an outage
		if _, err := kube.OwnConfig(o.kubeconfig, ""); belay.CodeOf(err) == belay.CodeNotFound {
			return nil, err
		}
	}
	p := &parts{repo: repo}
	p.hub, err = source.New(source.Options{
		Dir: filepath.Join(o.data.path, "repos"), Logger: o.log, Interval: o.interval, Notify: o.sourceChanged,
		UserAgent: "belay/" + version.Get().Version, Fresh: o.lease != nil,
		Rewritten: func(r source.Rewrite) {
			if o.rewritten != nil {
				o.rewritten(r.Repo, r.Ref, r.Old, r.New)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	conn := &connector{instance: o.instance, kubeconfig: o.kubeconfig, plugins: o.plugins, namespaces: o.namespaces, ownCredentials: o.ownCredentials, lease: o.lease, log: o.log}
	own := o.own
	if own == nil {
		own = conn.ownSecret
	}
	if p.pool, err = render.NewPool(render.Options{Key: o.data.key, Sealer: &sealer{own: own, lenient: o.lenient}}); err != nil {
		p.hub.Close()
		return nil, err
	}
	cache, err := render.OpenCache(filepath.Join(o.data.path, "renders"), cacheBytes, o.data.key)
	if err != nil {
		p.close()
		return nil, err
	}
	p.sources = &sources{Hub: p.hub, interval: o.interval, own: own}
	p.committer = commits{p.hub, cmp.Or(o.signing, &commitSigning{})}
	p.provenance = &provenance{hub: p.hub, own: own, path: filepath.Join(o.data.path, acceptedFile), log: o.log}
	p.renderer = &renderer{pool: p.pool, cache: cache}
	p.connector = conn
	return p, nil
}

func newIndex() reconcile.Index { return source.NewIndex() }

func (p *parts) close() {
	p.pool.Close()
	p.hub.Close()
}

// repoURL is the URL of a repository as logs, events and answers may show it:
// without a user, who may be a token. A path becomes absolute, as the server does
// not depend on where it was started.
func repoURL(repo string) (string, error) {
	if repo == "" {
		return "", usageError("--repo must not be empty")
	}
	if strings.Contains(repo, "://") || (strings.Contains(repo, ":") && !filepath.IsAbs(repo)) {
		return git.CleanURL(repo)
	}
	if _, err := os.Stat(repo); errors.Is(err, fs.ErrNotExist) {
		return "", &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no repository at %s", repo),
			Hint: "--repo is a URL or the path of a repository on this machine"}
	}
	return filepath.Abs(repo)
}

// sources fits a source.Hub to the engine.
type sources struct {
	*source.Hub
	interval time.Duration
	own      secrets
}

// Configure implements reconcile.Sources.
func (s *sources) Configure(repos []belay.Repository, refs map[string][]string) {
	configs := make([]source.RepoConfig, len(repos))
	for i, r := range repos {
		configs[i] = source.RepoConfig{URL: r.Spec.URL, Interval: s.interval, Auth: s.auth(r), Version: declaredAs(r), PlainHTTP: r.Spec.PlainHTTP}
		if d, err := time.ParseDuration(r.Spec.Interval); err == nil {
			configs[i].Interval = d
		}
	}
	s.Hub.Configure(configs)
	s.SetFollowed(refs)
}

// Strangers implements reconcile.Sources.
func (s *sources) Strangers(urls []string) { s.SetStrangers(urls) }

// declaredAs is text that changes whenever the definition does: a repository whose
// definition was mended is tried at once.
func declaredAs(r belay.Repository) string {
	b, err := json.Marshal(r.Spec)
	if err != nil {
		return err.Error() // strings always encode
	}
	return string(b)
}

// auth reads the credentials of a repository each time they are needed, so that
// a rotated one is used at once.
func (s *sources) auth(r belay.Repository) func(context.Context) (git.Auth, error) {
	spec := r.Spec.Auth
	if spec == nil {
		return nil
	}
	return func(ctx context.Context) (git.Auth, error) {
		a := git.Auth{Username: spec.Username}
		for _, f := range []struct {
			name string
			ref  *belay.Reference
			line bool
			to   *[]byte
		}{
			{"password", spec.Password, true, &a.Password}, {"sshKey", spec.SSHKey, false, &a.SSHKey},
			{"knownHosts", spec.KnownHosts, false, &a.KnownHosts}, {"ca", spec.CA, false, &a.CA},
		} {
			value, err := resolve(ctx, f.ref, s.own)
			if err != nil {
				return git.Auth{}, fmt.Errorf("spec.auth.%s of Repository %q: %w", f.name, r.Name, err)
			}
			if f.line {
				value = []byte(strings.TrimRight(string(value), "\r\n"))
			}
			*f.to = value
		}
		return a, nil
	}
}

// Open implements reconcile.Sources.
func (s *sources) Open(ctx context.Context, url, commit string) (reconcile.Files, error) {
	return s.Snapshot(ctx, url, commit)
}

// History implements reconcile.Sources.
func (s *sources) History(ctx context.Context, url, commit string, paths []string, most int) ([]string, error) {
	m, err := s.Mirror(ctx, url)
	if errors.Is(err, errors.ErrUnsupported) {
		return s.Earlier(url, commit), nil
	}
	if err != nil {
		return nil, err
	}
	return m.PathsHistory(ctx, commit, paths, most)
}

// Commits implements reconcile.Sources.
func (s *sources) Commits(ctx context.Context, url, from, to string, paths []string, most int) (reconcile.Brought, error) {
	m, err := s.Mirror(ctx, url)
	if errors.Is(err, errors.ErrUnsupported) {
		return reconcile.Brought{}, nil
	}
	if err != nil {
		return reconcile.Brought{}, err
	}
	b, err := m.Brought(ctx, from, to, paths, most)
	return reconcile.Brought{Commits: b.Commits, Firsts: b.Firsts, More: b.More}, err
}

// LastChange implements reconcile.Sources.
func (s *sources) LastChange(ctx context.Context, url, commit, path, expr string) (belay.Commit, bool, error) {
	m, err := s.Mirror(ctx, url)
	if errors.Is(err, errors.ErrUnsupported) {
		return belay.Commit{}, false, nil
	}
	if err != nil {
		return belay.Commit{}, false, err
	}
	return m.LastChange(ctx, commit, path, expr)
}

// Check implements reconcile.Sources.
func (s *sources) Check(ctx context.Context, url string) error { return s.CheckNow(ctx, url) }

// renderer renders through the cache.
type renderer struct {
	pool  *render.Pool
	cache *render.Cache
}

// Render implements reconcile.Renderer.
func (r *renderer) Render(ctx context.Context, files reconcile.Files, req reconcile.RenderRequest) (reconcile.Rendered, error) {
	rr := render.Request{Application: req.Application, Source: req.Source, Namespace: req.Namespace, KubeVersion: req.KubeVersion,
		APIVersions: req.APIVersions, Repo: req.Repo, Revision: req.Revision,
		Patches: req.Patches, Variables: req.Variables, Definition: req.Definition, Project: req.Project, Decryption: req.Decryption}
	if res, ok, err := r.cache.Get(ctx, files, rr); err == nil && ok && (!req.Full || !res.Partial) {
		return rendered(res, true), nil
	}
	res, err := r.pool.Render(ctx, files, rr)
	if err != nil {
		return rendered(res, false), err
	}
	// A cache that cannot be written to costs time after a restart and nothing else.
	_ = r.cache.Put(rr, res)
	return rendered(res, false), nil
}

func rendered(r render.Result, cached bool) reconcile.Rendered {
	return reconcile.Rendered{Objects: r.Objects, Reads: r.Reads, UsesCapabilities: r.UsesCapabilities, Warnings: r.Warnings, Unfit: r.Unfit, Cached: cached}
}
