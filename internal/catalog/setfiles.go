package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/belaydev/belay"
)

// A paramFile is one file with parameters.
type paramFile struct {
	digest   string
	elements []element
	size     int
	// wrong is what is wrong with it now; elements are then what it held before.
	wrong *setProblem
	// hole: nobody knows what it held.
	hole bool
}

// tree opens what a generator looks at. ok is false where that is not known yet.
func (x *expander) tree(repo, ref string, path []any) (at TreeRef, files Files, commit string, err error) {
	c := x.c
	url := c.opts.Repo
	if repo != "" {
		r, ok := c.Repository(repo)
		switch {
		case ok:
			url = r.Spec.URL
		case c.env.docs[key{"Repository", repo}] != nil:
			return at, nil, "", failure(path, "Repository %q is declared, but wrong (%s)", repo, c.originOf(c.env.docs[key{"Repository", repo}]))
		default:
			return at, nil, "", &setError{path: path, code: belay.CodeNotFound, message: c.missing("Repository", repo), hint: "declare it, or write the repository's URL"}
		}
	}
	own := normalURL(url) == normalURL(c.opts.Repo)
	if own && (ref == "" || ref == c.opts.Ref) {
		return at, x.files, c.opts.Revision, nil
	}
	at = TreeRef{url, ref}
	if ref == "" {
		at.Ref = "HEAD"
	}
	t, ok := Tree{}, false
	if c.opts.OpenTree != nil {
		t, ok, err = c.opts.OpenTree(x.ctx, at.URL, at.Ref)
	}
	x.next.trees[at] = ""
	if err != nil {
		if x.ctx.Err() != nil {
			return at, nil, "", x.ctx.Err()
		}
		f := failure(path, "%s at %s cannot be read: %s", at.URL, at.Ref, err)
		if be, ok := errors.AsType[*belay.Error](err); ok {
			f.code, f.message, f.hint = be.Code, fmt.Sprintf("%s at %s cannot be read: %s", at.URL, at.Ref, be.Message), be.Hint
		}
		return at, nil, "", f
	}
	if !ok {
		x.next.elsewhere = append(x.next.elsewhere, at)
		return at, nil, "", errNotYet
	}
	x.next.trees[at] = t.Commit
	return at, t.Files, t.Commit, nil
}

// permitSet checks the trees that a set reads against the project of one of its
// applications: what the set reads is part of what the application is made of.
func (c *Catalog) permitSet(set string, project *belay.Project, fail failFunc) {
	exp := c.sets[set]
	if exp == nil {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(exp.inputs)) {
		in := exp.inputs[id]
		if in.tree == (TreeRef{}) {
			continue // it stands in the repository of the definitions, like the set itself
		}
		names := slices.Compact(slices.Sorted(slices.Values(append([]string{in.tree.URL}, c.byURL[normalURL(in.tree.URL)]...))))
		for _, root := range in.roots {
			if e, denied := errors.AsType[*belay.Error](project.PermitSource(names, root)); denied {
				fail("spec", e.Code, e.Message+", which a generator reads", e.Hint)
				return
			}
		}
	}
}

// errNotYet: the tree is not known yet, which is not worth telling.
var errNotYet = errors.New("the tree is not known yet")

