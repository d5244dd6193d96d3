package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belaydev/belay/internal/xec"
)

// kinds are what an application can be made with; of a mix, each third is one.
var kinds = []string{"kustomize", "plain", "helm", "mix"}

func checkKind(kind string) error {
	if !slices.Contains(kinds, kind) {
		return fmt.Errorf("--kind is one of %s, not %q", strings.Join(kinds, ", "), kind)
	}
	return nil
}

// labelFleet tells the objects of Belay from those of the raw loop.
const labelFleet = "bench.belay.dev/fleet"

const (
	fleetBelay = "belay"
	fleetRaw   = "raw"
)

// resources of an application, in the order of objectsOf.
var resources = []struct{ group, version, plural string }{
	{"", "v1", "configmaps"}, {"apps", "v1", "deployments"}, {"", "v1", "services"}, {"", "v1", "serviceaccounts"},
}

// objectsOf are the four objects of an application. The Deployment asks for no
// pods: what the control plane does with pods is the same whoever applied it, and
// would only take the processors from what is measured.
func objectsOf(fleet, value, shared string) []map[string]any {
	meta := func() map[string]any {
		return map[string]any{"name": "web", "labels": map[string]any{"app": "web", labelFleet: fleet}}
	}
	app := map[string]any{"app": "web"}
	return []map[string]any{
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(), "data": map[string]any{"value": value, "shared": shared}},
		{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(), "spec": map[string]any{
			"replicas": 0,
			"selector": map[string]any{"matchLabels": app},
			"template": map[string]any{
				"metadata": map[string]any{"labels": app},
				"spec": map[string]any{
					"serviceAccountName": "web",
					"containers": []any{map[string]any{
						"name": "web", "image": "example.test/web:1.4.0",
						"ports":     []any{map[string]any{"containerPort": 8080}},
						"envFrom":   []any{map[string]any{"configMapRef": map[string]any{"name": "web"}}},
						"resources": map[string]any{"requests": map[string]any{"cpu": "50m", "memory": "64Mi"}},
					}},
				},
			},
		}},
		{"apiVersion": "v1", "kind": "Service", "metadata": meta(), "spec": map[string]any{
			"selector": app, "ports": []any{map[string]any{"port": 80, "targetPort": 8080}}}},
		{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta()},
	}
}

// layouts are how a fleet is spread over repositories.
var layouts = []string{layoutMono, layoutMany}

const (
	// layoutMono has everything in one repository, the definitions too.
	layoutMono = "monorepo"
	// layoutMany has the definitions in one repository and the applications in
	// others: one each, up to mostRepositories, over which more are spread.
	layoutMany = "many"
)

// mostRepositories bounds the layout "many": as many as a large organization
// has teams.
const mostRepositories = 100

func checkLayout(layout string) error {
	if !slices.Contains(layouts, layout) {
		return fmt.Errorf("--layout is one of %s, not %q", strings.Join(layouts, ", "), layout)
	}
	return nil
}

// repositoriesOf is how many repositories a layout has beside that of the
// definitions; 0 is none.
func repositoriesOf(layout string, apps int) int {
	if layout == layoutMany {
		return min(apps, mostRepositories)
	}
	return 0
}

// fleet is the content of the repositories. The ConfigMap of each application has
// a value of its own and one that it shares with all others.
type fleet struct {
	apps   int
	kind   string
	prefix string // of namespaces
	values []string
	shared string
	// urls of the repositories that the applications are in; none when they are
	// in the one that has the definitions.
	urls []string
}

func newFleet(apps int, kind, prefix string) *fleet {
	return &fleet{apps: apps, kind: kind, prefix: prefix, values: slices.Repeat([]string{"0"}, apps), shared: "0"}
}

func (f *fleet) name(i int) string { return fmt.Sprintf("app-%05d", i) }

func (f *fleet) namespace(fleet string, i int) string {
	return fmt.Sprintf("%s-%s-%05d", f.prefix, fleet, i)
}

func (f *fleet) kindOf(i int) string {
	if f.kind == "mix" {
		return kinds[i%3]
	}
	return f.kind
}

// repositories is over how many the applications are spread.
func (f *fleet) repositories() int { return max(1, len(f.urls)) }

func (f *fleet) repositoryOf(i int) int { return i % f.repositories() }

// in lists the applications of a repository.
func (f *fleet) in(repository int) []int {
	var out []int
	for i := repository; i < f.apps; i += f.repositories() {
		out = append(out, i)
	}
	return out
}

// files are all files of the repository with the definitions.
func (f *fleet) files() map[string]string {
	out := map[string]string{}
	for i := range f.apps {
		name, source := f.name(i), "path: apps/"+f.name(i)
		if f.kindOf(i) == "helm" {
			source = "path: charts/web, helm: {valuesFiles: [/values/" + name + ".yaml]}"
		}
		if len(f.urls) > 0 {
			source = "repo: " + strconv.Quote(f.urls[f.repositoryOf(i)]) + ", " + source
		}
		out["belay/"+name+".yaml"] = fmt.Sprintf(
			"apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: %s}\nspec:\n  source: {%s}\n  destination: {namespace: %s}\n",
			name, source, f.namespace(fleetBelay, i))
	}
	if len(f.urls) == 0 {
		maps.Copy(out, f.content(0))
	}
	return out
}

