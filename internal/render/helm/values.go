package helm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/manifest"
	"github.com/belaydev/belay/internal/render/wire"
)

// valuesPaths are where the values files lie, in order; outside of the
// repository for one that would be.
func valuesPaths(root string, opts *belay.HelmSource) []string {
	paths := make([]string, len(opts.ValuesFiles))
	for i, f := range opts.ValuesFiles {
		switch rest, absolute := strings.CutPrefix(f, "/"); {
		case absolute:
			paths[i] = path.Clean(rest)
		case strings.HasPrefix(f, "$"):
			paths[i] = path.Clean(belay.SourcePath(f))
			if m, _, ok := belay.SplitMount(paths[i]); !ok || !strings.HasPrefix(f, "$"+m.Source+"/") {
				paths[i] = ".."
			}
		default:
			paths[i] = path.Join(root, f)
		}
	}
	return paths
}

// userValues merges the values files and the inline values of the application.
// The later wins; an explicit null takes a default of the chart away.
func (c *charts) userValues(root string, opts *belay.HelmSource) (map[string]any, bool) {
	paths := valuesPaths(root, opts)
	for i, p := range paths {
		if p == ".." || strings.HasPrefix(p, "../") {
			c.out.Fail(wire.Problem{Message: fmt.Sprintf("spec.source.helm.valuesFiles names %q, which is outside the repository", opts.ValuesFiles[i])})
			return nil, false
		}
	}
	values := map[string]any{}
	if len(paths) > 0 {
		for i, content := range c.tree.Read(paths...) {
			if errors.Is(content.Err, fs.ErrNotExist) {
				c.out.Fail(wire.Problem{Code: belay.CodeNotFound,
					Message: fmt.Sprintf("spec.source.helm.valuesFiles names %q, but %s does not exist", opts.ValuesFiles[i], shown(paths[i])),
					Hint:    "paths are relative to spec.source.path, to the root of the repository with a leading slash, or in a named source with $NAME/"})
				continue
			}
			if content.Err != nil {
				c.out.Fail(wire.ProblemOf(content.Err, "", 0))
				continue
			}
			c.mention(content.Data)
			values = c.mergeFile(values, chartFile{path: paths[i], data: content.Data})
		}
	}
	if len(opts.Values) > 0 {
		inline, err := json.Marshal(opts.Values)
		if err != nil {
			c.out.Fail(wire.Problem{Message: "spec.source.helm.values cannot be read"})
			return nil, false
		}
		c.mention(inline)
		values = loader.MergeMaps(values, opts.Values)
	}
	return values, len(c.out.Problems) == 0
}

// shown is a path as people know it.
func shown(p string) string {
	if m, rest, ok := belay.SplitMount(p); ok && m.Source != "" {
		return rest + " in the source " + m.Source
	}
	return p
}

func (c *charts) mergeFile(values map[string]any, f chartFile) map[string]any {
	if !c.readable(f) {
		return values
	}
	for _, d := range manifest.Split(f.data) {
		j, err := d.LenientJSON() // readable said it works
		var m map[string]any
		if err == nil && len(j) > 0 && json.Unmarshal(j, &m) == nil {
			values = loader.MergeMaps(values, m)
		}
	}
	return values
}

// checkSchemas holds the merged values against values.schema.json of the chart
// and its dependencies. Messages name keys and rules, never values.
func (c *charts) checkSchemas(root string, ch *chart.Chart, values map[string]any) {
	if ch.Schema != nil {
		file := root
		if !strings.HasSuffix(root, ".tgz") {
			file = path.Join(root, "values.schema.json")
		}
		for _, msg := range schemaProblems(ch.Schema, values) {
			c.out.Fail(wire.Problem{File: file, Message: msg, Hint: "correct the values of the chart " + ch.Name()})
		}
	}
	for _, d := range ch.Dependencies() {
		sub, ok := values[d.Name()]
		if !ok || sub == nil {
			continue
		}
		m, ok := sub.(map[string]any)
		if !ok {
			c.out.Fail(wire.Problem{File: path.Join(root, "Chart.yaml"), Message: fmt.Sprintf("the value %s must be a mapping: it holds the values of the chart %s", d.Name(), d.Name())})
			continue
		}
		c.checkSchemas(c.home(d, root), d, m)
	}
}

// home is the directory or archive a chart was loaded from.
func (c *charts) home(ch *chart.Chart, fallback string) string {
	for _, f := range slices.Concat(ch.Templates, ch.Files) {
		if p, ok := c.files[f]; ok {
			if dir, ok := strings.CutSuffix(p, "/"+f.Name); ok {
				return dir
			}
			return p
		}
	}
	return fallback
}

// noLoader keeps a schema from fetching another one.
type noLoader struct{}

func (noLoader) Load(string) (any, error) { return nil, errors.New("not supported") }

const maxSchemaProblems = 5

func schemaProblems(schema []byte, values map[string]any) []string {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return []string{"not valid JSON"}
	}
	const url = "file:///values.schema.json"
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noLoader{})
	if err := compiler.AddResource(url, doc); err != nil {
		return []string{"not a valid JSON Schema"}
	}
	compiled, err := compiler.Compile(url)
	if _, ok := errors.AsType[*jsonschema.LoadURLError](err); ok {
		return []string{"the schema refers to another file or URL; only references within it are supported"}
	} else if err != nil {
		return []string{"not a valid JSON Schema"}
	}
	// The library wants the types a JSON decoder makes.
	var plain any
	if j, err := json.Marshal(values); err != nil || json.Unmarshal(j, &plain) != nil {
		return []string{"the values cannot be written as JSON"}
	}
	err = compiled.Validate(plain)
	ve, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return nil
	}
	var out []string
	leaves(ve, &out)
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), maxSchemaProblems)]
}

func leaves(e *jsonschema.ValidationError, out *[]string) {
	if len(e.Causes) > 0 {
		for _, c := range e.Causes {
			leaves(c, out)
		}
		return
	}
	where := strings.Join(e.InstanceLocation, ".")
	if where == "" {
		where = "the values"
	}
	rule := "does not satisfy the schema"
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		rule = fmt.Sprintf("must be %s, but is %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.Required:
		rule = "must have " + strings.Join(k.Missing, ", ")
	case *kind.AdditionalProperties:
		rule = "must not have " + strings.Join(k.Properties, ", ")
	case *kind.Enum:
		rule = "must be one of the values that the schema lists"
	case *kind.FalseSchema:
		rule = "must not be set"
	default:
		if p := e.ErrorKind.KeywordPath(); len(p) > 0 {
			rule = fmt.Sprintf("does not satisfy %q of the schema", p[len(p)-1])
		}
	}
	*out = append(*out, where+" "+rule)
}

var sensitiveKey = regexp.MustCompile(`(?i)pass|secret|token|credential|private|cert|auth|apikey|api_key|accesskey|access_key|dsn|connection|pwd|key$`)

// secretValues lists texts of the values that a message must not repeat: those
// under a key that sounds like it, or all of them.
func secretValues(values map[string]any, all bool) []string {
	var out []string
	var walk func(v any, take bool)
	walk = func(v any, take bool) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				walk(e, take || sensitiveKey.MatchString(k))
			}
		case []any:
			for _, e := range v {
				walk(e, take)
			}
		case string:
			if take {
				out = append(out, manifest.LineTexts([]byte(v))...)
				if len(v) >= 4 {
					out = append(out, v)
				}
			}
		case float64:
			if s := fmt.Sprint(v); take && len(s) >= 4 {
				out = append(out, s)
			}
		}
	}
	walk(values, all)
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(out)
}
