package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
	"github.com/belaydev/belay/internal/reconcile"
	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/source"
)

// workdirFlags say which working directory a command is about.
type workdirFlags struct{ dir, path, repo string }

func (w *workdirFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&w.dir, "dir", "C", ".", "working directory of the repository, or a directory in it")
	cmd.Flags().StringVar(&w.path, "path", "belay/", "directory of the definitions, from the root of the repository")
	cmd.Flags().StringVar(&w.repo, "repo", "", "URL by which definitions name this repository, where they do")
}

// workdir is a repository as it is on disk, with what it declares.
type workdir struct {
	files   *source.DirSnapshot
	catalog *catalog.Catalog
	root    string
	repo    string
}

// open reads the definitions of a working directory. Close it when done.
func (w *workdirFlags) open(ctx context.Context) (*workdir, error) {
	root, err := repositoryRoot(w.dir)
	if err != nil {
		return nil, err
	}
	files, err := source.Dir(root)
	if err != nil {
		return nil, err
	}
	path := cleanPath(w.path)
	if _, err := files.Stat(path); errors.Is(err, fs.ErrNotExist) {
		_ = files.Close() // only read from
		return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no directory %s in %s", path, root),
			Hint: "run this in a clone of the repository with the definitions, or name it with --dir and --path"}
	}
	cat, err := catalog.Load(ctx, files, catalog.Options{Root: path, Repo: w.repo}, nil)
	if err != nil {
		_ = files.Close()
		return nil, err
	}
	return &workdir{files: files, catalog: cat, root: root, repo: w.repo}, nil
}

// Close lets go of the directory.
func (w *workdir) Close() { _ = w.files.Close() } // only read from

// repositoryRoot is the directory above dir with .git in it, or dir itself.
func repositoryRoot(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find %q: %w", dir, err)
	}
	if info, err := os.Stat(abs); err != nil || !info.IsDir() {
		return "", &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no directory %s", dir), Hint: "name another with --dir"}
	}
	for d := abs; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, ".git")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return abs, nil
		}
	}
}

// here says whether an application is rendered from this directory. One of which
// a source names another repository, or another ref of this one, is not.
func (w *workdir) here(app *belay.Application) bool { return w.elsewhere(app) == nil }

// elsewhere is the first source of an application that is not this directory, or nil.
func (w *workdir) elsewhere(app *belay.Application) *belay.Source {
	for _, s := range app.Spec.AllSources() {
		if s.Repo != w.repo || s.Chart != "" || s.Ref != "" && (w.repo != "" || s.Ref != "HEAD") {
			return &s
		}
	}
	return nil
}

// select returns applications by name, all for none, sorted.
func (w *workdir) applications(names []string) ([]*belay.Application, error) {
	var out []*belay.Application
	for _, n := range names {
		if _, ok := w.catalog.Applications[n]; !ok {
			return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no application %q in %s", n, w.root) + belay.DidYouMean(n, slices.Sorted(maps.Keys(w.catalog.Applications))),
				Hint: "belay lint lists what is wrong with definitions"}
		}
	}
	for name, app := range w.catalog.Applications {
		if len(names) == 0 || slices.Contains(names, name) {
			out = append(out, &app)
		}
	}
	slices.SortFunc(out, func(a, b *belay.Application) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// declared are the names of all applications, if nothing that is wrong or stands
// elsewhere could make more; else none.
func (w *workdir) declared() []string {
	if len(w.catalog.Problems)+len(w.catalog.SetsElsewhere()) > 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(w.catalog.Applications))
}

// sets are what the ApplicationSets say of the removal of their applications.
func (w *workdir) sets() []belay.DeclaredSet {
	var out []belay.DeclaredSet
	sets := w.catalog.Sets()
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		s := sets[name]
		out = append(out, belay.DeclaredSet{Name: name, PruneLimit: s.Spec.PruneLimit, Confirm: s.Spec.Confirm, Deletion: s.Spec.Deletion,
			Origin: belay.Origin{File: s.Origin.File, Line: s.Origin.Line}})
	}
	return out
}

// facts tells what is known of an application's cluster.
type facts func(ctx context.Context, cluster string) (belay.ClusterFacts, error)

