package kustomize

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	yaml3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/types"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/manifest"
	"github.com/belaydev/belay/internal/render/wire"
)

// layer is one kustomization of the build: the overlay itself, a base, a component.
type layer struct {
	dir  string // of the kustomization, within the Tree
	file string
	text []byte
	node *yaml3.Node // of the mapping; nil when the file could not be read twice
	k    types.Kustomization
	// patches of all three fields that may hold them.
	patches []patch
	bases   []string
	// remotes are entries that lie in other repositories, and the paths where they
	// are seen, relative to dir.
	remotes map[string]string
}

// patch is one patch of a kustomization: in a file, or written inline.
type patch struct {
	field  string
	index  int
	path   string
	inline string
}

// reference is a path that a kustomization names.
type reference struct {
	field string
	path  string // as written
	line  int
	dir   bool // may be another kustomization
	file  bool // may be a file
}

// inspector walks the kustomizations of a build before Kustomize does. It finds
// what is missing or not supported while file and line are still known, and
// fetches what Kustomize will read with a few questions instead of hundreds.
type inspector struct {
	src    *source
	out    *wire.Output
	layers []*layer
	seen   map[string]bool
	// resources are the files named in resources, for lines and diagnosis.
	resources []string
}

const maxLayers = 1000

// visit inspects the kustomization in dir, which chain leads to. by is the
// place that names it.
func (in *inspector) visit(dir string, chain []string, by wire.Problem) {
	if slices.Contains(chain, dir) {
		by.Message = fmt.Sprintf("a cycle: %s", strings.Join(append(chain[slices.Index(chain, dir):], dir), " uses "))
		in.out.Fail(by)
		return
	}
	if in.seen[dir] {
		return
	}
	in.seen[dir] = true
	if len(in.layers) >= maxLayers {
		by.Message = fmt.Sprintf("the build has more than %d kustomizations", maxLayers)
		in.out.Fail(by)
		return
	}
	l := in.load(dir, by)
	if l == nil {
		return
	}
	in.layers = append(in.layers, l)
	for _, w := range *l.k.CheckDeprecatedFields() {
		w = strings.TrimPrefix(w, "# Warning: ")
		w, _, _ = strings.Cut(w, ". Please")
		w, _, _ = strings.Cut(w, " Run 'kustomize")
		in.out.Warn("%s: %s", l.file, w)
	}
	in.unsupported(l)
	if len(l.k.OpenAPI) > 0 || len(l.k.Crds) > 0 {
		// Both change what the whole process knows of every kind.
		in.out.Retire = true
	}
	in.follow(l, append(chain, dir))
}

// load finds and reads the kustomization file of a directory; nil after a problem.
func (in *inspector) load(dir string, by wire.Problem) *layer {
	paths := wire.KustomizationNames(dir)
	in.src.Read(paths...)
	var found []string
	for i, st := range in.src.Stat(paths...) {
		if st.Err == nil && !st.Dir {
			found = append(found, paths[i])
		}
	}
	switch len(found) {
	case 1:
	case 0:
		by.Message = fmt.Sprintf("there is no kustomization.yaml in %q", dir)
		by.Hint = "add one, or name files instead of the directory"
		in.out.Fail(by)
		return nil
	default:
		in.out.Fail(wire.Problem{File: found[1], Message: fmt.Sprintf("the directory has another kustomization: %s", path.Base(found[0])), Hint: "keep one of them"})
		return nil
	}
	l := &layer{dir: dir, file: found[0]}
	c := in.src.Read(l.file)[0]
	if c.Err != nil {
		in.out.Fail(wire.ProblemOf(c.Err, "", 0))
		return nil
	}
	l.text = c.Data
	docs := manifest.Split(c.Data)
	if len(docs) != 1 {
		in.out.Fail(wire.Problem{File: l.file, Message: fmt.Sprintf("a kustomization must be one YAML document, not %d", len(docs))})
		return nil
	}
	if _, err := docs[0].JSON(); err != nil {
		in.out.Fail(manifest.Problem(l.file, err))
		return nil
	}
	var root yaml3.Node
	if yaml3.Unmarshal(c.Data, &root) == nil && len(root.Content) == 1 && root.Content[0].Kind == yaml3.MappingNode {
		l.node = root.Content[0]
	}
	if err := l.k.Unmarshal(c.Data); err != nil {
		in.out.Fail(l.decodeProblem(err))
		return nil
	}
	l.legacy()
	if kind := l.k.Kind; kind != "" && kind != types.KustomizationKind && kind != types.ComponentKind {
		in.out.Fail(wire.Problem{File: l.file, Line: l.line("kind"), Message: fmt.Sprintf("kind must be Kustomization or Component, not %s", kind)})
		return nil
	}
	return l
}

