package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/belaydev/belay"
)

const (
	// maxFileSize is far above what definitions need and far below what hurts.
	maxFileSize     = 1 << 20
	maxFileProblems = 200     // reported one by one
	maxFileAliased  = 200_000 // nodes visited through aliases
)

// A state says what a document in force is worth.
type state int

const (
	// good: it means what the file says.
	good state = iota
	// stale: the file says something that is wrong; this is what it said last.
	stale
	// partial: it is wrong and never was right. It has a kind and a name, so that
	// it is known to be declared, and whatever of its spec could be read.
	partial
)

// A document is one definition. It is never changed after it was made, so that
// catalogs can share it.
type document struct {
	key    key
	state  state
	file   string
	line   int
	fields map[string]int // lines of fields in tracked

	labels, annotations map[string]string
	// spec is one of the spec types of package belay.
	spec any
	// revision in which it was last good; empty for a good one.
	revision string
	// absent: a stale one of which its file shows nothing any more. It may be in
	// what cannot be read there, or have moved elsewhere.
	absent bool
	// problem is the first one of a partial document.
	problem *problem
}

// worth orders documents that claim one name.
func (doc *document) worth() int {
	switch {
	case doc.state == partial:
		return 0
	case doc.absent:
		return 1
	}
	return 2
}

// key names a definition.
type key struct{ kind, name string }

func (k key) String() string { return k.kind + " " + strconv.Quote(k.name) }

// lineOf is the line of a field, or of the nearest field around it.
func (doc *document) lineOf(field string) int {
	for field != "" {
		if l := doc.fields[field]; l != 0 {
			return l
		}
		i := strings.LastIndexAny(field, ".[")
		field = field[:max(i, 0)]
	}
	return doc.line
}

// A content is what the bytes of one file say, whatever they said before.
type content struct {
	docs     []*document // good and partial, in the order of the file
	problems []fileProblem
	// broken: some document is wrong.
	broken bool
	// unreadable: the kind or the name of some broken document cannot be told, so
	// nobody knows all that the file declares.
	unreadable bool
	// hides are kinds that unreadable documents may be of; nil means any.
	hides map[string]bool
}

// A fileProblem is a problem with the name of its application, if that is known.
type fileProblem struct {
	problem
	application string
}

func (c *content) hide(kinds ...string) {
	if !c.unreadable {
		c.unreadable, c.hides = true, map[string]bool{}
	}
	for _, k := range kinds {
		c.hides[k] = true
	}
}

func (c *content) mayHide(kind string) bool {
	return c.unreadable && (c.hides == nil || c.hides[kind])
}

// unread is the content of a file that could not be read at all.
func unread(message, hint string) content {
	return content{broken: true, unreadable: true, problems: []fileProblem{{problem: problem{message: message, hint: hint}}}}
}

// parse reads the documents of one file. root is only for messages.
func parse(file, root string, data []byte) content {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if large := len(data) > maxFileSize; large || !utf8.Valid(data) {
		c := unread("is not UTF-8 text", "save it as UTF-8")
		if large {
			c = unread(fmt.Sprintf("is larger than %d KiB", maxFileSize>>10), "split it into several files")
		}
		c.unreadable = false
		c.hide(kindWords(data)...)
		return c
	}
	p := parser{file: file, root: root}
	for _, c := range split(data) {
		p.chunk(c)
	}
	if p.more > 0 {
		p.problems = append(p.problems, fileProblem{problem: problem{message: fmt.Sprintf("has %d more problems", p.more), hint: "mend the first ones first"}})
	}
	return p.content
}

// A chunk is one document's text and the number of lines before it.
type chunk struct {
	text   []byte
	before int
}

// split cuts a file at its document markers, so that a syntax error in one
// document leaves the others readable. A line that begins with "---" is a
// marker wherever it stands: YAML allows it in no scalar.
func split(data []byte) []chunk {
	var out []chunk
	start, before, line := 0, 0, 0
	preamble := true // nothing but comments and directives since start
	for at := 0; at < len(data); {
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		text := bytes.TrimRight(data[at:end], "\r\n")
		switch marker := bytes.HasPrefix(text, []byte("---")) && (len(text) == 3 || text[3] == ' ' || text[3] == '\t'); {
		case marker && !preamble:
			out = append(out, chunk{data[start:at], before})
			start, before = at, line
			fallthrough
		case marker:
			preamble = false
		case len(bytes.TrimSpace(text)) > 0 && text[0] != '#' && text[0] != '%':
			preamble = false
		}
		at = end
		line++
	}
	return append(out, chunk{data[start:], before})
}

type parser struct {
	file, root string
	content
	more    int // problems that are not reported one by one
	aliased int // nodes visited through aliases
}

func (p *parser) report(application string, ps ...problem) {
	for _, pr := range ps {
		if len(p.problems) == maxFileProblems {
			p.more++
			continue
		}
		p.problems = append(p.problems, fileProblem{pr, application})
	}
}

// blank says whether a chunk has nothing but its marker and comments.
func blank(text []byte) bool {
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte("---"))) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

