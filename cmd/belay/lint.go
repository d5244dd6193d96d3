package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
	"github.com/belaydev/belay/internal/term"
)

const lintLong = `Checks the whole repository as it is on disk, without a server or a cluster: every
definition, and every application that is rendered from this repository. It
finds what cannot be read or rendered, objects that are declared twice, and what
a project does not allow, each with file and line.

Applications whose files stand in another repository, at another ref or in a
registry, or that name such files, are named and not rendered. What an
ApplicationSet makes is checked like what is written; its count is named, and
with --show-generated the applications, too.

The exit code is 0 when nothing is wrong and 1 otherwise. With "-o json" the
output is {"applications": N, "objects": N, "sets": [{"name", "applications"}],
"skipped": [...], "problems": [...]}.`

const lintExample = `  belay lint
  belay lint --dir ~/src/fleet --path clusters/
  belay lint -o json | jq -r '.problems[].message'`

// lintReport is the documented form of what lint found.
type lintReport struct {
	Applications int           `json:"applications"`
	Objects      int           `json:"objects"`
	Hooks        int           `json:"hooks,omitempty"`
	Sets         []lintSet     `json:"sets"`
	Skipped      []string      `json:"skipped"`
	Problems     []belay.Error `json:"problems"`
}

// lintSet is what an ApplicationSet makes.
type lintSet struct {
	Name         string   `json:"name"`
	Applications []string `json:"applications"`
}

func newLint(env *env) *cobra.Command {
	var w workdirFlags
	var kubeVersion string
	var showGenerated bool
	cmd := &cobra.Command{Use: "lint", Short: "Check a repository without a cluster", Long: lintLong, Example: lintExample, Args: cobra.NoArgs}
	out := addOutput(cmd)
	w.add(cmd)
	cmd.Flags().StringVar(&kubeVersion, "kube-version", "", "Kubernetes version that charts are told (default: a recent one)")
	cmd.Flags().BoolVar(&showGenerated, "show-generated", false, "name the applications that ApplicationSets make")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := w.open(cmd.Context())
		if err != nil {
			return err
		}
		defer dir.Close()
		r, err := lint(cmd.Context(), dir, unknownCluster(kubeVersion))
		if err != nil {
			return err
		}
		if *out != outputTable {
			err = env.write(*out, r)
		} else {
			env.printLint(r, showGenerated)
		}
		if err == nil && len(r.Problems) > 0 {
			return errFound
		}
		return err
	}
	return cmd
}

func (e *env) printLint(r *lintReport, showGenerated bool) {
	p := e.printer()
	for i := range r.Problems {
		pr := &r.Problems[i]
		fmt.Fprintf(e.stdout, "%s %s\n", p.Paint(term.Red, "error:"), cleanLines(term.ErrorLine(pr)))
		if pr.Hint != "" {
			fmt.Fprintf(e.stdout, "  %s %s\n", p.Paint(term.Bold, "hint:"), cleanLines(pr.Hint))
		}
	}
	for _, s := range r.Sets {
		fmt.Fprintf(e.stdout, "ApplicationSet %s makes %s\n", term.Clean(s.Name), term.Count(len(s.Applications), "application"))
		for _, name := range s.Applications {
			if showGenerated {
				fmt.Fprintf(e.stdout, "  - %s\n", term.Clean(name))
			}
		}
	}
	if len(r.Skipped) > 0 {
		fmt.Fprintf(e.stdout, "not rendered, their files stand elsewhere: %s\n", strings.Join(r.Skipped, ", "))
	}
	objects := term.Count(r.Objects, "object")
	if r.Hooks > 0 {
		objects += " and " + term.Count(r.Hooks, "hook")
	}
	fmt.Fprintf(e.stdout, "%s with %s: %s\n", term.Count(r.Applications, "application"), objects, term.Count(len(r.Problems), "problem"))
}

// lint checks everything that can be checked without a cluster.
func lint(ctx context.Context, w *workdir, known facts) (*lintReport, error) {
	r := &lintReport{Applications: len(w.catalog.Applications), Skipped: []string{}, Problems: []belay.Error{}, Sets: []lintSet{}}
	r.addSets(w)
	r.Problems = append(r.Problems, w.catalog.Problems...)
	all, err := w.applications(nil)
	if err != nil {
		return nil, err
	}
	var apps []*belay.Application
	for _, app := range all {
		switch {
		case w.catalog.ApplicationErrors[app.Name] != nil: // among the problems already
		case !w.here(app):
			r.Skipped = append(r.Skipped, app.Name)
		default:
			apps = append(apps, app)
		}
	}
	results, errs, err := w.renderAll(ctx, apps, known)
	if err != nil {
		return nil, err
	}
	var every []belay.Object
	for i := range results {
		every = append(every, results[i].Objects...)
	}
	cf := offlineFacts(every)
	scopes := plan.NewScopes(&cf, every)
	seen := map[string]declaration{}
	for i, app := range apps {
		if errors.Is(errs[i], errElsewhere) {
			r.Skipped = append(r.Skipped, app.Name)
			continue
		}
		if errs[i] != nil {
			r.Problems = append(r.Problems, problems(errs[i], app)...)
			continue
		}
		kept, hooks := plan.SplitHooks(results[i].Objects)
		r.Objects, r.Hooks = r.Objects+len(kept), r.Hooks+len(hooks)
		r.Problems = append(r.Problems, check(w, app, results[i].Objects, scopes, seen)...)
	}
	slices.Sort(r.Skipped)
	slices.SortStableFunc(r.Problems, func(a, b belay.Error) int {
		return cmp.Or(strings.Compare(a.Origin.File, b.Origin.File), cmp.Compare(a.Origin.Line, b.Origin.Line), strings.Compare(a.Message, b.Message))
	})
	r.Problems = slices.CompactFunc(r.Problems, func(a, b belay.Error) bool { return a.Error() == b.Error() })
	return r, nil
}

