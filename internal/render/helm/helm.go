// Package helm renders Helm charts that lie in the repository.
//
// It is `helm template` without its side doors: no cluster behind lookup, no
// name resolution, no files but the chart's, no schema fetched from elsewhere.
// It must not touch the disk or the network.
package helm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/manifest"
	"github.com/belaydev/belay/internal/render/wire"
)

// Kind is what an Output of this package calls itself.
const Kind = "helm"

const (
	hookAnnotation   = "helm.sh/hook"
	policyAnnotation = "helm.sh/resource-policy"
)

// Render renders the chart at the job's path: its CRDs first, then the
// templates by path. Notes are left out. Hooks come out as they are; what they
// are for is read by [belay.NewObject]. An object that Helm is told to keep gets
// Belay's annotation for that.
func Render(tree wire.Tree, job wire.Job) *wire.Output {
	out := &wire.Output{Kind: Kind}
	tree = wire.Remember(tree)
	root := path.Clean(job.Source.Path)
	opts := job.Source.Helm
	if opts == nil {
		opts = &belay.HelmSource{}
	}
	c := &charts{tree: tree, out: out, files: map[*common.File]string{}, ahead: valuesPaths(root, opts)}
	tree.Look(wire.Question{Stat: []string{root, path.Join(root, "Chart.yaml")}, List: []string{root}})
	if !isChart(tree, out, root) {
		return out
	}
	ch := c.dir(root)
	if ch == nil {
		return out
	}
	values, ok := c.userValues(root, opts)
	if !c.complete(root, ch) || !ok {
		return out
	}
	r := &run{charts: c, root: root, chart: ch, user: values}
	if !r.prepare(job, opts) {
		return out
	}
	if !opts.SkipCRDs {
		r.crds()
	}
	r.templates()
	return out
}

func isChart(tree wire.Tree, out *wire.Output, root string) bool {
	file := path.Join(root, "Chart.yaml")
	sts := tree.Stat(root, file)
	switch {
	case sts[0].Err != nil:
		out.Fail(wire.Problem{Code: belay.CodeNotFound, Message: fmt.Sprintf("the path %q does not exist in the repository", root),
			Hint: "correct spec.source.path of the Application, or commit the chart"})
	case sts[1].Err != nil || sts[1].Dir:
		out.Fail(wire.Problem{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no Chart.yaml in %q", root),
			Hint: "let spec.source.path name the directory of the chart"})
	default:
		return true
	}
	return false
}

// run is one rendering of a loaded chart.
type run struct {
	*charts
	root  string
	chart *chart.Chart
	user  map[string]any
	// top is what templates see.
	top common.Values
	// templatePaths and templateText are by the name Helm gives a template.
	templatePaths map[string]string
	templateText  map[string][]byte
}

// prepare does what Helm does before the first template runs.
func (r *run) prepare(job wire.Job, opts *belay.HelmSource) bool {
	meta := r.chart.Metadata
	chartYAML := path.Join(r.root, "Chart.yaml")
	fail := func(message, hint string) bool {
		r.out.Fail(wire.Problem{File: chartYAML, Message: message, Hint: hint})
		return false
	}
	r.out.UsesCapabilities = r.capabilities || meta.KubeVersion != ""
	if strings.EqualFold(meta.Type, "library") {
		return fail("a library chart renders nothing by itself", "use it as a dependency of an application chart")
	}
	if meta.Deprecated {
		r.out.Warn("%s: the chart %s is marked as deprecated", chartYAML, meta.Name)
	}
	name := opts.ReleaseName
	if name == "" {
		name = job.Application
	}
	if chartutil.ValidateReleaseName(name) != nil {
		return fail(fmt.Sprintf("%q cannot be a release name: Helm allows 53 lower-case letters, digits, '-' and '.'", name),
			"set spec.source.helm.releaseName")
	}
	caps := common.DefaultCapabilities.Copy()
	if job.KubeVersion != "" {
		v, err := common.ParseKubeVersion(job.KubeVersion)
		if err != nil {
			r.out.Fail(wire.Problem{Code: belay.CodeInternal, Message: "the cluster's version cannot be read"})
			return false
		}
		caps.KubeVersion = *v
	}
	if len(job.APIVersions) > 0 {
		caps.APIVersions = job.APIVersions
	}
	if meta.KubeVersion != "" && !chartutil.IsCompatibleRange(meta.KubeVersion, caps.KubeVersion.String()) {
		return fail(fmt.Sprintf("the chart wants Kubernetes %s, and the cluster is %s", meta.KubeVersion, caps.KubeVersion.Version), "")
	}
	if err := chartutil.ProcessDependencies(r.chart, r.user); err != nil {
		return fail("its dependencies cannot be processed: "+belay.Scrub(err.Error(), secretValues(r.user, true)), "")
	}
	ns := job.Namespace
	if ns == "" {
		ns = "default"
	}
	release := common.ReleaseOptions{Name: name, Namespace: ns, Revision: 1, IsInstall: true}
	top, err := util.ToRenderValuesWithSchemaValidation(r.chart, r.user, release, caps, true)
	if err != nil {
		return fail("its values cannot be merged", "look for a value that is a mapping in one place and a text in another")
	}
	r.top = top
	if values, ok := top["Values"].(common.Values); ok {
		r.checkSchemas(r.root, r.chart, values)
	} else if values, ok := top["Values"].(map[string]any); ok {
		r.checkSchemas(r.root, r.chart, values)
	}
	r.index(r.chart)
	return len(r.out.Problems) == 0
}

