package kustomize

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/wire"
)

// A kustomization may name directories of other repositories. The parent shows
// them at paths that say which they are; this file finds these paths, and lets
// Kustomize see them in the place of the URLs.

var scpStyle = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]*@[^/]+[:/]`)

// remote reports whether Kustomize would take a path for something to fetch.
func remote(p string) bool {
	low := strings.ToLower(p)
	return strings.Contains(p, "://") || strings.HasPrefix(low, "git::") || scpStyle.MatchString(p) ||
		strings.HasPrefix(low, "github.com/") || strings.HasPrefix(low, "github.com:")
}

// mayBeRemote are the fields whose entries may lie in another repository.
var mayBeRemote = map[string]bool{"resources": true, "bases": true, "components": true}

// locate takes a remote entry apart. message and hint say why it cannot be used.
func locate(entry string) (m belay.Mount, sub, message, hint string) {
	u, query, _ := strings.Cut(entry, "?")
	if len(u) >= 5 && strings.EqualFold(u[:5], "git::") {
		u = u[5:]
	}
	switch low := strings.ToLower(u); {
	case strings.HasPrefix(low, "github.com:"):
		u = "https://github.com/" + u[len("github.com:"):]
	case strings.HasPrefix(low, "github.com/"):
		u = "https://" + u
	}
	base, rest, ok := splitHost(u)
	if !ok {
		return m, "", "is no URL of a repository", "write https://host/org/repository//directory?ref=v1.2.3"
	}
	switch scheme, _, found := strings.Cut(base, "://"); {
	case found && strings.EqualFold(scheme, "oci"):
		return m, "", "is in a registry, which Kustomize cannot read", "add it to spec.sources of the Application"
	case found && hasPassword(base):
		return m, "", "holds a password", "declare a Repository with this URL and its credentials, and leave them out here"
	}
	repo, sub := splitRepo(rest)
	if web := strings.HasPrefix(strings.ToLower(base), "http"); web && isFile(u) && !strings.Contains(rest, "//") && !strings.Contains(rest, ".git/") {
		return m, "", "is a single file on a web server, which has no commit to pin it to",
			"name a directory of a repository, as in https://host/org/repository//directory?ref=v1.2.3, or copy the file into this one"
	}
	values, err := url.ParseQuery(query)
	if err != nil || repo == "" || outside(sub) {
		return m, "", "is no URL of a directory in a repository", "write https://host/org/repository//directory?ref=v1.2.3"
	}
	ref := values.Get("ref")
	if ref == "" {
		ref = values.Get("version")
	}
	if ref == "" {
		ref = "HEAD"
	}
	return belay.Mount{Repo: base + repo, Ref: ref}, sub, "", ""
}

func hasPassword(base string) bool {
	u, err := url.Parse(base)
	if err != nil {
		return false // whoever is to fetch from it says so
	}
	_, has := u.User.Password()
	return has
}

func isFile(u string) bool {
	switch strings.ToLower(path.Ext(u)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

func outside(p string) bool { return p == ".." || strings.HasPrefix(p, "../") }

// splitHost divides a URL before the path on the host.
func splitHost(u string) (base, rest string, ok bool) {
	if scheme, after, found := strings.Cut(u, "://"); found {
		host, rest, found := strings.Cut(after, "/")
		return scheme + "://" + host + "/", rest, found && (host != "" || scheme == "file")
	}
	if scpStyle.MatchString(u) {
		i := strings.IndexAny(u, ":/")
		return u[:i] + ":", u[i+1:], true
	}
	return "", "", false
}

// splitRepo finds where the repository ends in a path on a host: at "//", at
// ".git", at the name after "_git", else after two names.
func splitRepo(p string) (repo, sub string) {
	if repo, sub, ok := strings.Cut(p, "//"); ok {
		return repo, path.Clean(sub)
	}
	if i := strings.Index(p+"/", ".git/"); i >= 0 {
		return p[:i+4], path.Clean(strings.TrimPrefix(p[i+4:], "/"))
	}
	names := strings.Split(strings.Trim(p, "/"), "/")
	n := 2
	for i, name := range names {
		if name == "_git" {
			n = i + 2
		}
	}
	if len(names) < n {
		return "", ""
	}
	return strings.Join(names[:n], "/"), path.Clean(strings.Join(names[n:], "/"))
}

// elsewhere is the path at which a remote entry is seen; ok is false after a problem.
func (in *inspector) elsewhere(l *layer, r reference) (p string, ok bool) {
	at := wire.Problem{File: l.file, Line: r.line}
	if !mayBeRemote[r.field] {
		at.Message = fmt.Sprintf("%s names %q, and only resources and components can be in another repository", r.field, redactURL(r.path))
		at.Hint = "copy it into the repository"
		in.out.Fail(at)
		return "", false
	}
	m, sub, message, hint := locate(r.path)
	if message != "" {
		at.Message, at.Hint = fmt.Sprintf("%s names %q, which %s", r.field, redactURL(r.path), message), hint
		in.out.Fail(at)
		return "", false
	}
	p = path.Join(m.Path(), sub)
	if l.remotes == nil {
		l.remotes = map[string]string{}
	}
	rel, err := filepath.Rel("/"+l.dir, "/"+p)
	if err != nil {
		return "", false // both are absolute and clean
	}
	l.remotes[r.path] = filepath.ToSlash(rel)
	return p, true
}

// strays says whether a path of a kustomization leads into another tree: the
// files of one repository name those of another by URL alone.
func strays(dir, p string) bool {
	from, _, in := belay.SplitMount(dir)
	to, _, there := belay.SplitMount(p)
	return in != there || from != to
}

// rewrite lets Kustomize see paths in the place of URLs.
func (in *inspector) rewrite(l *layer) {
	if len(l.remotes) == 0 {
		return
	}
	fail := func() { in.out.Fail(wire.Problem{File: l.file, Message: "not a valid kustomization"}) }
	j, err := yaml.YAMLToJSON(l.text)
	if err != nil {
		fail()
		return
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(j, &m); err != nil {
		fail()
		return
	}
	for key := range m {
		var entries []string
		if !mayBeRemote[strings.ToLower(key)] || json.Unmarshal(m[key], &entries) != nil {
			continue
		}
		for i, e := range entries {
			if rel, ok := l.remotes[e]; ok {
				entries[i] = rel
			}
		}
		if m[key], err = json.Marshal(entries); err != nil {
			fail()
			return
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		fail()
		return
	}
	in.src.replaced[l.file] = text
}
