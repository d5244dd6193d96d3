package kustomize

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/manifest"
	"github.com/belaydev/belay/internal/render/wire"
)

// explain turns what Kustomize said into problems with a place. Kustomize wraps
// each step of its recursion around an error and repeats whole configurations,
// secret values included, so the input is looked at first and the text last.
func (in *inspector) explain(cause error) {
	before := len(in.out.Problems)
	for _, f := range in.resources {
		c := in.src.Read(f)[0]
		if c.Err != nil {
			in.out.Fail(wire.ProblemOf(c.Err, "", 0))
			continue
		}
		in.checkFile(f, c.Data)
	}
	for _, l := range in.layers {
		in.checkPatches(l)
		for i := range l.k.SecretGenerator {
			in.checkPairs(l, "secretGenerator", i, &l.k.SecretGenerator[i].KvPairSources)
		}
		for i := range l.k.ConfigMapGenerator {
			in.checkPairs(l, "configMapGenerator", i, &l.k.ConfigMapGenerator[i].KvPairSources)
		}
	}
	if len(in.out.Problems) > before {
		return
	}
	text := belay.Scrub(cause.Error(), in.secrets())
	p := translate(text)
	if p.File, p.Line = in.blame(text); duplicate.MatchString(text) {
		if places := in.declared(text); len(places) > 1 {
			p.File, p.Line = places[1].File, places[1].Line
			p.Message += ", also in " + belay.Origin{File: places[0].File, Line: places[0].Line}.String()
		}
	}
	in.out.Fail(p)
}

// declared finds the places in resource files that declare the object of a
// message about a duplicate.
func (in *inspector) declared(text string) []wire.Doc {
	m := duplicate.FindStringSubmatch(text)
	gvk, name, _ := strings.Cut(m[1], "/")
	kind, _, _ := strings.Cut(gvk, ".")
	name, _, _ = strings.Cut(name, ".")
	var places []wire.Doc
	for _, f := range in.resources {
		c := in.src.Read(f)[0]
		for _, d := range manifest.Split(c.Data) {
			if manifest.Names(d, kind, name) {
				places = append(places, wire.Doc{File: f, Line: d.Line})
			}
		}
	}
	return places
}

// checkFile reports what is wrong with a resource file by itself.
func (in *inspector) checkFile(file string, data []byte) {
	for _, d := range manifest.Split(data) {
		items, err := d.Manifests()
		if err != nil {
			in.out.Fail(manifest.Problem(file, err))
			return
		}
		for _, it := range items {
			if missing := manifest.NotObject(it.Manifest); missing != "" {
				in.out.Fail(wire.Problem{File: file, Line: it.Line, Message: "not a Kubernetes object: " + missing,
					Hint: "add what is missing, or take the file out of resources"})
				return
			}
			if _, err := belay.NewObject(it.Manifest, belay.Origin{}); err != nil && !errors.Is(err, belay.ErrLeftOut) {
				in.out.Fail(wire.Problem{File: file, Line: it.Line, Message: err.Error()})
				return
			}
		}
	}
}

// checkPatches reports patches that are no YAML.
func (in *inspector) checkPatches(l *layer) {
	for _, p := range l.patches {
		text := in.patchText(l, p)
		for _, d := range manifest.Split(text) {
			_, err := d.JSON()
			if err == nil {
				continue
			}
			problem := manifest.Problem(path.Join(l.dir, p.path), err)
			if p.path == "" {
				problem.Message = fmt.Sprintf("the patch written here is wrong: %s (its line %d)", problem.Message, problem.Line)
				problem.File, problem.Line = l.file, l.line(p.field, p.index)
			}
			in.out.Fail(problem)
			break
		}
	}
}

func (in *inspector) patchText(l *layer, p patch) []byte {
	if p.path == "" {
		return []byte(p.inline)
	}
	return in.src.Read(path.Join(l.dir, p.path))[0].Data
}