// index notes the template names of the charts that are in use.
func (r *run) index(ch *chart.Chart) {
	if r.templatePaths == nil {
		r.templatePaths, r.templateText = map[string]string{}, map[string][]byte{}
	}
	for _, t := range ch.Templates {
		name := path.Join(ch.ChartFullPath(), t.Name)
		r.templatePaths[name] = r.files[t]
		r.templateText[name] = t.Data
	}
	for _, d := range ch.Dependencies() {
		r.index(d)
	}
}

// crds adds the files of crds/, which are not templates.
func (r *run) crds() {
	objs := r.chart.CRDObjects()
	slices.SortStableFunc(objs, func(a, b chart.CRD) int { return strings.Compare(a.Filename, b.Filename) })
	for _, crd := range objs {
		file := r.files[crd.File]
		for _, d := range manifest.Split(crd.File.Data) {
			items, err := d.LenientManifests()
			if err != nil {
				p := manifest.Problem(file, err)
				if strings.HasSuffix(file, ".tgz") {
					p.Line = 0
				}
				r.out.Fail(p)
				break
			}
			for _, it := range items {
				line := it.Line
				if strings.HasSuffix(file, ".tgz") {
					line = 0
				}
				r.out.Add(file, line, it.Manifest)
			}
		}
	}
}

// templates runs the templates and adds what comes out.
func (r *run) templates() {
	rendered, err := engine.Engine{}.RenderWithContext(context.Background(), r.chart, r.top)
	if err != nil {
		r.explain(err)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if !strings.HasSuffix(name, "NOTES.txt") {
			r.output(name, rendered[name])
		}
	}
	r.unstable()
}

// separator is Helm's own: charts rely on it to split "---apiVersion: v1".
var separator = regexp.MustCompile(`(?m)^---[ \t]*`)

// output adds the manifests of one template.
func (r *run) output(name, text string) {
	file := r.templatePaths[name]
	text = strings.TrimLeftFunc(text, unicode.IsSpace)
	for _, part := range separator.Split(text, -1) {
		part = strings.TrimLeftFunc(part, unicode.IsSpace)
		if part == "" {
			continue
		}
		d := manifest.One([]byte(part))
		items, err := d.Manifests()
		if me, ok := errors.AsType[*manifest.Error](err); ok && me.Duplicate {
			// Helm lets the last one win, and charts in the wild depend on it.
			r.out.Warn("%s: %s in the output; the last one counts", file, me.Problem)
			items, err = d.LenientManifests()
		}
		if err != nil {
			p := manifest.Problem(file, err)
			p.Message = fmt.Sprintf("the output of the template is wrong: %s", p.Message)
			if p.Line > 0 {
				p.Message += fmt.Sprintf(" (line %d of a document in the output)", p.Line)
			}
			p.Line = 0
			p.Hint = strings.TrimPrefix(p.Hint+"; see the output with \"helm template --debug\"", "; ")
			r.out.Fail(p)
			return
		}
		for _, it := range items {
			r.out.Add(file, 0, adapt(it.Manifest))
		}
	}
}

type head struct {
	Metadata struct {
		Annotations map[string]any `json:"annotations"`
	} `json:"metadata"`
}

// adapt carries Helm's "keep" over. A hook lives by its delete policy instead.
func adapt(j []byte) []byte {
	if !bytes.Contains(j, []byte(policyAnnotation)) {
		return j
	}
	var h head
	if json.Unmarshal(j, &h) != nil {
		return j
	}
	if v, ok := h.Metadata.Annotations[policyAnnotation].(string); !ok || !strings.EqualFold(strings.TrimSpace(v), "keep") {
		return j
	}
	for _, name := range []string{belay.AnnotationPrune, hookAnnotation} {
		if _, ok := h.Metadata.Annotations[name]; ok {
			return j
		}
	}
	var m map[string]any
	dec := json.NewDecoder(bytes.NewReader(j))
	dec.UseNumber()
	if dec.Decode(&m) != nil {
		return j
	}
	m["metadata"].(map[string]any)["annotations"].(map[string]any)[belay.AnnotationPrune] = "disabled"
	out, err := json.Marshal(m)
	if err != nil {
		return j
	}
	return out
}

var unstableFunc = regexp.MustCompile(`\b(randAlphaNum|randAlpha|randNumeric|randAscii|randBytes|randInt|uuidv4|genPrivateKey|genCA|genCAWithKey|genSelfSignedCert|genSelfSignedCertWithKey|genSignedCert|genSignedCertWithKey|htpasswd|bcrypt|now)\b`)

// action is the code in a template, where a word is a function and not prose.
var action = regexp.MustCompile(`(?s)\{\{.*?\}\}`)

// unstable warns of templates that give another output each time.
func (r *run) unstable() {
	for _, name := range slices.Sorted(maps.Keys(r.templateText)) {
		for _, code := range action.FindAll(r.templateText[name], -1) {
			if bytes.HasPrefix(code, []byte("{{/*")) || bytes.HasPrefix(code, []byte("{{- /*")) {
				continue
			}
			if f := unstableFunc.Find(code); f != nil {
				r.out.Warn("%s uses %s, which gives another result each time the chart is rendered", r.templatePaths[name], f)
				break
			}
		}
	}
}