// legacy gathers what deprecated fields say as well: people go on using them,
// and Kustomize goes on reading them.
func (l *layer) legacy() {
	for i, p := range l.k.Patches {
		l.patches = append(l.patches, patch{"patches", i, p.Path, p.Patch})
	}
	for i, p := range l.k.PatchesJson6902 { //nolint:staticcheck // deprecated, not gone
		l.patches = append(l.patches, patch{"patchesJson6902", i, p.Path, p.Patch})
	}
	for i, p := range l.k.PatchesStrategicMerge { //nolint:staticcheck // deprecated, not gone
		if s := string(p); strings.ContainsAny(s, "\n{") {
			l.patches = append(l.patches, patch{"patchesStrategicMerge", i, "", s})
		} else {
			l.patches = append(l.patches, patch{"patchesStrategicMerge", i, s, ""})
		}
	}
	l.bases = l.k.Bases //nolint:staticcheck // deprecated, not gone
}

var unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)

// wrongType is what encoding/json says of a value of another type; it goes on
// with the field's name.
var wrongType = regexp.MustCompile(`cannot unmarshal (\w+) into Go struct field \w*\.?([\w.]+) of type (\S+)`)

func (l *layer) decodeProblem(err error) wire.Problem {
	p := wire.Problem{File: l.file, Message: "not a valid kustomization"}
	if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
		p.Message = fmt.Sprintf("a kustomization has no field %q", m[1])
		p.Line = l.find(m[1])
		if near := nearest(m[1], fieldNames()); near != "" {
			p.Hint = fmt.Sprintf("did you mean %q?", near)
		}
	} else if m := wrongType.FindStringSubmatch(err.Error()); m != nil {
		want := "a " + strings.TrimPrefix(m[3], "types.")
		switch {
		case strings.HasPrefix(m[3], "[]"):
			want = "a list"
		case strings.HasPrefix(m[3], "map["), strings.HasPrefix(m[3], "types."):
			want = "a mapping"
		}
		field := strings.NewReplacer("GeneratorArgs.", "", "KvPairSources.", "").Replace(m[2]) // how Kustomize nests its types
		is := map[string]string{"object": "a mapping", "array": "a list", "string": "a text", "bool": "a boolean"}[m[1]]
		p.Message = fmt.Sprintf("%s must be %s, but is %s", field, want, cmp.Or(is, "a "+m[1]))
		p.Line = l.find(m[2][strings.LastIndexByte(m[2], '.')+1:])
	}
	return p
}

// fieldNames are the names a kustomization may use at its top.
func fieldNames() []string {
	var names []string
	t := reflect.TypeFor[types.Kustomization]()
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" {
			names = append(names, name)
		}
	}
	return append(names, "apiVersion", "kind")
}

func (in *inspector) unsupported(l *layer) {
	fail := func(field, hint string) {
		in.out.Fail(wire.Problem{File: l.file, Line: l.line(field), Message: field + " is not supported", Hint: hint})
	}
	const helm = "make the chart an Application of its own with spec.source.helm"
	if len(l.k.HelmCharts) > 0 || l.k.HelmGlobals != nil {
		fail("helmCharts", helm)
	}
	if len(l.k.HelmChartInflationGenerator) > 0 {
		fail("helmChartInflationGenerator", helm)
	}
}

// follow checks and fetches what the kustomization names, then visits the
// directories among it.
func (in *inspector) follow(l *layer, chain []string) {
	var local []reference
	var paths []string
	for _, r := range l.references() {
		at := wire.Problem{File: l.file, Line: r.line}
		switch p := path.Join(l.dir, r.path); {
		case remote(r.path):
			if p, ok := in.elsewhere(l, r); ok {
				local, paths = append(local, r), append(paths, p)
			}
		case path.IsAbs(r.path):
			at.Message = fmt.Sprintf("%s names the absolute path %q", r.field, r.path)
			at.Hint = "make it relative to " + l.dir
			in.out.Fail(at)
		case outside(p), strays(l.dir, p):
			at.Message = fmt.Sprintf("%s names %q, which is outside the repository", r.field, r.path)
			in.out.Fail(at)
		default:
			local, paths = append(local, r), append(paths, p)
		}
	}
	in.rewrite(l)
	if len(paths) == 0 {
		return
	}
	var dirs []string
	var places []wire.Problem
	in.fetch(local, paths)
	for i, st := range in.src.Stat(paths...) {
		r := local[i]
		at := wire.Problem{File: l.file, Line: r.line}
		switch {
		case errors.Is(st.Err, fs.ErrNotExist):
			at.Code = belay.CodeInvalid
			at.Message = fmt.Sprintf("%s names %q, which does not exist", r.field, r.path)
			in.out.Fail(at)
		case st.Err != nil:
			in.out.Fail(wire.ProblemOf(st.Err, l.file, r.line))
		case st.Dir && !r.dir:
			at.Message = fmt.Sprintf("%s names %q, which is a directory", r.field, r.path)
			in.out.Fail(at)
		case !st.Dir && !r.file:
			at.Message = fmt.Sprintf("%s names %q, which is not a directory", r.field, r.path)
			in.out.Fail(at)
		case st.Dir:
			dirs, places = append(dirs, paths[i]), append(places, at)
		case r.field == "resources" || r.field == "bases":
			in.resources = append(in.resources, paths[i])
		}
	}
	for i, d := range dirs {
		in.visit(d, chain, places[i])
	}
}