func (p *parser) chunk(c chunk) {
	if blank(c.text) {
		return
	}
	nodes, err := parseYAML(c.text)
	for _, n := range nodes {
		p.document(n, c)
	}
	if err == nil {
		return
	}
	p.broken = true
	p.hide(kindWords(c.text)...)
	if len(p.problems) == maxFileProblems {
		p.more++ // the line takes some finding
		return
	}
	line, message := syntaxError(c.text, err)
	hint := syntaxHints[message]
	if hint == "" {
		hint = "nothing of this document is used until it is mended"
	}
	p.report("", problem{line: c.before + line, message: "is not valid YAML: " + message, hint: hint})
}

// parseYAML gives the documents before the first error. The parser meets
// whatever lies in a repository, so a panic in it is an error of that file.
func parseYAML(text []byte) (nodes []*yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("the parser gave up")
		}
	}()
	if bytes.HasPrefix(text, []byte("%")) {
		// The parser refuses the number, but reads what YAML 1.2 allows.
		text = bytes.Replace(text, []byte("%YAML 1.2"), []byte("%YAML 1.1"), 1)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		if err := dec.Decode(&n); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return nodes, err
		}
		if n.Kind == yaml.DocumentNode && len(n.Content) == 1 && !isNull(n.Content[0]) {
			nodes = append(nodes, n.Content[0])
		}
	}
}