// addSets notes what sets make. One that reads another repository makes nothing
// here, and is skipped.
func (r *lintReport) addSets(w *workdir) {
	sets := w.catalog.Sets()
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		s := lintSet{Name: name, Applications: sets[name].Applications}
		if s.Applications == nil {
			s.Applications = []string{}
		}
		r.Sets = append(r.Sets, s)
		if len(sets[name].Elsewhere) > 0 {
			r.Skipped = append(r.Skipped, "ApplicationSet "+name)
		}
	}
}

type declaration struct {
	app string
	at  belay.Origin
}

// check finds what is wrong with the objects of one application: declared
// twice, here or by another application of the same cluster, or not allowed.
func check(w *workdir, app *belay.Application, objects []belay.Object, scopes plan.Scopes, seen map[string]declaration) []belay.Error {
	var out []belay.Error
	placed, unresolved := plan.Resolve(objects, scopes, app.Spec.Destination.Namespace)
	for i := range unresolved {
		out = append(out, *unresolved[i].Err)
	}
	project, ok := w.catalog.Projects[app.Spec.Project]
	if !ok {
		project = belay.OpenProject()
	}
	for i := range placed {
		o := &placed[i]
		if _, err := project.Permit(app, app.Spec.Destination.Cluster, o.ID, o.ID.Namespace != ""); err != nil {
			e := *err.(*belay.Error) //nolint:errorlint,forcetypeassert // the only type that Permit returns
			e.Origin = o.Origin
			out = append(out, e)
		}
		key := app.Spec.Destination.Cluster + "/" + belay.FormatID("", o.ID)
		if first, dup := seen[key]; dup {
			out = append(out, belay.Error{Code: belay.CodeInvalid, Application: app.Name, Object: o.ID.String(), Origin: o.Origin,
				Message: fmt.Sprintf("declared by application %q and by %q in %s", app.Name, first.app, first.at),
				Hint:    "declare it in one application only"})
			continue
		}
		seen[key] = declaration{app.Name, o.Origin}
	}
	return out
}

// clusterScoped are the built-in kinds without a namespace, as of Kubernetes 1.36.
var clusterScoped = map[string][]string{
	"":                             {"Namespace", "Node", "PersistentVolume"},
	"admissionregistration.k8s.io": {"*"},
	"apiextensions.k8s.io":         {"*"},
	"apiregistration.k8s.io":       {"*"},
	"certificates.k8s.io":          {"CertificateSigningRequest", "ClusterTrustBundle"},
	"flowcontrol.apiserver.k8s.io": {"*"},
	"networking.k8s.io":            {"IngressClass", "IPAddress", "ServiceCIDR"},
	"node.k8s.io":                  {"*"},
	"rbac.authorization.k8s.io":    {"ClusterRole", "ClusterRoleBinding"},
	"resource.k8s.io":              {"DeviceClass", "ResourceSlice"},
	"scheduling.k8s.io":            {"PriorityClass"},
	"storage.k8s.io":               {"StorageClass", "CSIDriver", "CSINode", "VolumeAttachment", "VolumeAttributesClass"},
}

// offlineFacts takes every kind for served, and for namespaced unless it is
// known not to be; definitions among the objects know better.
func offlineFacts(objects []belay.Object) belay.ClusterFacts {
	declared := plan.NewScopes(&belay.ClusterFacts{}, objects)
	kinds := map[belay.VersionKind]belay.KindFacts{}
	for i := range objects {
		o := &objects[i]
		namespaced, known := declared.Namespaced(o)
		if !known {
			names := clusterScoped[o.ID.Group]
			namespaced = !slices.Contains(names, o.ID.Kind) && !slices.Contains(names, "*")
		}
		kinds[belay.VersionKind{APIVersion: o.APIVersion, Kind: o.ID.Kind}] = belay.KindFacts{Namespaced: namespaced}
	}
	return belay.ClusterFacts{Kinds: kinds}
}
