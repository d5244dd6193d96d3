package catalog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/belaydev/belay"
)

// Limits of one ApplicationSet. One that asks for more keeps what it has.
const (
	maxElements   = 10_000    // elements of a generator, and applications of a set
	maxParameters = 1_000_000 // parameters of all elements together
	maxSetFiles   = 16 << 20  // bytes of parameter files
	maxSetOutput  = 64 << 20  // bytes of all its applications, about
	maxSetDepth   = 4         // generators within generators
	maxSetProblem = 20        // problems that are reported one by one
)

// maxGenerated bounds the applications of all sets together; tests lower it.
var maxGenerated = 100_000

// A Tree is the tree of another repository or ref that a generator looks at.
type Tree struct {
	Files Files
	// Commit it is of.
	Commit string
}

// OpenTree gives the tree at a ref of a repository. Without an error, ok is false
// where it is not known yet. A set whose tree cannot be had keeps what it has made.
type OpenTree func(ctx context.Context, url, ref string) (t Tree, ok bool, err error)

// TreeRef names a ref of a repository.
type TreeRef struct{ URL, Ref string }

// A Set is an ApplicationSet with what it has made.
type Set struct {
	belay.ApplicationSet
	// Applications are the names of those in force, those in Held among them, sorted.
	Applications []string
	// Held are those that it would no longer make, but that stay until Hold is confirmed.
	Held []string
	Hold *belay.Error
	// Failing: something in it is wrong, so that it removes nothing.
	Failing bool
	// Elsewhere are trees that it reads and that could not be opened.
	Elsewhere []TreeRef
}

// An expansion is what became of one ApplicationSet. What it was made from is kept
// beside it, so that it is made again only when some of that changed.
type expansion struct {
	doc    *document
	inputs map[string]*input
	// trees that it reads, beside the one of the definitions, and their commits.
	trees map[TreeRef]string
	// elsewhere could not be opened.
	elsewhere []TreeRef

	// wants are the applications that it makes, some of which may be partial; names sorted.
	wants map[string]*document
	names []string
	// from says of which element each of them is.
	from map[string]string
	// byParams are the documents by the parameters they were made of.
	byParams map[string]made
	problems []setProblem
	// failing: something is wrong, so that what is not wanted any more stays. unsure:
	// the name of something that it wants cannot be told.
	failing, unsure bool
	// frozen: nothing could be made at all, and everything stays as it is.
	frozen bool

	// What came of it among all definitions.

	known bool // it was sure, now or before
	docs  map[string]*document
	held  []string
	hold  *belay.Error
}

// A setProblem is one thing that is wrong with a set.
type setProblem struct {
	problem
	code belay.Code
	// tree and file are set where it stands in a file with parameters.
	tree        TreeRef
	commit      string
	file        string
	application string
	// from is the element that it is about, and more how many others have it, too.
	from string
	more int
}

// text is the message with the elements that it is about.
func (p *setProblem) text() string {
	switch {
	case p.from == "":
		return p.message
	case p.more == 0:
		return fmt.Sprintf("%s (for %s)", p.message, p.from)
	}
	return fmt.Sprintf("%s (for %s and %d more)", p.message, p.from, p.more)
}

// expander makes the applications of one set.
type expander struct {
	ctx   context.Context
	c     *Catalog
	files Files
	set   *document
	spec  belay.ApplicationSetSpec
	prev  *expansion
	next  *expansion

	bytes int // of parameter files
	// same: nothing changed that the set is made from, as far as was looked.
	same bool
}

// expandSets makes the applications of all sets. The error means that the files
// could not be read at all.
func (c *Catalog) expandSets(ctx context.Context, files Files, prev *Catalog) error {
	c.sets = map[string]*expansion{}
	var order []key
	for k := range c.inForce {
		if k.kind == setKind.name {
			order = append(order, k)
		}
	}
	slices.SortFunc(order, func(a, b key) int { return cmp.Compare(a.name, b.name) })
	total := 0
	for _, k := range order {
		d, before := c.inForce[k], prev.sets[k.name]
		if before == nil {
			before = &expansion{}
		}
		x := &expander{ctx: ctx, c: c, files: files, set: d, prev: before, same: before.doc == d && !before.frozen,
			next: &expansion{doc: d, inputs: map[string]*input{}, trees: map[TreeRef]string{}}}
		if err := x.expand(); err != nil {
			return err
		}
		if total += len(x.next.names); total > maxGenerated {
			x.next.problems = nil
			x.fail(problem{line: d.line, message: fmt.Sprintf("all ApplicationSets together make more than %d applications", maxGenerated)}, belay.CodeInvalid)
			x.freeze()
		}
		x.next.known = before.known || !x.next.unsure
		c.sets[k.name] = x.next
	}
	c.settleSets(prev)
	return nil
}

