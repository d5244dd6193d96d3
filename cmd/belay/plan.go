package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/manifestdiff"
	"github.com/belaydev/belay/internal/reconcile"
)

const planLong = `Shows what would change in the clusters now, object by object, and changes
nothing: creations, updates, heals of drift, deletions, hooks that would run, what
a limit would hold back and what the API server would refuse. Values of Secrets never show; that
they change does. That nothing of it would be applied now (suspended, held at an
earlier revision, outside of a maintenance window, automatic sync is off) it says too.

What is compared with the clusters is
  - the repository as it is on disk, uncommitted changes included; or
  - with --revision, a branch, tag or commit, which may be abbreviated or written
    as HEAD~1: so many commits before the newest.

The clusters are asked through a running server, which needs no credentials here;
or, with --kubeconfig, directly and without a server, which alone knows of holds
and of the last hooks of applications that leave Git. The API server itself says
what an apply would result in (a dry run), so defaults and webhooks are in it.

With --exit-code the exit code is 3 when something would change. With "-o json"
the output is a list of {"application", "set", "cluster", "revision", "digest",
"changes": [{"verb", "id", "file", "line", "diff", …}], "held", "waits", "errors"}.`

const planExample = `  belay plan
  belay plan guestbook-production
  belay plan --revision feature/scale --exit-code
  belay plan --revision HEAD~1
  belay plan --kubeconfig ~/.kube/config`

// planTimeout is how long a plan without a server waits for the clusters.
const planTimeout = 2 * time.Minute

type planFlags struct {
	workdirFlags
	revision, kubeconfig, instance string
}

func newPlan(env *env) *cobra.Command {
	var f planFlags
	var exitCode bool
	cmd := &cobra.Command{Use: "plan [APP...]", Short: "Show what would change in the clusters now", Long: planLong, Example: planExample,
		ValidArgsFunction: env.completeApplications}
	out := addOutput(cmd)
	f.add(cmd)
	cmd.Flags().StringVar(&f.revision, "revision", "", "branch, tag or commit (HEAD~1 for the one before the newest) to plan instead of what is on disk")
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "ask the clusters directly, with this kubeconfig, and no server")
	cmd.Flags().StringVar(&f.instance, "instance", "", "name of the Belay that delivers, if it has one; with --kubeconfig")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 when something would change")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		previews, err := env.plan(cmd.Context(), &f, args)
		if err != nil {
			return err
		}
		if *out != outputTable {
			err = env.write(*out, previews)
		} else {
			err = env.printer().Previews(previews)
		}
		if err != nil {
			return err
		}
		return planOutcome(previews, exitCode)
	}
	return cmd
}

// planOutcome is the exit code: an error wins over a difference.
func planOutcome(previews []belay.Preview, exitCode bool) error {
	differs := false
	for i := range previews {
		p := &previews[i]
		differs = differs || len(p.Changes) > 0
		if len(p.Errors) > 0 || slices.ContainsFunc(p.Changes, func(c belay.PreviewChange) bool { return c.Error != "" }) {
			return errFound
		}
	}
	if differs && exitCode {
		return errDiffers
	}
	return nil
}

func (e *env) plan(ctx context.Context, f *planFlags, names []string) ([]belay.Preview, error) {
	if f.kubeconfig != "" {
		return e.planAlone(ctx, f, names)
	}
	c, err := e.client()
	if err != nil {
		return nil, err
	}
	if f.revision != "" {
		return c.Plan(ctx, belay.PlanRequest{Applications: names, Revision: f.revision})
	}
	w, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	e.tellDefinitions(w)
	apps, err := w.applications(names)
	if err != nil {
		return nil, err
	}
	apps = slices.DeleteFunc(apps, func(a *belay.Application) bool {
		if src := w.elsewhere(a); src != nil {
			fmt.Fprintf(e.stderr, "%s is not planned: its files stand in %s at %s\n", a.Name, cmp.Or(belay.ChartURL(src.Repo, src.Chart), "this repository"), cmp.Or(src.Ref, "HEAD"))
		}
		return !w.here(a) || w.catalog.ApplicationErrors[a.Name] != nil
	})
	results, errs, err := w.renderAll(ctx, apps, c.Facts)
	if err != nil {
		return nil, err
	}
	req := belay.PlanRequest{Applications: names, Rendered: []belay.RenderedApplication{}}
	var failed []belay.Preview
	for i, a := range apps {
		if errs[i] != nil {
			failed = append(failed, belay.Preview{Application: a.Name, Set: a.Set, Cluster: a.Spec.Destination.Cluster, Changes: []belay.PreviewChange{}, Errors: problems(errs[i], a)})
			req.Applications = slices.DeleteFunc(req.Applications, func(n string) bool { return n == a.Name })
			continue
		}
		e.tellEncrypted(a.Name, results[i].Objects)
		req.Rendered = append(req.Rendered, belay.RenderedApplication{Application: *a, Objects: results[i].Objects})
	}
	if len(names) == 0 {
		req.Declared, req.Sets = w.declared(), w.sets()
		if req.Declared == nil {
			fmt.Fprintln(e.stderr, "what would be removed is not planned: something that is wrong, or stands elsewhere, may declare it")
		}
	}
	if len(req.Rendered)+len(req.Declared) == 0 {
		return failed, nil
	}
	previews, err := c.Plan(ctx, req)
	return append(previews, failed...), err
}