// checkPairs reports literals and lines of env files that are no key=value.
func (in *inspector) checkPairs(l *layer, field string, i int, kv *types.KvPairSources) {
	for j, s := range kv.LiteralSources {
		if at := strings.IndexByte(s, '='); at <= 0 {
			in.out.Fail(wire.Problem{File: l.file, Line: l.line(field, i, "literals", j), Message: "a literal must be key=value"})
		}
	}
	envs := kv.EnvSources
	if kv.EnvSource != "" {
		envs = append(slices.Clone(envs), kv.EnvSource)
	}
	for _, f := range envs {
		f = path.Join(l.dir, f)
		c := in.src.Read(f)[0]
		if c.Err != nil {
			continue
		}
		n := 0
		for line := range strings.Lines(string(c.Data)) {
			n++
			line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
			if key, _, _ := strings.Cut(line, "="); line != "" && line[0] != '#' && !envName.MatchString(key) {
				in.out.Fail(wire.Problem{File: f, Line: n, Message: "a line of an env file must be NAME=value, and the name of letters, digits, '_', '-' and '.'"})
				break
			}
		}
	}
}

var envName = regexp.MustCompile(`^[-._a-zA-Z][-._a-zA-Z0-9]*$`)

// secrets lists every value of the build that a message must not repeat.
func (in *inspector) secrets() []string {
	var out []string
	for _, l := range in.layers {
		for i := range l.k.SecretGenerator {
			kv := &l.k.SecretGenerator[i].KvPairSources
			out = append(out, manifest.LineTexts([]byte(strings.Join(kv.LiteralSources, "\n")))...)
			for _, f := range append(slices.Clone(kv.EnvSources), kv.EnvSource) {
				if c := in.src.Read(path.Join(l.dir, f))[0]; f != "" && c.Err == nil {
					out = append(out, manifest.LineTexts(c.Data)...)
				}
			}
			for _, f := range kv.FileSources {
				if _, after, ok := strings.Cut(f, "="); ok {
					f = after
				}
				if c := in.src.Read(path.Join(l.dir, f))[0]; c.Err == nil {
					out = append(out, strings.TrimSpace(string(c.Data)))
					out = append(out, manifest.LineTexts(c.Data)...)
				}
			}
		}
		if strings.Contains(string(l.text), "Secret") {
			for _, p := range l.patches {
				out = append(out, manifest.ValueTexts([]byte(p.inline))...)
			}
		}
	}
	for _, c := range in.src.Contents() {
		if c.Err == nil {
			out = append(out, manifest.SecretTexts(c.Data)...)
		}
	}
	out = slices.DeleteFunc(out, func(s string) bool { return len(s) < 4 })
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(out)
}

// blame finds the place of a message: the kustomization deepest in its chain of
// directories, or the one that names the patch in question.
func (in *inspector) blame(text string) (string, int) {
	file, line := in.layers[0].file, 0
	for _, l := range in.layers {
		if strings.Contains(text, "path '/"+l.dir+"'") && len(l.dir) >= len(path.Dir(file)) {
			file = l.file
		}
	}
	if m := patchID.FindStringSubmatch(text); m != nil {
		kind, name := m[1], m[2]
		for _, l := range in.layers {
			for _, p := range l.patches {
				body := string(in.patchText(l, p))
				if strings.Contains(body, kind) && strings.Contains(body, name) {
					return l.file, l.line(p.field, p.index)
				}
			}
		}
	}
	if m := noBase.FindStringSubmatch(text); m != nil {
		for _, l := range in.layers {
			if at := l.generatorLine(m[2]); at > 0 && strings.Contains(string(l.text), "behavior") {
				return l.file, at
			}
		}
	}
	return file, line
}