// roots are the directories that globs look into: what comes before their first
// segment with a wildcard.
func roots(globs []string) []string {
	var out []string
	for _, g := range globs {
		segs := strings.Split(g, "/")
		n := slices.IndexFunc(segs, func(s string) bool { return strings.ContainsAny(s, `*?[\`) })
		if n < 0 {
			n = len(segs) - 1
		}
		out = append(out, cmp.Or(strings.Join(segs[:n], "/"), "."))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// find looks for the paths that globs fit. An error of reading the own tree is one
// of the load, any other one of the set.
func (x *expander) find(in *input, files Files, paths, exclude []string, directories bool, before *input, path []any) error {
	g := &globber{ctx: x.ctx, files: files, directories: directories, left: maxElements}
	g.trees, _ = files.(Trees)
	for _, p := range slices.Concat(paths, exclude) {
		if strings.Count(p, "/") >= maxGlobSegments || len(paths)+len(exclude) > maxGlobs {
			return failure(path, "has more than %d globs, or one with more than %d names", maxGlobs, maxGlobSegments)
		}
	}
	for _, p := range paths {
		g.globs = append(g.globs, strings.Split(cleanPath(p), "/"))
	}
	for _, p := range exclude {
		g.exclude = append(g.exclude, cleanPath(p))
	}
	in.roots = roots(paths)
	var known *globDir
	if before != nil {
		known = before.found
	}
	var err error
	in.found, err = g.find(known)
	if errors.Is(err, errTooMany) {
		return failure(path, "%s", err)
	}
	return x.unreadable(in.tree, path, err)
}

func (x *expander) unreadable(tree TreeRef, path []any, err error) error {
	if err == nil || tree == (TreeRef{}) || x.ctx.Err() != nil {
		return err
	}
	f := failure(path, "%s cannot be read: %s", strings.TrimPrefix(tree.orOwn(), " of "), err)
	f.code = belay.CodeUnavailable
	return f
}

// sameGlobs says whether a generator is what it was, so that what it found last
// tells what it finds now.
func sameGlobs(before *input, g *belay.Generator, tree TreeRef) bool {
	return before != nil && before.tree == tree && reflect.DeepEqual(before.generator, *g)
}

func (x *expander) directories(g *belay.Generator, before *input, path []any) (*input, error) {
	gen := g.Directories
	path = append(path, "directories")
	in := &input{generator: *g}
	var files Files
	var err error
	if in.tree, files, _, err = x.tree(gen.Repo, gen.Ref, path); err != nil {
		return x.later(before, err)
	}
	if !sameGlobs(before, g, in.tree) {
		before = nil
	}
	if err := x.find(in, files, gen.Paths, gen.Exclude, true, before, path); err != nil {
		return nil, err
	}
	matches := in.found.all()
	for _, m := range matches {
		in.elements = append(in.elements, element{map[string]any{"path": pathParams(m.path)}, "directory " + m.path + in.tree.orOwn()})
	}
	in.elements = named(in.elements, g.As)
	if before != nil && slices.EqualFunc(in.elements, before.elements, func(a, b element) bool { return a.from == b.from }) {
		return before.refound(in), nil
	}
	return in, nil
}

// refound is in as it was found in a later tree that yields the same. Inputs are
// shared by catalogs and not changed.
func (in *input) refound(later *input) *input {
	if in.found == later.found {
		return in
	}
	c := *in
	c.found, c.files = later.found, later.files
	return &c
}

// later keeps what is known of a tree that is not to be had yet.
func (x *expander) later(before *input, err error) (*input, error) {
	if !errors.Is(err, errNotYet) {
		return nil, err
	}
	if before != nil {
		x.next.failing = true
		return before, nil
	}
	return &input{hole: true}, nil
}

func (x *expander) parameterFiles(g *belay.Generator, before *input, path []any) (*input, error) {
	gen := g.Files
	path = append(path, "files")
	in := &input{generator: *g, files: map[string]*paramFile{}}
	tree, files, commit, err := x.tree(gen.Repo, gen.Ref, path)
	if err != nil {
		return x.later(before, err)
	}
	in.tree = tree
	known := before // files mean what they meant whatever glob finds them
	if known != nil && known.tree != tree {
		known = nil
	}
	if !sameGlobs(before, g, tree) {
		before = nil
	}
	if err := x.find(in, files, gen.Paths, gen.Exclude, false, before, path); err != nil {
		return nil, err
	}
	if before != nil && in.found.unchanged(before.found) {
		for _, f := range before.files {
			x.bytes += f.size
		}
		in.files = before.files
		return before.refound(in), nil
	}
	for _, m := range in.found.all() {
		f, err := x.paramFile(m.path, files, known)
		if err != nil {
			return nil, x.unreadable(tree, path, err)
		}
		if x.bytes += f.size; x.bytes > maxSetFiles {
			return nil, failure(path, "the files with parameters are larger than %d MiB together", maxSetFiles>>20)
		}
		in.files[m.path] = f
		in.elements = append(in.elements, f.elements...)
		in.hole = in.hole || f.hole
		if len(in.elements) > maxElements {
			return nil, failure(path, "%s", errTooMany)
		}
		if f.wrong != nil {
			p := *f.wrong
			p.tree, p.commit = tree, commit
			in.problems = append(in.problems, p)
		}
	}
	if before != nil && maps.Equal(in.files, before.files) {
		return before.refound(in), nil
	}
	in.elements = named(in.elements, g.As)
	return in, nil
}

// paramFile reads one file with parameters, unless it is known.
func (x *expander) paramFile(p string, files Files, before *input) (*paramFile, error) {
	if err := x.ctx.Err(); err != nil {
		return nil, err
	}
	var old *paramFile
	if before != nil {
		old = before.files[p]
	}
	f := &paramFile{}
	var data []byte
	var err error
	f.digest, err = files.Digest(belay.ReadFile, p)
	if err == nil && old != nil && f.digest == old.digest && f.digest != "" {
		return old, nil
	}
	if err == nil {
		data, err = files.ReadFile(p)
	}
	f.size = len(data)
	var wrong *problem
	if err != nil {
		if wrong = readProblem(err); wrong == nil {
			return nil, fmt.Errorf("read %q: %w", p, err)
		}
		f.digest = ""
	} else {
		f.elements, wrong = parseParams(p, data)
	}
	if wrong != nil {
		f.wrong = &setProblem{problem: *wrong, code: belay.CodeInvalid, file: p}
		f.elements, f.hole = nil, true
		if old != nil {
			f.elements, f.hole = old.elements, old.hole
		}
	}
	return f, nil
}

// readProblem is what is wrong with a file that cannot be read, unless it is not
// the file's fault.
func readProblem(err error) *problem {
	if be, ok := errors.AsType[*belay.Error](err); ok && be.Code != belay.CodeUnavailable && be.Code != belay.CodeInternal {
		return &problem{message: "cannot be read: " + be.Message, hint: be.Hint}
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrInvalid) {
		return &problem{message: "cannot be read", hint: "mend or remove it"}
	}
	return nil
}

// parseParams reads the parameters in a file: a mapping, or a list of them.
func parseParams(file string, data []byte) ([]element, *problem) {
	if len(data) > maxFileSize {
		return nil, &problem{message: fmt.Sprintf("is larger than %d KiB", maxFileSize>>10), hint: "a file with parameters is small"}
	}
	if !utf8.Valid(data) {
		return nil, &problem{message: "is not UTF-8 text", hint: "save it as UTF-8"}
	}
	nodes, err := parseYAML(data)
	if err != nil {
		line, message := syntaxError(data, err)
		return nil, &problem{line: line, message: "is not valid YAML: " + message, hint: syntaxHints[message]}
	}
	if len(nodes) != 1 {
		return nil, &problem{message: fmt.Sprintf("must hold one document with parameters, but holds %d", len(nodes)), hint: "write a list for several elements"}
	}
	d := &decoder{lines: map[string]int{}, maxAliased: maxAliased}
	root := nodes[0]
	items := []*yaml.Node{root}
	if root.Kind == yaml.SequenceNode {
		items = root.Content
	}
	var out []element
	for i, n := range items {
		from := "file " + file
		if root.Kind == yaml.SequenceNode {
			from = fmt.Sprintf("element %d of file %s on line %d", i+1, file, n.Line)
		}
		v := d.free(n, "the parameters")
		params, ok := v.(map[string]any)
		if !ok && len(d.problems) == 0 {
			return nil, &problem{line: n.Line, message: "must hold a mapping of parameters, or a list of those, but holds " + describe(n)}
		}
		if _, taken := params["path"]; taken {
			return nil, &problem{line: n.Line, message: `has a parameter "path", which is the place of the file itself`, hint: "rename it"}
		}
		if ok {
			place := pathParams(path.Dir(file))
			place["filename"] = path.Base(file)
			params["path"] = place
			out = append(out, element{params, from})
		}
	}
	if len(d.problems) > 0 {
		return nil, &d.problems[0]
	}
	return out, nil
}