// fetch reads what is named in one round trip, and the kustomizations of what
// looks like a directory.
func (in *inspector) fetch(refs []reference, paths []string) {
	var q wire.Question
	for i, r := range refs {
		if r.file {
			q.Read = append(q.Read, paths[i])
		} else {
			q.Stat = append(q.Stat, paths[i])
		}
		if r.dir && path.Ext(paths[i]) == "" {
			q.Read = append(q.Read, wire.KustomizationNames(paths[i])...)
		}
	}
	in.src.Look(q)
}

// references lists the paths that the kustomization names.
func (l *layer) references() []reference {
	var refs []reference
	add := func(r reference, keys ...any) {
		if r.path != "" {
			r.line = l.line(keys...)
			refs = append(refs, r)
		}
	}
	list := func(field string, paths []string, file, dir bool) {
		for i, p := range paths {
			add(reference{field: field, path: p, file: file, dir: dir}, field, i)
		}
	}
	list("resources", l.k.Resources, true, true)
	list("bases", l.bases, false, true)
	list("components", l.k.Components, false, true)
	list("crds", l.k.Crds, true, false)
	list("configurations", l.k.Configurations, true, false)
	for field, entries := range map[string][]string{"generators": l.k.Generators, "transformers": l.k.Transformers, "validators": l.k.Validators} {
		for i, p := range entries {
			if !strings.ContainsAny(p, "\n{") { // else it is written inline
				add(reference{field: field, path: p, file: true, dir: true}, field, i)
			}
		}
	}
	slices.SortStableFunc(refs, func(a, b reference) int { return a.line - b.line })
	for _, p := range l.patches {
		add(reference{field: p.field, path: p.path, file: true}, p.field, p.index, "path")
	}
	for i, r := range l.k.Replacements {
		add(reference{field: "replacements", path: r.Path, file: true}, "replacements", i, "path")
	}
	add(reference{field: "openapi", path: l.k.OpenAPI["path"], file: true}, "openapi", "path")
	for i := range l.k.ConfigMapGenerator {
		l.keyValues("configMapGenerator", i, &l.k.ConfigMapGenerator[i].KvPairSources, add)
	}
	for i := range l.k.SecretGenerator {
		l.keyValues("secretGenerator", i, &l.k.SecretGenerator[i].KvPairSources, add)
	}
	return refs
}

func (l *layer) keyValues(field string, i int, kv *types.KvPairSources, add func(reference, ...any)) {
	for j, f := range kv.FileSources {
		if _, after, ok := strings.Cut(f, "="); ok {
			f = after
		}
		add(reference{field: field, path: f, file: true}, field, i, "files", j)
	}
	for j, f := range kv.EnvSources {
		add(reference{field: field, path: f, file: true}, field, i, "envs", j)
	}
	add(reference{field: field, path: kv.EnvSource, file: true}, field, i, "env")
}

var userInfo = regexp.MustCompile(`//[^/@]*@`)

func redactURL(u string) string { return userInfo.ReplaceAllString(u, "//") }

// line of a node by keys and indices; of its closest ancestor that is there.
func (l *layer) line(keys ...any) int {
	n := l.node
	if n == nil {
		return 0
	}
	at := 0
	for _, key := range keys {
		var next *yaml3.Node
		switch k := key.(type) {
		case string:
			for i := 0; n.Kind == yaml3.MappingNode && i+1 < len(n.Content); i += 2 {
				if strings.EqualFold(n.Content[i].Value, k) {
					next, at = n.Content[i+1], n.Content[i].Line
				}
			}
		case int:
			if n.Kind == yaml3.SequenceNode && k < len(n.Content) {
				next = n.Content[k]
				at = next.Line
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	return at
}

// find is the line of the first key of that name anywhere in the file.
func (l *layer) find(key string) int {
	var walk func(n *yaml3.Node) int
	walk = func(n *yaml3.Node) int {
		for i, c := range n.Content {
			if n.Kind == yaml3.MappingNode && i%2 == 0 && strings.EqualFold(c.Value, key) {
				return c.Line
			}
			if at := walk(c); at > 0 {
				return at
			}
		}
		return 0
	}
	if l.node == nil {
		return 0
	}
	return walk(l.node)
}

// nearest is the name that differs least from s, if it differs little.
func nearest(s string, names []string) string {
	best, at := "", len(s)/3+2
	for _, n := range names {
		if d := distance(strings.ToLower(s), strings.ToLower(n)); d < at {
			best, at = n, d
		}
	}
	return best
}

// distance counts the single-letter edits between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