// syntaxHints say what the parser's messages most often mean.
var syntaxHints = map[string]string{
	"did not find expected key":                      "check the indentation: it is the same for all keys of a mapping",
	"mapping values are not allowed in this context": `quote texts that contain ": ", and check the indentation`,
	"found character that cannot start any token":    "indent with spaces, not tabs, and quote texts that begin with @, ` or %",
	"found unexpected end of stream":                 "a quote that is opened here is not closed",
	"could not find expected ':'":                    `a key needs ": " after it`,
	"did not find expected ',' or '}'":               "a { that is opened here is not closed",
	"did not find expected ',' or ']'":               "a [ that is opened here is not closed",
	"did not find expected '-' indicator":            "check the indentation: each item of the list begins with - in the same column",
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxError finds the line of a syntax error. The parser names the line where
// it began to look, not the one where it gave up, so the shortest beginning of
// the text that fails in the same way is searched.
func syntaxError(text []byte, err error) (line int, message string) {
	m := yamlError.FindStringSubmatch(err.Error())
	message = err.Error()
	if m != nil {
		message = message[len(m[0]):]
		line, _ = strconv.Atoi(m[1])
	}
	if len(text) > 128<<10 {
		return max(line, 1), message
	}
	ends := []int{}
	for i, b := range text {
		if b == '\n' {
			ends = append(ends, i+1)
		}
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		ends = append(ends, len(text))
	}
	same := func(lines int) bool {
		_, e := parseYAML(text[:ends[lines-1]])
		return e != nil && strings.HasSuffix(e.Error(), message)
	}
	low, high := 1, len(ends)
	for low < high {
		mid := (low + high) / 2
		if same(mid) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	if low == len(ends) && line > 0 && strings.Contains(message, "end of stream") {
		return line, message // what was never closed began there
	}
	return max(low, 1), message
}

var kindWord = regexp.MustCompile(`\b(Application|Project|Cluster|Repository|HealthRule)\b`)

// kindWords are the kinds that the text of a document speaks of.
func kindWords(text []byte) []string {
	var out []string
	for _, w := range kindWord.FindAll(text, -1) {
		out = append(out, string(w))
	}
	return out
}

// document decodes one document.
func (p *parser) document(n *yaml.Node, c chunk) {
	d := &decoder{lines: map[string]int{}, before: c.before, maxAliased: min(maxAliased, maxFileAliased-p.aliased)}
	defer func() { p.aliased += d.aliased }()
	root := n
	if n.Kind == yaml.AliasNode {
		root = n.Alias
	}
	if root.Kind != yaml.MappingNode {
		p.broken = true
		p.hide(kindWords(c.text)...)
		p.report("", problem{line: c.before + n.Line, message: "a definition must be a mapping, but this is " + describe(root),
			hint: "it begins with apiVersion: " + belay.APIVersion})
		return
	}
	entries := d.entries(root, "")
	apiVersion, kindName := scalar(entries, "apiVersion"), scalar(entries, "kind")
	if p.foreign(apiVersion, kindName, c.before+n.Line) {
		return
	}
	d.head(entries, apiVersion, kindName, n.Line)
	doc := &document{file: p.file, line: c.before + n.Line, fields: d.lines}
	if d.kind != nil {
		spec := newValue(d.kind.spec)
		doc.key = key{kind: d.kind.name, name: d.body(entries, doc, spec, n.Line)}
		doc.spec = spec.Interface()
	}
	for i := range d.problems {
		d.problems[i].line += c.before
	}
	for f := range d.lines {
		d.lines[f] += c.before
	}
	p.finish(d, doc, c)
}

// finish files a decoded document under what it turned out to be.
func (p *parser) finish(d *decoder, doc *document, c chunk) {
	application := ""
	if doc.key.kind == "Application" {
		application = doc.key.name
	}
	p.report(application, d.problems...)
	if len(d.problems) == 0 {
		p.docs = append(p.docs, doc)
		return
	}
	p.broken = true
	switch {
	case doc.key.name != "":
		doc.state, doc.problem = partial, &d.problems[0]
		p.docs = append(p.docs, doc)
	case doc.key.kind != "":
		p.hide(doc.key.kind)
	default:
		p.hide(kindWords(c.text)...)
	}
}

// foreign reports documents that are no definitions of this version. They hide
// nothing: what they are is plain to see.
func (p *parser) foreign(apiVersion, kindName string, line int) bool {
	group, _ := belay.SplitAPIVersion(apiVersion)
	ours, _ := belay.SplitAPIVersion(belay.APIVersion)
	for _, k := range unserved {
		if kindName == k && (group == ours || apiVersion == "") {
			p.report("", problem{line: line, message: "kind " + kindName + " is not supported by this version of Belay",
				hint: "remove it; this version knows " + strings.Join(Kinds(), ", ")})
			return true
		}
	}
	what := apiVersion
	switch {
	case apiVersion == "" && isKustomization(p.file):
		what = "a kustomization"
	case apiVersion == "" || nearest(group, []string{ours}) != "":
		return false
	case kindName != "":
		what += " " + kindName
	}
	p.report("", problem{line: line, message: "is not a definition of Belay, but " + quoteless(what),
		hint: fmt.Sprintf("only documents with apiVersion: %s belong below %s; move manifests to a directory outside of it that an Application names", belay.APIVersion, quote(p.root))})
	return true
}

func isKustomization(file string) bool {
	switch path.Base(file) {
	case "kustomization.yaml", "kustomization.yml":
		return true
	}
	return false
}

// quoteless shortens a text that is shown without quotes and drops what is not printable.
func quoteless(s string) string {
	q := quote(s)
	return q[1 : len(q)-1]
}

// scalar is the text of a field, or "".
func scalar(entries []entry, name string) string {
	for _, e := range entries {
		n := e.node
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if e.key == name && isText(n) {
			return n.Value
		}
	}
	return ""
}

// head checks apiVersion and kind and sets d.kind if it is served.
func (d *decoder) head(entries []entry, apiVersion, kindName string, line int) {
	lines := map[string]int{}
	for _, e := range entries {
		lines[e.key] = e.line
	}
	hint := "write apiVersion: " + belay.APIVersion
	switch {
	case lines["apiVersion"] == 0:
		d.wrong(line, hint, "apiVersion is missing")
	case apiVersion == "":
		d.wrong(lines["apiVersion"], "", "apiVersion must be %s", belay.APIVersion)
	case apiVersion != belay.APIVersion:
		d.wrong(lines["apiVersion"], hint, "apiVersion %s is not known to this version of Belay", quote(apiVersion))
	}
	hint = "the kinds are " + strings.Join(Kinds(), ", ")
	switch d.kind = kindNamed(kindName); {
	case lines["kind"] == 0:
		d.wrong(line, hint, "kind is missing")
	case d.kind == nil:
		message := fmt.Sprintf("unknown kind %s", quote(kindName))
		if c := nearest(kindName, append(Kinds(), unserved...)); c != "" {
			message += fmt.Sprintf(", did you mean %q?", c)
		}
		d.wrong(lines["kind"], hint, "%s", message)
	}
}

// top are the fields of every definition.
var top = []string{"apiVersion", "kind", "metadata", "spec"}

// body decodes metadata and spec and returns the name, if it is one.
func (d *decoder) body(entries []entry, doc *document, spec reflect.Value, line int) (name string) {
	have := map[string]bool{}
	for _, e := range entries {
		have[e.key] = true
		if tracked[e.key] {
			d.lines[e.key] = e.line
		}
		switch e.key {
		case "apiVersion", "kind":
		case "metadata":
			var m metadata
			d.value(e.node, reflect.ValueOf(&m).Elem(), "metadata", rule{}, e.line)
			if formatName.structural(m.Name) {
				name = m.Name
			}
			doc.labels, doc.annotations = m.Labels, m.Annotations
		case "spec":
			d.value(e.node, spec, "spec", rule{}, e.line)
		default:
			d.unknownTop(e)
		}
	}
	if !have["metadata"] {
		d.wrong(line, "write metadata: {name: NAME}", "metadata is missing")
	}
	if !have["spec"] && d.kind.specRequired {
		d.wrong(line, d.kind.about, "spec is missing")
	}
	return name
}

func (d *decoder) unknownTop(e entry) {
	hint := "a definition has " + strings.Join(top, ", ")
	message := "unknown field " + quote(e.key)
	if p := d.kind.elsewhere(e.key, ""); p != "" {
		message += ", did you mean " + p + "?"
	} else if c := nearest(e.key, top); c != "" {
		message += fmt.Sprintf(", did you mean %q?", c)
	}
	d.wrong(e.line, hint, "%s", message)
}

// cleanPath is the one spelling of a path below the root of a repository; the
// root itself is "".
func cleanPath(p string) string {
	p = path.Clean(p)
	if p == "." {
		return ""
	}
	return p
}
