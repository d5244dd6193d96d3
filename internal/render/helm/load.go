package helm

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/ignore"

	"github.com/belaydev/belay/internal/render/manifest"
	"github.com/belaydev/belay/internal/render/wire"
)

const (
	maxDepth = 40
	maxFiles = 20_000
	// maxCharts bounds charts that contain charts, however they do it.
	maxCharts = 200
)

// chartFile is one file of a chart directory.
type chartFile struct {
	name string // relative to the chart
	path string // relative to the repository
	data []byte
}

// charts loads a chart and those inside it, and remembers where each file lies:
// Helm's own names follow aliases and archives, which nobody can open.
type charts struct {
	tree  wire.Tree
	out   *wire.Output
	files map[*common.File]string
	// capabilities is set once any text mentions them.
	capabilities bool
	count        int
	// ahead are files that will be read soon: with the next question.
	ahead []string
	local []string // charts being loaded by file://, to stop a cycle
}

// dir loads the chart directory at root. It returns nil after a problem.
func (c *charts) dir(root string) *chart.Chart {
	files, ok := c.list(root)
	if !ok {
		return nil
	}
	return c.assemble(root, files)
}

// list reads the files of a chart directory that .helmignore leaves.
func (c *charts) list(root string) ([]chartFile, bool) {
	top := c.tree.List(root)[0]
	if top.Err != nil {
		c.out.Fail(wire.ProblemOf(top.Err, "", 0))
		return nil, false
	}
	rules := ignore.Empty()
	if slices.ContainsFunc(top.Entries, func(e wire.Entry) bool { return e.Name == ignore.HelmIgnore && !e.Dir }) {
		file := path.Join(root, ignore.HelmIgnore)
		content := c.tree.Read(file)[0]
		if content.Err != nil {
			c.out.Fail(wire.ProblemOf(content.Err, "", 0))
			return nil, false
		}
		parsed, err := ignore.Parse(bytes.NewReader(content.Data))
		if err != nil {
			c.out.Fail(wire.Problem{File: file, Message: "not a valid .helmignore: " + err.Error()})
			return nil, false
		}
		rules = parsed
	}
	rules.AddDefaults()

	var names []string
	level, listings := []string{""}, []wire.Listing{top}
	for depth := 0; len(level) > 0; depth++ {
		if depth > maxDepth || len(names) > maxFiles {
			c.out.Fail(wire.Problem{File: root, Message: fmt.Sprintf("the chart has more than %d files, or directories more than %d deep", maxFiles, maxDepth)})
			return nil, false
		}
		var next, here []string
		for i, l := range listings {
			if l.Err != nil {
				c.out.Fail(wire.ProblemOf(l.Err, "", 0))
				return nil, false
			}
			for _, e := range l.Entries {
				name := path.Join(level[i], e.Name)
				if rules.Ignore(name, entryInfo{e}) {
					continue
				}
				if e.Dir {
					next = append(next, name)
				} else {
					here = append(here, name)
				}
			}
		}
		level, names = next, append(names, here...)
		if len(next) > 0 {
			// What is here is read with what is listed below.
			listings = c.tree.Look(wire.Question{List: under(root, next), Read: append(under(root, here), c.ahead...)}).Listings
			c.ahead = nil
		}
	}
	slices.Sort(names)
	return c.read(root, names)
}

func (c *charts) read(root string, names []string) ([]chartFile, bool) {
	paths := under(root, names)
	files := make([]chartFile, 0, len(names))
	for i, content := range c.tree.Read(paths...) {
		if content.Err != nil {
			c.out.Fail(wire.ProblemOf(content.Err, "", 0))
			continue
		}
		files = append(files, chartFile{name: names[i], path: paths[i], data: bytes.TrimPrefix(content.Data, []byte("\xef\xbb\xbf"))})
	}
	return files, len(c.out.Problems) == 0
}

func under(root string, names []string) []string {
	paths := make([]string, len(names))
	for i, n := range names {
		paths[i] = path.Join(root, n)
	}
	return paths
}