// content are the files that the applications of one repository are made from.
func (f *fleet) content(repository int) map[string]string {
	out := map[string]string{}
	used := map[string]bool{}
	for _, i := range f.in(repository) {
		maps.Copy(out, f.own(i))
		used[f.kindOf(i)] = true
		for j, r := range resources[1:] {
			if f.kindOf(i) == "plain" {
				out["apps/"+f.name(i)+"/"+r.plural+".yaml"] = encode(objectsOf(fleetBelay, "", "")[j+1])
			}
		}
	}
	if used["kustomize"] {
		out["base/kustomization.yaml"] = "resources: [configmaps.yaml, deployments.yaml, services.yaml, serviceaccounts.yaml]\n"
		for j, r := range resources[1:] {
			out["base/"+r.plural+".yaml"] = encode(objectsOf(fleetBelay, "", "")[j+1])
		}
	}
	if used["helm"] {
		out["charts/web/Chart.yaml"] = "apiVersion: v2\nname: web\nversion: 1.0.0\n"
		config := strings.NewReplacer("VALUE", "{{ .Values.value }}", "SHARED", "{{ .Values.shared }}")
		for j, r := range resources {
			out["charts/web/templates/"+r.plural+".yaml"] = config.Replace(encode(objectsOf(fleetBelay, "VALUE", "SHARED")[j]))
		}
	}
	maps.Copy(out, f.common(repository))
	return out
}

// own is the file that only this application is made from.
func (f *fleet) own(i int) map[string]string {
	name, value := f.name(i), f.values[i]
	switch f.kindOf(i) {
	case "plain":
		return map[string]string{"apps/" + name + "/configmaps.yaml": encode(objectsOf(fleetBelay, value, f.shared)[0])}
	case "helm":
		return map[string]string{"values/" + name + ".yaml": "value: " + strconv.Quote(value) + "\n"}
	default:
		return map[string]string{
			"apps/" + name + "/kustomization.yaml": "resources: [../../base]\npatches: [{path: config.yaml}]\n",
			"apps/" + name + "/config.yaml":        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {value: " + strconv.Quote(value) + "}\n",
		}
	}
}

// common are the files of a repository that hold the shared value.
func (f *fleet) common(repository int) map[string]string {
	out := map[string]string{}
	for _, i := range f.in(repository) {
		switch f.kindOf(i) {
		case "plain": // nothing is shared between plain directories
			maps.Copy(out, f.own(i))
		case "kustomize":
			if _, ok := out["base/configmaps.yaml"]; ok {
				continue
			}
			base := objectsOf(fleetBelay, "", f.shared)[0]
			base["data"] = map[string]any{"shared": f.shared}
			out["base/configmaps.yaml"] = encode(base)
		case "helm":
			out["charts/web/values.yaml"] = "value: \"\"\nshared: " + strconv.Quote(f.shared) + "\n"
		}
	}
	return out
}

// encode makes YAML of an object: its JSON, which is YAML too.
func encode(object map[string]any) string { return string(mustJSON(object)) + "\n" }

func mustJSON(object map[string]any) []byte {
	b, err := json.MarshalIndent(object, "", "  ")
	if err != nil {
		panic(err) // maps of strings, made here
	}
	return b
}

// repository is the bare repository that Belay follows.
type repository struct{ dir string }

func makeRepository(ctx context.Context, dir string) (*repository, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the repository: %w", err)
	}
	r := &repository{dir}
	return r, r.git(ctx, "", "init", "--quiet", "--bare", "--template=", "--initial-branch=main", ".")
}

func (r *repository) url() string { return "file://" + r.dir }

// commit puts files on top of main, through fast-import: one process, whatever
// the size. When it returns, main has moved.
func (r *repository) commit(ctx context.Context, subject string, files map[string]string) error {
	var b strings.Builder
	who := fmt.Sprintf("Bench <bench@example.org> %d +0000", time.Now().Unix())
	fmt.Fprintf(&b, "commit refs/heads/main\nauthor %s\ncommitter %s\ndata %d\n%s\n", who, who, len(subject), subject)
	if _, err := os.Stat(r.dir + "/refs/heads/main"); err == nil {
		fmt.Fprintf(&b, "from refs/heads/main^0\n")
	}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&b, "M 100644 inline %s\ndata %d\n%s\n", p, len(files[p]), files[p])
	}
	b.WriteString("done\n")
	return r.git(ctx, b.String(), "fast-import", "--quiet", "--done")
}

// follow brings a copy of another repository up to date, as Git alone does it.
func (r *repository) follow(ctx context.Context, other *repository) error {
	return r.git(ctx, "", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", other.url(), "+refs/heads/*:refs/heads/*")
}

func (r *repository) git(ctx context.Context, input string, args ...string) error {
	err := xec.Command{
		Path: "git", Args: args, Dir: r.dir, Inherit: []string{"PATH"}, Stdin: strings.NewReader(input),
		Env: []string{"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "LC_ALL=C"},
	}.Run(ctx)
	if err != nil {
		return fmt.Errorf("in the repository: %w", err)
	}
	return nil
}