func (x *expander) expand() error {
	if x.set.state == partial { // its problem is told already
		x.freeze()
		return nil
	}
	x.spec, _ = x.set.spec.(belay.ApplicationSetSpec)
	els, err := x.generators(x.spec.Generators, "", 1)
	if err == nil {
		err = bounded(els)
	}
	if fatal, ok := errors.AsType[*setError](err); ok {
		x.fail(problem{line: x.line(fatal.path...), message: fatal.message, hint: fatal.hint}, fatal.code)
		x.freeze()
		return nil
	}
	if err != nil {
		return err
	}
	if x.same {
		n, p := x.next, x.prev
		n.wants, n.names, n.from, n.byParams, n.problems = p.wants, p.names, p.from, p.byParams, p.problems
		n.failing, n.unsure = p.failing, p.unsure
		return nil
	}
	return x.render(els)
}

// freeze gives up on the set as a whole. What it has read stays known.
func (x *expander) freeze() {
	n := x.next
	n.frozen, n.failing, n.unsure = true, true, true
	n.wants, n.names = nil, nil
	for id, in := range x.prev.inputs {
		if n.inputs[id] == nil {
			n.inputs[id] = in
		}
	}
	for t := range x.prev.trees {
		if _, ok := n.trees[t]; !ok {
			n.trees[t] = "" // it is looked at again
		}
	}
}

// fail reports a problem of the set.
func (x *expander) fail(p problem, code belay.Code) {
	x.next.failing = true
	x.next.problems = append(x.next.problems, setProblem{problem: p, code: code})
}

// line is where a part of spec.generators stands.
func (x *expander) line(steps ...any) int {
	t := x.set.template
	if t == nil || t.generators == nil || len(steps) == 0 {
		return x.set.lineOf("spec.generators")
	}
	return t.before + lineOf(t.generators, steps...)
}

// render makes an application of each element.
func (x *expander) render(els []element) error {
	n, t := x.next, x.set.template
	n.wants, n.from, n.byParams = map[string]*document{}, map[string]string{}, map[string]made{}
	var when *expression
	if x.spec.When != "" {
		when, _ = compile(x.spec.When) // it was checked when it was decoded
	}
	output := 0
	if len(els)*t.weight > maxSetOutput {
		x.tooLarge()
		return nil
	}
	told := map[string]int{} // problems that several elements have
	for i := range els {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		el := &els[i]
		if when != nil {
			take, err := holds(when, el.params)
			if err != nil {
				n.unsure = true
				x.tell(told, el, "", problem{line: x.set.lineOf("spec.when"), message: fmt.Sprintf("%s in spec.when: %s", quote(x.spec.When), err)})
				continue
			}
			if !take {
				continue
			}
		}
		id := identify(el.params)
		m, ok := x.prev.byParams[id]
		if !ok || x.prev.doc != x.set {
			m = t.make(x.set, el.params)
		}
		n.byParams[id] = m
		if output += t.weight + m.bytes; output > maxSetOutput {
			x.tooLarge()
			return nil
		}
		x.take(el, m, told)
	}
	if hidden := len(n.problems) - maxSetProblem; hidden > 0 {
		n.problems = append(n.problems[:maxSetProblem], setProblem{code: belay.CodeInvalid,
			problem: problem{line: x.set.line, message: fmt.Sprintf("has %d more problems", hidden), hint: "mend the first ones first"}})
	}
	n.names = slices.Sorted(maps.Keys(n.wants))
	return nil
}

// tooLarge gives up on a set that would fill the memory.
func (x *expander) tooLarge() {
	x.fail(problem{line: x.set.template.before + x.set.template.line, message: fmt.Sprintf("its applications are larger than %d MiB together", maxSetOutput>>20)}, belay.CodeInvalid)
	x.freeze()
}

// holds says whether a condition is met.
func holds(when *expression, params map[string]any) (bool, error) {
	s, err := when.execute(params)
	if err == nil && s != "true" && s != "false" {
		err = fmt.Errorf("gives %s, which is neither true nor false", quote(s))
	}
	return s == "true", err
}

// take files what became of an element.
func (x *expander) take(el *element, m made, told map[string]int) {
	n := x.next
	for _, p := range m.problems {
		x.tell(told, el, m.name, p)
	}
	if m.name == "" {
		n.unsure = true
		return
	}
	first, twice := n.from[m.name]
	if !twice {
		n.wants[m.name], n.from[m.name] = m.doc, el.from
		return
	}
	p := problem{line: x.set.template.before + x.nameLine(),
		message: fmt.Sprintf("two elements give the name %q: %s and %s; neither is used", m.name, first, el.from), hint: "let spec.template.metadata.name differ"}
	n.failing = true
	n.problems = append(n.problems, setProblem{problem: p, code: belay.CodeInvalid, application: m.name})
	doc := *m.doc
	doc.state, doc.problem = partial, &p
	n.wants[m.name] = &doc
}