// renderAll renders applications at the same time; results and errors stand in their order.
func (w *workdir) renderAll(ctx context.Context, apps []*belay.Application, known facts) ([]render.Result, []error, error) {
	key := make([]byte, 32)
	rand.Read(key) // digests of this run mean nothing to anybody else
	pool, err := render.NewPool(render.Options{Key: key, Sealer: &sealer{keyless: true}})
	if err != nil {
		return nil, nil, err
	}
	defer pool.Close()
	results, errs := make([]render.Result, len(apps)), make([]error, len(apps))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8) // the pool has its own bound; this one is for memory
	for i, app := range apps {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var f belay.ClusterFacts
			if f, errs[i] = known(ctx, app.Spec.Destination.Cluster); errs[i] != nil {
				return
			}
			results[i], errs[i] = w.render(ctx, pool, app, f)
		})
	}
	wg.Wait()
	return results, errs, nil
}

// errElsewhere is behind the error of a render that needs what is not in this directory.
var errElsewhere = errors.New("not in this directory")

// render renders the sources of one application, all of which are this directory.
func (w *workdir) render(ctx context.Context, pool *render.Pool, app *belay.Application, f belay.ClusterFacts) (render.Result, error) {
	permit := func(src belay.Source) func(string) error {
		project, declared := w.catalog.Projects[app.Spec.Project]
		if !declared {
			return nil
		}
		return reconcile.PermitOf(&project, w.catalog, src)
	}
	mount := func(m belay.Mount) (reconcile.Mounted, error) {
		if m.Source != "" {
			sources := app.Spec.AllSources() // the catalog checked the name
			i := slices.IndexFunc(sources, func(s belay.Source) bool { return s.Name == m.Source })
			return reconcile.Mounted{Files: w.files, Permit: permit(sources[i]), Repo: w.repo}, nil
		}
		return reconcile.Mounted{}, &belay.Error{Code: belay.CodeNotFound, Err: errElsewhere,
			Message: fmt.Sprintf("it needs files of %s, which this command does not fetch", belay.ChartURL(m.Repo, m.Chart)),
			Hint:    "a server renders it; belay plan shows what it would do"}
	}
	var all render.Result
	var errs []error
	var unfit [][]int
	for i, src := range app.Spec.AllSources() {
		if !app.Spec.Renders(i) {
			continue
		}
		tree := reconcile.NewTree(reconcile.Mounted{Files: w.files, Permit: permit(src)}, mount)
		res, err := pool.Render(ctx, tree, render.Request{Application: app.Name, Source: src,
			Namespace: app.Spec.Destination.Namespace, KubeVersion: f.Version, APIVersions: f.APIVersions,
			Patches: app.Spec.Patches, Variables: app.Spec.Variables, Definition: app.Origin,
			Project: app.Spec.Project, Decryption: w.catalog.Projects[app.Spec.Project].Spec.Decryption})
		if err = tree.Explain(err); err != nil {
			errs = append(errs, err)
		}
		unfit = append(unfit, res.Unfit)
		for j := range res.Objects {
			tree.Locate(&res.Objects[j].Origin)
		}
		all.Objects = append(all.Objects, res.Objects...)
		all.Warnings = append(all.Warnings, res.Warnings...)
	}
	switch len(errs) {
	case 0:
		return all, belay.UnfitPatch(app, unfit...)
	case 1:
		return all, errs[0]
	}
	return all, errors.Join(errs...)
}

// unknownCluster is for commands that work without one: some recent Kubernetes.
func unknownCluster(version string) facts {
	return func(context.Context, string) (belay.ClusterFacts, error) {
		return belay.ClusterFacts{Version: version}, nil
	}
}

// problems takes an error of a render apart.
func problems(err error, app *belay.Application) []belay.Error {
	var out []belay.Error
	for _, p := range render.Problems(err) {
		e := *p
		e.Application = cmp.Or(e.Application, app.Name)
		if e.Origin.File == "" {
			e.Origin = app.Origin
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		out = append(out, belay.Error{Code: belay.CodeInternal, Message: err.Error(), Application: app.Name, Origin: app.Origin})
	}
	return out
}