// assemble makes a chart of its files, with the charts below charts/ and the
// ones it names by file://.
func (c *charts) assemble(root string, files []chartFile) *chart.Chart {
	if c.count++; c.count > maxCharts {
		c.out.Fail(wire.Problem{File: root, Message: fmt.Sprintf("more than %d charts inside one another", maxCharts)})
		return nil
	}
	var own []*archive.BufferedFile
	subs := map[string][]chartFile{}
	for _, f := range files {
		if rest, ok := strings.CutPrefix(f.name, "charts/"); ok && path.Ext(f.name) != ".prov" {
			name, inner, _ := strings.Cut(rest, "/")
			subs[name] = append(subs[name], chartFile{name: inner, path: f.path, data: f.data})
			continue
		}
		if (f.name == "Chart.yaml" || f.name == "values.yaml") && !c.readable(f) {
			return nil
		}
		own = append(own, &archive.BufferedFile{Name: f.name, Data: f.data})
		c.mention(f.data)
	}
	ch, err := loader.LoadFiles(own)
	if err != nil {
		c.out.Fail(wire.Problem{File: path.Join(root, "Chart.yaml"), Message: "not a valid chart: " + chartError(err)})
		return nil
	}
	for _, f := range slices.Concat(ch.Templates, ch.Files) {
		c.files[f] = path.Join(root, f.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(subs)) {
		if strings.IndexAny(name, "_.") == 0 {
			continue
		}
		sub, ok := c.sub(root, name, subs[name])
		if !ok {
			return nil
		}
		if sub != nil {
			ch.AddDependency(sub)
		}
	}
	if !c.siblings(root, ch) || !c.fetched(root, ch) {
		return nil
	}
	return ch
}

// sub loads one entry of charts/; nil when the entry is no chart.
func (c *charts) sub(root, name string, files []chartFile) (*chart.Chart, bool) {
	if path.Ext(name) == ".tgz" && len(files) == 1 && files[0].name == "" {
		ch, err := loader.LoadArchive(bytes.NewReader(files[0].data))
		if err != nil {
			c.out.Fail(wire.Problem{File: files[0].path, Message: "not a valid chart archive: " + chartError(err)})
			return nil, false
		}
		c.archived(ch, files[0].path)
		return ch, true
	}
	inner := files[:0:0]
	for _, f := range files {
		if f.name != "" { // a file that lies in charts/ itself belongs to no chart
			inner = append(inner, f)
		}
	}
	if len(inner) == 0 {
		return nil, true
	}
	ch := c.assemble(path.Join(root, "charts", name), inner)
	return ch, ch != nil
}

// archived attributes every file of an archive to the archive.
func (c *charts) archived(ch *chart.Chart, file string) {
	for _, f := range slices.Concat(ch.Templates, ch.Files) {
		c.files[f] = file
		c.mention(f.Data)
	}
	for _, d := range ch.Dependencies() {
		c.archived(d, file)
	}
}

// siblings loads the dependencies that lie elsewhere in the repository
// (repository: file://../common) and are not in charts/.
func (c *charts) siblings(root string, ch *chart.Chart) bool {
	for _, dep := range ch.Metadata.Dependencies {
		rest, ok := strings.CutPrefix(dep.Repository, "file://")
		if !ok || path.IsAbs(rest) || slices.ContainsFunc(ch.Dependencies(), func(d *chart.Chart) bool { return d.Name() == dep.Name }) {
			continue
		}
		dir := path.Join(root, rest)
		if dir == ".." || strings.HasPrefix(dir, "../") || slices.Contains(c.local, dir) || len(c.local) > maxDepth {
			continue // reported as missing
		}
		if st := c.tree.Stat(dir)[0]; st.Err != nil || !st.Dir {
			continue
		}
		c.local = append(c.local, dir)
		sub := c.dir(dir)
		c.local = c.local[:len(c.local)-1]
		if sub == nil {
			return false
		}
		ch.AddDependency(sub)
	}
	return true
}

// complete reports the dependencies that Chart.yaml names and that are not there.
func (c *charts) complete(root string, ch *chart.Chart) bool {
	var missing []string
	for _, dep := range ch.Metadata.Dependencies {
		if !slices.ContainsFunc(ch.Dependencies(), func(d *chart.Chart) bool { return d.Name() == dep.Name }) {
			missing = append(missing, dep.Name)
		}
	}
	if len(missing) == 0 {
		return true
	}
	c.out.Fail(wire.Problem{File: path.Join(root, "Chart.yaml"),
		Message: fmt.Sprintf("the chart depends on %s, which charts/ does not contain", strings.Join(missing, ", ")),
		Hint:    fmt.Sprintf("name their repository in Chart.yaml, or vendor them: run \"helm dependency build %s\" and commit %s", root, path.Join(root, "charts"))})
	return false
}

// readable reports problems of a YAML file with their lines, which Helm's loader
// does not give.
func (c *charts) readable(f chartFile) bool {
	for _, d := range manifest.Split(f.data) {
		j, err := d.LenientJSON()
		if err != nil {
			c.out.Fail(manifest.Problem(f.path, err))
			return false
		}
		if len(j) > 0 && j[0] != '{' {
			c.out.Fail(wire.Problem{File: f.path, Line: d.Line, Message: "must be a mapping"})
			return false
		}
	}
	return true
}

func (c *charts) mention(data []byte) {
	c.capabilities = c.capabilities || bytes.Contains(data, []byte("Capabilities"))
}

// chartError keeps what Helm says of a chart's metadata and hides the rest,
// which can repeat the file.
func chartError(err error) string {
	msg := err.Error()
	if i := strings.LastIndex(msg, "validation: "); i >= 0 {
		return strings.ReplaceAll(msg[i+len("validation: "):], "chart.metadata.", "")
	}
	if strings.Contains(msg, "gzip") {
		return "it is not packed with gzip"
	}
	for _, known := range []string{"Chart.yaml file is missing", "unsupported chart version",
		"exceeds the maximum", "chart illegally"} {
		if strings.Contains(msg, known) {
			return known
		}
	}
	return "its metadata or an archive in it cannot be read"
}

// entryInfo is the little that ignore rules want to know of a file.
type entryInfo struct{ e wire.Entry }

func (i entryInfo) Name() string       { return i.e.Name }
func (i entryInfo) Size() int64        { return 0 }
func (i entryInfo) Mode() fs.FileMode  { return 0o444 }
func (i entryInfo) ModTime() time.Time { return time.Time{} }
func (i entryInfo) IsDir() bool        { return i.e.Dir }
func (i entryInfo) Sys() any           { return nil }
