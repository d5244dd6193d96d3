package render_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/render/rendertest"
)

func TestDuplicateNamesBothPlaces(t *testing.T) {
	p := newPool(t, testOptions)
	files := rendertest.Files{
		"a/1.yaml": configMap("x", "1"),
		"a/2.yaml": configMap("z", "1") + "---\n" + strings.Replace(configMap("x", "2"), "name: x", "name: x\n  namespace: prod", 1),
		"a/3.yaml": strings.Replace(configMap("x", "2"), "name: x", "name: x\n  namespace: other", 1),
	}
	_, errs := renderError(t, p, files, request("a"))
	if len(errs) != 1 {
		t.Fatalf("errors %v", errs)
	}
	want := `a/2.yaml:8: ConfigMap prod/x: declared twice, also in a/1.yaml:1 (remove one of them)`
	if got := errs[0].Error(); got != want || errs[0].Code != belay.CodeInvalid {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestErrorsOfManyFilesComeTogether(t *testing.T) {
	p := newPool(t, testOptions)
	files := rendertest.Files{}
	for i := range 30 {
		files[fmt.Sprintf("a/%02d.yaml", i)] = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: [\n"
	}
	files["a/00.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 12}\n"
	files["a/01.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x-}\n---\napiVersion: v1\nkind: ConfigMap\n"
	res, errs := renderError(t, p, files, request("a"))
	if len(errs) != 10 {
		t.Errorf("%d errors, want 10", len(errs))
	}
	if len(res.Reads) < 31 || res.Kind != "plain" {
		t.Errorf("%d reads, kind %q: an error must say what it follows from", len(res.Reads), res.Kind)
	}
	delete(files, "a/00.yaml")
	few := rendertest.Files{"a/00.yaml": files["a/01.yaml"], "a/05.yaml": files["a/05.yaml"], "a/06.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 12}\n"}
	_, errs = renderError(t, p, few, request("a"))
	var places []string
	for _, e := range errs {
		places = append(places, e.Origin.String())
	}
	if got := strings.Join(places, " "); got != "a/00.yaml:1 a/00.yaml:5 a/05.yaml:4 a/06.yaml:1" {
		t.Errorf("places %s: %v", got, errs)
	}
}

// failing is a source of which one path cannot be read.
type failing struct {
	rendertest.Files
	path string
	err  error
}

func (f failing) ReadFile(p string) ([]byte, error) {
	if p == f.path {
		return nil, f.err
	}
	return f.Files.ReadFile(p)
}

func (f failing) Digest(kind belay.ReadKind, p string) (string, error) {
	if p == f.path {
		return "", f.err
	}
	return f.Files.Digest(kind, p)
}

func TestPathThatCannotBeRead(t *testing.T) {
	p := newPool(t, testOptions)
	files := rendertest.Files{"a/link.yaml": "x", "k/kustomization.yaml": "resources: [../a/link.yaml]\n"}
	cause := &belay.Error{Code: belay.CodeInvalid, Message: "the symlink leads out of the repository", Hint: "copy the file"}
	for _, f := range []failing{{files, "a/link.yaml", cause}, {files, "a/link.yaml", &fs.PathError{Op: "open", Path: "/mirror/objects/x", Err: errors.New("the symlink leads out of the repository")}}} {
		res, err := p.Render(t.Context(), f, request("a"))
		ps := render.Problems(err)
		if len(ps) != 1 || ps[0].Origin.File != "a/link.yaml" || !strings.HasPrefix(ps[0].Message, "the symlink leads out of the repository") {
			t.Errorf("errors %v", err)
		}
		if strings.Contains(fmt.Sprint(err), "/mirror") {
			t.Errorf("a path of this machine: %v", err)
		}
		found := false
		for _, r := range res.Reads {
			found = found || r.Path == "a/link.yaml"
		}
		if !found {
			t.Errorf("reads %v do not have the path", res.Reads)
		}
		if c := openCache(t, t.TempDir(), 1<<20); c.Put(request("a"), res) == nil {
			if _, ok := cacheGet(t, c, f, request("a")); ok {
				t.Error("a result that follows from what cannot be known is kept")
			}
		}
	}
}

// Every way to get a Secret wrong must keep its values to itself.
func TestErrorsNeverRepeatSecretValues(t *testing.T) {
	p := newPool(t, testOptions)
	const value = "hunter2-planted-value"
	secret := func(body string) string { return "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n" + body }
	plain := map[string]string{
		"colon":          secret("stringData:\n  password: " + value + ": x\n"),
		"alias":          secret("stringData:\n  password: *" + value + "\n"),
		"anchor":         secret("stringData:\n  password: &" + value + " *" + value + "\n"),
		"tag":            secret("stringData:\n  password: !!int " + value + "\n"),
		"binary":         secret("stringData:\n  password: !!binary " + value + "\n"),
		"unclosed":       secret("stringData:\n  password: \"" + value + "\n"),
		"duplicate key":  secret("stringData:\n  " + value + ": a\n  " + value + ": b\n"),
		"indent":         secret("stringData:\n  password: " + value + "\n other: x\n"),
		"map key":        secret("stringData:\n  ? [" + value + "]\n  : x\n"),
		"tab":            secret("stringData:\n\tpassword: " + value + "\n"),
		"kind type":      "apiVersion: v1\nkind: [Secret, " + value + "]\nmetadata: {name: s}\n",
		"name type":      "apiVersion: v1\nkind: Secret\nmetadata: {name: {a: " + value + "}}\n",
		"no name":        "apiVersion: v1\nkind: Secret\nstringData: {password: " + value + "}\n",
		"nan":            secret("stringData:\n  password: .nan\n  other: " + value + "\n"),
		"twice":          secret("stringData: {p: "+value+"}\n") + "---\n" + secret("stringData: {p: "+value+"}\n"),
		"no kind":        "apiVersion: v1\nmetadata: {name: Secret}\nstringData: {password: " + value + "}\n",
		"beside another": secret("stringData: {p: "+value+"}\n") + "---\nnot: [an object\n",
	}
	cases := map[string]rendertest.Files{}
	for name, text := range plain {
		cases["plain, "+name] = rendertest.Files{"a/s.yaml": text}
		cases["kustomize, "+name] = rendertest.Files{"a/s.yaml": text, "a/kustomization.yaml": "resources: [s.yaml]\n"}
		cases["kustomize patch, "+name] = rendertest.Files{"a/s.yaml": secret(""), "a/p.yaml": text + "\nbroken: [",
			"a/kustomization.yaml": "resources: [s.yaml]\npatches: [{path: p.yaml}]\n"}
		cases["helm, "+name] = rendertest.Files{"a/Chart.yaml": chartYAML, "a/templates/s.yaml": strings.ReplaceAll(text, value, "{{ .Values.p }}"), "a/values.yaml": "p: " + value + "\n"}
	}
	cases["json"] = rendertest.Files{"a/s.json": `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":{"p":"` + value + `",}}`}
	cases["json twice"] = rendertest.Files{"a/s.json": `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":{"` + value + `":"1","` + value + `":"2"}}`}
	for name, k := range map[string]string{
		"literal":       "secretGenerator:\n- name: s\n  literals: [" + value + "]\n",
		"equals first":  "secretGenerator:\n- name: s\n  literals: [\"=" + value + "\"]\n",
		"same twice":    "secretGenerator:\n- name: s\n  literals: [p=" + value + "]\n- name: s\n  literals: [p=" + value + "]\n",
		"bad type":      "secretGenerator:\n- name: s\n  literals: {p: " + value + "}\n",
		"bad key":       "secretGenerator:\n- name: s\n  literals: [\"p q=" + value + "\"]\n",
		"bad behavior":  "secretGenerator:\n- name: s\n  behavior: odd\n  literals: [p=" + value + "]\n",
		"merge nothing": "secretGenerator:\n- name: s\n  behavior: merge\n  literals: [p=" + value + "]\n",
		"env file":      "secretGenerator:\n- name: s\n  envs: [s.env]\n",
		"bad file":      "secretGenerator:\n- name: s\n  files: [a=b=s.env]\n",
		"inline patch":  "resources: [s.yaml]\npatches:\n- patch: |\n    kind: Secret\n    stringData: {p: " + value + "\n",
		"json patch":    "resources: [s.yaml]\npatches:\n- target: {kind: Secret}\n  patch: |\n    - op: test\n      path: /stringData/p\n      value: " + value + "\n",
		"no target":     "patches:\n- patch: |\n    apiVersion: v1\n    kind: Secret\n    metadata: {name: t}\n    stringData: {p: " + value + "}\n",
	} {
		cases["kustomize generator, "+name] = rendertest.Files{"a/kustomization.yaml": k, "a/s.env": "x y " + value + "\n", "a/s.yaml": secret("stringData: {p: other}\n")}
	}
	for name, tpl := range map[string]string{
		"fail":       secret("stringData:\n  p: {{ fail .Values.p }}\n"),
		"tpl":        secret("stringData:\n  p: {{ tpl (print \"{{ .x\" .Values.p) . }}\n"),
		"tpl inside": secret("stringData:\n  p: {{ tpl (print \"{{ fail \\\"\" .Values.p \"\\\" }}\") . }}\n"),
		"date":       secret("stringData:\n  p: {{ mustToDate \"2006\" .Values.p }}\n"),
		"index":      secret("stringData:\n  p: {{ index .Values.p \"x\" }}\n"),
		"nested":     secret("stringData:\n  p: {{ .Values.p.q.r }}\n"),
		"include":    secret("stringData:\n  p: {{ include .Values.p . }}\n"),
		"semver":     secret("stringData:\n  p: {{ semver .Values.p }}\n"),
		"regex":      secret("stringData:\n  p: {{ mustRegexMatch (print \"(\" .Values.p) \"x\" }}\n"),
		"fromYaml":   secret("stringData:\n  p: {{ (fromYaml (print \"a: \" .Values.p \": x\")).Error }}: x\n"),
		"file":       secret("stringData:\n  p: {{ fail (.Files.Get \"s.txt\") }}\n"),
		"helper":     "{{ define \"h\" }}{{ fail .Values.password }}{{ end }}{{ include \"h\" . }}",
		"url":        secret("stringData:\n  p: {{ urlParse (print \"http://\" .Values.p \" %zz\") }}\n"),
		"required":   secret("stringData:\n  p: {{ required .Values.p .Values.none }}\n"),
	} {
		cases["helm template, "+name] = rendertest.Files{"a/Chart.yaml": chartYAML, "a/templates/s.yaml": tpl, "a/s.txt": value + "\n",
			"a/values.yaml": "p: " + value + "\npassword: " + value + "\n"}
	}
	cases["helm schema"] = rendertest.Files{"a/Chart.yaml": chartYAML, "a/values.yaml": "p: " + value + "\nq: " + value + "\n",
		"a/values.schema.json": `{"properties":{"p":{"pattern":"^x$"},"q":{"const":1}},"additionalProperties":false}`}
	cases["helm values"] = rendertest.Files{"a/Chart.yaml": chartYAML, "a/values.yaml": "p: " + value + ": x\n"}

	failed := 0
	for name, files := range cases {
		_, err := p.Render(t.Context(), files, request("a"))
		if err == nil {
			continue // not every way is wrong everywhere
		}
		failed++
		for _, e := range render.Problems(err) {
			text := fmt.Sprintf("%s %+v %v", err, e, e.Err)
			if strings.Contains(text, "hunter2") || strings.Contains(text, "planted") {
				t.Errorf("%s: %s", name, text)
			}
			if e.Code == belay.CodeInternal {
				t.Errorf("%s: internal error %v", name, e)
			}
			t.Logf("%s: %s", name, e)
		}
	}
	if failed < len(cases)*3/4 {
		t.Errorf("only %d of %d cases failed: the test tests little", failed, len(cases))
	}
}

// linked is a source in which a/link leads to the directory b and a/gone
// nowhere.
type linked struct{ rendertest.Files }

func (l linked) real(p string) string {
	if rest, ok := strings.CutPrefix(p, "a/link"); ok {
		return "b" + rest
	}
	return p
}

type link struct{ fs.DirEntry }

func (link) Type() fs.FileMode { return fs.ModeSymlink }
func (link) IsDir() bool       { return false }

func (l linked) ReadDir(p string) ([]fs.DirEntry, error) {
	entries, err := l.Files.ReadDir(l.real(p))
	for i, e := range entries {
		if e.Name() == "link" || e.Name() == "gone.yaml" {
			entries[i] = link{e}
		}
	}
	return entries, err
}

func (l linked) Stat(p string) (fs.FileInfo, error) {
	if p == "a/gone.yaml" {
		return nil, &fs.PathError{Op: "stat", Path: p, Err: fs.ErrNotExist}
	}
	return l.Files.Stat(l.real(p))
}

func (l linked) ReadFile(p string) ([]byte, error) {
	if p == "a/gone.yaml" {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	return l.Files.ReadFile(l.real(p))
}

func (l linked) Digest(kind belay.ReadKind, p string) (string, error) {
	if p == "a/gone.yaml" {
		return "absent", nil
	}
	return l.Files.Digest(kind, l.real(p))
}

// Trace implements render.Tracer.
func (l linked) Trace(kind belay.ReadKind, p string) ([]belay.Read, error) {
	if !strings.HasPrefix(p, "a/link") {
		return nil, nil
	}
	d, err := l.Digest(kind, p)
	return []belay.Read{{Path: "a/link", Kind: belay.ReadStat, Digest: "link"}, {Path: l.real(p), Kind: kind, Digest: d}}, err
}

func TestSymlinksAreFollowedAndTraced(t *testing.T) {
	p := newPool(t, testOptions)
	files := linked{rendertest.Files{"a/link": "b", "a/x.yaml": configMap("x", "1"), "b/z.yaml": configMap("z", "1")}}
	res := mustRender(t, p, files, request("a"))
	if got, want := ids(res), "ConfigMap z@a/link/z.yaml:1 ConfigMap x@a/x.yaml:1"; got != want {
		t.Errorf("objects %s, want %s", got, want)
	}
	var traced []string
	for _, r := range res.Reads {
		traced = append(traced, fmt.Sprintf("%s %s", r.Kind, r.Path))
	}
	if got := strings.Join(traced, ", "); !strings.Contains(got, "file b/z.yaml") || !strings.Contains(got, "list b") {
		t.Errorf("reads %s do not have the target of the link", got)
	}
	files.Files["a/gone.yaml"] = "nowhere"
	_, errs := renderError(t, p, files, request("a"))
	if len(errs) != 1 || errs[0].Origin.File != "a/gone.yaml" || errs[0].Message != "is a symbolic link that leads to nothing" {
		t.Errorf("errors %v", errs)
	}
}

// modules is a source in which each directory called mod is a submodule.
type modules struct{ rendertest.Files }

type module struct{ fs.DirEntry }

func (module) Type() fs.FileMode { return fs.ModeIrregular }
func (module) IsDir() bool       { return false }

func (m modules) ReadDir(p string) ([]fs.DirEntry, error) {
	if path.Base(p) == "mod" {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: "is a submodule", Err: fs.ErrInvalid}
	}
	entries, err := m.Files.ReadDir(p)
	for i, e := range entries {
		if e.Name() == "mod" {
			entries[i] = module{e}
		}
	}
	return entries, err
}

// What lies in a submodule is not there, which must not look as if it were gone.
func TestSubmodulesOfADirectory(t *testing.T) {
	p := newPool(t, testOptions)
	files := modules{rendertest.Files{"a/x.yaml": configMap("x", "1"), "a/b/y.yaml": configMap("yy", "1"), "a/b/mod/z.yaml": configMap("z", "1")}}
	for _, c := range []struct {
		directory *belay.DirectorySource
		fails     bool
	}{
		{nil, true},
		{&belay.DirectorySource{Recurse: true, Include: []string{"*.yaml", "b/**"}}, true},
		{&belay.DirectorySource{Recurse: true, Include: []string{"**/z.yaml"}}, true},
		{&belay.DirectorySource{Recurse: true, Include: []string{"b/m*/z.yaml"}}, true},
		{&belay.DirectorySource{Recurse: true, Exclude: []string{"b/mod/z.yaml"}}, true},
		{&belay.DirectorySource{Recurse: true, Include: []string{"*.yaml", "b/*.yaml", "c/**"}}, false},
		{&belay.DirectorySource{Recurse: true, Exclude: []string{"**/mod/**"}}, false},
		{&belay.DirectorySource{Recurse: true, Exclude: []string{"b/mod"}}, false},
		{&belay.DirectorySource{}, false},
	} {
		req := request("a")
		req.Source.Directory = c.directory
		if !c.fails {
			mustRender(t, p, files, req)
			continue
		}
		if _, errs := renderError(t, p, files, req); len(errs) != 1 || errs[0].Origin.File != "a/b/mod" || errs[0].Message != "is a submodule" {
			t.Errorf("%+v: errors %v", c.directory, errs)
		}
	}
}

func TestPathsOutsideTheSource(t *testing.T) {
	p := newPool(t, testOptions)
	for _, path := range []string{"../x", "/etc", "a/../../x"} {
		for _, src := range []belay.Source{{Path: path}, {Path: path, Helm: &belay.HelmSource{}}, {Path: path, Kustomize: &belay.KustomizeSource{}}, {Path: path, Directory: &belay.DirectorySource{}}} {
			req := request(path)
			req.Source = src
			renderError(t, p, rendertest.Files{"x/y.yaml": configMap("x", "1")}, req)
		}
	}
}