func (x *expander) nameLine() int { return lineOf(x.set.template.node, "metadata", "name") }

// tell reports the problem of an element: once, where many have the same.
func (x *expander) tell(told map[string]int, el *element, name string, p problem) {
	n := x.next
	n.failing = true
	id := fmt.Sprint(p.line, p.message)
	if at, ok := told[id]; ok {
		n.problems[at].more++
		n.problems[at].application = ""
		return
	}
	told[id] = len(n.problems)
	n.problems = append(n.problems, setProblem{problem: p, code: belay.CodeInvalid, application: name, from: el.from})
}

// identify tells elements apart by their parameters.
func identify(params map[string]any) string {
	b, err := json.Marshal(params)
	if err != nil {
		return "" // what YAML holds always encodes
	}
	return belay.Digest(b)
}

// reportSet makes the problems of a set those of the catalog.
func (c *Catalog) reportSet(exp *expansion) {
	for i := range exp.problems {
		p := &exp.problems[i]
		origin := c.origin(exp.doc.file, p.line, exp.doc.revision)
		if p.file != "" {
			origin = belay.Origin{Repo: c.opts.Repo, Revision: c.opts.Revision, File: p.file, Line: p.line}
			if p.tree != (TreeRef{}) {
				origin.Repo, origin.Revision = p.tree.URL, p.commit
			}
		}
		message := p.text()
		if p.file != "" {
			message += fmt.Sprintf(", so that %s keeps what it made of it before", exp.doc.key)
		}
		e := c.problem(p.code, origin, message, p.hint)
		e.Application = p.application
		c.Problems = append(c.Problems, *e)
	}
}

// Sets are the ApplicationSets that are declared, by name.
func (c *Catalog) Sets() map[string]Set {
	out := make(map[string]Set, len(c.sets))
	for name, exp := range c.sets {
		spec, _ := exp.doc.spec.(belay.ApplicationSetSpec)
		out[name] = Set{
			ApplicationSet: belay.ApplicationSet{Name: name, Labels: exp.doc.labels, Spec: spec, Origin: c.originOf(exp.doc)},
			Applications:   slices.Sorted(maps.Keys(exp.docs)), Held: exp.held, Hold: exp.hold, Failing: exp.failing, Elsewhere: exp.elsewhere,
		}
	}
	return out
}

// SetsElsewhere are trees that sets read and that were not known yet.
func (c *Catalog) SetsElsewhere() []TreeRef {
	var out []TreeRef
	for _, exp := range c.sets {
		out = append(out, exp.elsewhere...)
	}
	return out
}

// SetTrees are the trees beside that of the definitions that sets read, with the
// commit of each, empty where it could not be opened.
func (c *Catalog) SetTrees() map[TreeRef]string {
	out := map[TreeRef]string{}
	for _, exp := range c.sets {
		maps.Copy(out, exp.trees)
	}
	return out
}

// SetRoots are the directories of the config repository that sets look into,
// sorted: with that of the definitions, all that a catalog is made of.
func (c *Catalog) SetRoots() []string {
	var out []string
	for _, exp := range c.sets {
		for _, in := range exp.inputs {
			if in.tree == (TreeRef{}) {
				out = append(out, in.roots...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// DamagedPaths are what sets fail over, sorted: the files with parameters that are
// wrong, or all directories of a set in which something else is wrong.
func (c *Catalog) DamagedPaths() []string {
	var out []string
	for _, exp := range c.sets {
		all := false
		for i := range exp.problems {
			if p := &exp.problems[i]; p.file == "" {
				all = true
			} else if p.tree == (TreeRef{}) {
				out = append(out, p.file)
			}
		}
		if !all || !exp.failing {
			continue
		}
		for _, in := range exp.inputs {
			if in.tree == (TreeRef{}) {
				out = append(out, in.roots...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// FailingSets are the sets in which something is wrong, sorted.
func (c *Catalog) FailingSets() []string {
	var out []string
	for name, exp := range c.sets {
		if exp.failing {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// unknownSets are the files of sets of which it was never known what they make.
func (c *Catalog) unknownSets() []string {
	var out []string
	for _, exp := range c.sets {
		if !exp.known {
			out = append(out, exp.doc.file)
		}
	}
	return out
}

// RemovalConfirmed says whether a set confirms that an application which it made goes.
func (c *Catalog) RemovalConfirmed(app *belay.Application) bool {
	exp := c.sets[app.Set]
	if app.Set == "" || exp == nil {
		return false
	}
	spec, _ := exp.doc.spec.(belay.ApplicationSetSpec)
	return belay.TokenCovers(spec.Confirm, []string{app.Name})
}
