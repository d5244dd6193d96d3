// Package plain renders directories and single files of Kubernetes manifests
// in YAML and JSON.
//
// It must not know templates, Kustomize or Helm, and it reads only through the
// Tree it is given.
package plain

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/manifest"
	"github.com/belaydev/belay/internal/render/wire"
)

// Kind is what an Output of this package calls itself.
const Kind = "plain"

const (
	maxDepth = 40     // of directories; deeper is a loop of symlinks
	maxDirs  = 20_000 // in one application
)

// Render reads the file or directory of the job and returns its manifests in
// the order of the paths and, within a file, of the documents.
//
// Without include patterns every .yaml, .yml and .json file counts, except
// those whose name or directory begins with a dot.
func Render(tree wire.Tree, job wire.Job) *wire.Output {
	out := &wire.Output{Kind: Kind}
	root := path.Clean(job.Source.Path)
	opts := belay.DefaultDirectorySource()
	if job.Source.Directory != nil {
		opts = *job.Source.Directory
	}
	st := tree.Stat(root)[0]
	if st.Err != nil {
		out.Fail(pathProblem(root, st.Err))
		return out
	}
	files := []string{root}
	if st.Dir {
		var ok bool
		if files, ok = find(tree, out, root, opts); !ok {
			return out
		}
		if len(files) == 0 {
			out.Warn("%s: no file matches, so the application has no objects", root)
		}
	}
	for i, c := range tree.Read(files...) {
		if c.Err != nil {
			p := wire.ProblemOf(c.Err, "", 0)
			if errors.Is(c.Err, fs.ErrNotExist) { // it was listed
				p.Message, p.Hint = "is a symbolic link that leads to nothing", "mend the link, or remove it"
			}
			out.Fail(p)
			continue
		}
		read(out, files[i], c.Data)
	}
	return out
}

func pathProblem(root string, err error) wire.Problem {
	p := wire.ProblemOf(err, "", 0)
	if errors.Is(err, fs.ErrNotExist) {
		p.Code = belay.CodeNotFound
		p.File = ""
		p.Message = fmt.Sprintf("the path %q does not exist in the repository", root)
		p.Hint = "correct spec.source.path of the Application, or commit the files"
	}
	return p
}

// find lists the files to read, level by level, sorted.
func find(tree wire.Tree, out *wire.Output, root string, opts belay.DirectorySource) ([]string, bool) {
	var files []string
	level := []string{root}
	dirs := 1
	for depth := 0; len(level) > 0; depth++ {
		if depth > maxDepth || dirs > maxDirs {
			out.Fail(wire.Problem{File: level[0], Message: fmt.Sprintf("more than %d directories, or more than %d deep", maxDirs, maxDepth),
				Hint: "look for a symlink that leads back to a directory above it"})
			return nil, false
		}
		var next []string
		for i, l := range tree.List(level...) {
			if l.Err != nil {
				out.Fail(wire.ProblemOf(l.Err, "", 0))
				continue
			}
			for _, e := range l.Entries {
				p := path.Join(level[i], e.Name)
				rel := p
				if root != "." {
					rel = strings.TrimPrefix(p, root+"/")
				}
				switch {
				case e.Submodule && !reaches(rel, opts): // nobody misses it
				case e.Dir && opts.Recurse && (len(opts.Include) > 0 || e.Name[0] != '.'):
					next = append(next, p)
				case !e.Dir && wanted(rel, e.Name, opts):
					files = append(files, p)
				}
			}
		}
		dirs += len(next)
		level = next
	}
	slices.Sort(files)
	return files, len(out.Problems) == 0
}

// reaches says whether something that is wanted may lie below a directory. A
// submodule in which nothing is wanted does no harm.
func reaches(rel string, opts belay.DirectorySource) bool {
	if slices.ContainsFunc(opts.Exclude, func(pattern string) bool {
		return belay.MatchGlob(pattern, rel) || strings.HasSuffix(pattern, "/**") && belay.MatchGlob(pattern, rel+"/x")
	}) {
		return false
	}
	return len(opts.Include) == 0 || slices.ContainsFunc(opts.Include, func(pattern string) bool { return leadsBelow(pattern, rel) })
}

// leadsBelow says whether a pattern may match something below a directory.
func leadsBelow(pattern, dir string) bool {
	pat := strings.Split(pattern, "/")
	for i, name := range strings.Split(dir, "/") {
		switch {
		case i < len(pat) && pat[i] == "**":
			return true
		case i+1 >= len(pat) || !belay.MatchGlob(pat[i], name):
			return false
		}
	}
	return true
}

func wanted(rel, name string, opts belay.DirectorySource) bool {
	if name == "kustomization.yaml" || name == "kustomization.yml" {
		return false
	}
	match := func(pattern string) bool { return belay.MatchGlob(pattern, rel) }
	if slices.ContainsFunc(opts.Exclude, match) {
		return false
	}
	if len(opts.Include) > 0 {
		return slices.ContainsFunc(opts.Include, match)
	}
	switch path.Ext(name) {
	case ".yaml", ".yml", ".json":
		return name[0] != '.'
	}
	return false
}

func read(out *wire.Output, file string, data []byte) {
	var docs []manifest.Doc
	if path.Ext(file) == ".json" {
		var err error
		if docs, err = manifest.SplitJSON(data); err != nil {
			out.Fail(manifest.Problem(file, err))
			return
		}
	} else {
		docs = manifest.Split(data)
	}
	for _, d := range docs {
		items, err := d.Manifests()
		if err != nil {
			out.Fail(manifest.Problem(file, err))
			return // what follows a broken document is guesswork
		}
		for _, it := range items {
			if missing := manifest.NotObject(it.Manifest); missing != "" {
				if strings.HasPrefix(path.Base(file), "kustomization") {
					continue
				}
				out.Fail(wire.Problem{File: file, Line: it.Line, Message: "not a Kubernetes object: " + missing,
					Hint: "add what is missing, or leave the file out with spec.source.directory.exclude"})
				continue
			}
			out.Add(file, it.Line, it.Manifest)
		}
	}
}