var (
	patchID    = regexp.MustCompile(`no resource matches strategic merge patch "([A-Za-z0-9]+)[^/]*/([^".]+)`)
	noTarget   = regexp.MustCompile(`no resource matches strategic merge patch "([^"]+)"`)
	duplicate  = regexp.MustCompile(`may not add resource with an already registered id: ([\w./\[\]-]+)`)
	tooOften   = regexp.MustCompile(`Kind:"(\w+)".*?Name:"([^"]+)".*? exists; can not use behavior`)
	inner      = regexp.MustCompile(`(?s)accumulation err='accumulating resources from '[^']*': (.*?)': `)
	noBase     = regexp.MustCompile(`Kind:"(\w+)".*?Name:"([^"]+)".*? does not exist; cannot merge or replace`)
	container  = regexp.MustCompile(`(?i)external plugins disabled|unable to load .*plugin|function .*(not enabled|disabled)|plugin .* (not|cannot)`)
	helmPlugin = regexp.MustCompile(`must specify --enable-helm`)
	wrapping   = regexp.MustCompile(`(?s)^(accumulating (resources|components)|recursed (accumulation|merging)[^:]*|accumulation err='.*?'|merging (from|resources)[^:]*|accumulateDirectory|loader\.New|couldn't make target for path '[^']*'|loading [^:]*|trouble configuring builtin \w+ with config): `)
	quoteBlock = regexp.MustCompile("(?s)`.*?`")
	accErr     = regexp.MustCompile(`(?s)accumulation err='.*': `)
)

// translate words the known messages anew and trims the unknown ones.
func translate(text string) wire.Problem {
	switch {
	case noTarget.MatchString(text):
		id := noTarget.FindStringSubmatch(text)[1]
		return wire.Problem{Message: "a patch changes " + readableID(id) + ", which is not among the resources",
			Hint: "correct the kind, name and namespace in the patch, or add the resource"}
	case duplicate.MatchString(text):
		id := duplicate.FindStringSubmatch(text)[1]
		return wire.Problem{Code: belay.CodeInvalid, Message: readableID(id) + " is declared twice",
			Hint: "remove one of them, or make it a patch"}
	case tooOften.MatchString(text):
		m := tooOften.FindStringSubmatch(text)
		return wire.Problem{Message: fmt.Sprintf("two generators make %s %s", m[1], m[2]),
			Hint: "remove one of them, or give the later one behavior: merge or replace"}
	case noBase.MatchString(text):
		m := noBase.FindStringSubmatch(text)
		return wire.Problem{Message: fmt.Sprintf("a generator changes %s %s (behavior: merge or replace), which nothing below generates", m[1], m[2]),
			Hint: "correct the name, or drop the behavior"}
	case helmPlugin.MatchString(text):
		return wire.Problem{Message: "the HelmChartInflationGenerator is not supported",
			Hint: "make the chart an Application of its own with spec.source.helm"}
	case container.MatchString(text):
		return wire.Problem{Message: "plugins and functions are not supported: only what is built into Kustomize runs",
			Hint: "use a built-in generator or transformer, or commit the output of the plugin"}
	}
	text = quoteBlock.ReplaceAllString(text, "")
	if m := inner.FindStringSubmatch(text); m != nil && !strings.Contains(m[1], "no such file") && !strings.Contains(m[1], "is a directory") {
		text = m[1]
	}
	text = accErr.ReplaceAllString(text, "")
	for {
		cut := wrapping.ReplaceAllString(text, "")
		if cut == text {
			break
		}
		text = cut
	}
	text = strings.Join(strings.Fields(text), " ")
	text = strings.TrimLeft(strings.ReplaceAll(text, "'/", "'"), ": ")
	const long = 300
	if len(text) > long {
		text = strings.ToValidUTF8(text[:long], "") + " …"
	}
	return wire.Problem{Message: fmt.Sprintf("kustomize: %s", text)}
}

// readableID turns Kustomize's "Deployment.v1.apps/web.prod" into "Deployment.apps prod/web".
func readableID(id string) string {
	gvk, name, ok := strings.Cut(id, "/")
	if !ok {
		return id
	}
	kind, rest, _ := strings.Cut(gvk, ".")
	if _, group, ok := strings.Cut(rest, "."); ok && group != "[noGrp]" {
		kind += "." + group
	}
	name, ns, _ := strings.Cut(name, ".")
	if ns != "" && ns != "[noNs]" {
		name = ns + "/" + name
	}
	return kind + " " + name
}