// tellDefinitions says what is wrong with definitions; the rest is planned all the same.
func (e *env) tellDefinitions(w *workdir) {
	for i := range w.catalog.Problems {
		e.printError(&w.catalog.Problems[i])
	}
}

// tellEncrypted says that a plan is silent about values that nobody here can decrypt.
func (e *env) tellEncrypted(app string, objects []belay.Object) {
	marker, _ := json.Marshal(belay.EncryptedValue) // a text always encodes
	encoded := base64.StdEncoding.EncodeToString([]byte(belay.EncryptedValue))
	if slices.ContainsFunc(objects, func(o belay.Object) bool {
		return o.Sensitive() && (bytes.Contains(o.Raw, bytes.Trim(marker, `"`)) || bytes.Contains(o.Raw, []byte(encoded)))
	}) {
		fmt.Fprintf(e.stderr, "%s: values of encrypted files are not compared; --revision compares them where the keys are\n", app)
	}
}

// planAlone is a server for the time of one plan: it connects, looks, and writes nothing.
func (e *env) planAlone(ctx context.Context, f *planFlags, names []string) (_ []belay.Preview, err error) {
	if err := git.CheckInstalled(ctx); err != nil {
		return nil, err
	}
	root, err := repositoryRoot(f.dir)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "belay-plan-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the plan: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	data, err := openData(tmp)
	if err != nil {
		return nil, err
	}
	defer func() { _ = data.Close() }() // it is removed next
	var engine *reconcile.Engine
	p, err := newParts(partsOptions{repo: root, instance: f.instance, kubeconfig: f.kubeconfig, interval: time.Hour, data: data,
		log: slog.New(slog.DiscardHandler), lenient: true, sourceChanged: func(url string) {
			if engine != nil {
				engine.SourceChanged(url)
			}
		}})
	if err != nil {
		return nil, err
	}
	defer p.close()
	o := reconcile.Options{Repo: p.repo, Ref: f.revision, Path: cleanPath(f.path), Instance: f.instance, DryRun: true, Sources: p.sources,
		Renderer: p.renderer, Connector: p.connector, NewIndex: newIndex, Logger: slog.New(slog.DiscardHandler),
		Diff: manifestdiff.Unified, SecretKey: data.key}
	if f.revision == "" {
		w, err := f.open(ctx)
		if err != nil {
			return nil, err
		}
		defer w.Close()
		e.tellDefinitions(w)
		o.Sources, o.Ref = &diskSources{Sources: p.sources, repo: p.repo, files: w.files}, onDisk
	} else {
		p.sources.Configure(nil, map[string][]string{p.repo: {"HEAD"}})
		rev, err := reconcile.RevisionOf(ctx, p.sources, p.committer, p.repo, "HEAD", f.revision)
		if err != nil {
			return nil, err
		}
		if rev.Name == rev.Commit { // no branch or tag, and what HEAD~1 means is settled here
			o.Ref = rev.Commit
		}
	}
	engine = reconcile.New(o)
	ctx, cancel := context.WithTimeout(ctx, planTimeout)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		hub := make(chan struct{})
		go func() { defer close(hub); _ = p.hub.Run(running) }() // it returns nil
		_ = engine.Run(running)                                  // so does it
		<-hub
	}()
	defer func() { stop(); <-done }()
	if err := ready(ctx, engine); err != nil {
		return nil, err
	}
	return engine.Plan(ctx, belay.PlanRequest{Applications: names})
}

// ready waits until an engine knows its definitions and clusters.
func ready(ctx context.Context, engine *reconcile.Engine) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := engine.Ready()
		if err == nil && engine.Settled() {
			return nil
		}
		if code := belay.CodeOf(err); err != nil && code != belay.CodeUnavailable {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err != nil {
				return err
			}
			return context.Cause(ctx)
		}
	}
}
