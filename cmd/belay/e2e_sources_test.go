package main

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// Manifests may stand in other repositories than the definitions; each has its own hook.
func TestOtherRepositories(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := gittest.NewRepo(t)
	other.Commit("main", "Manifests", map[string]string{"web/a.yaml": documents(configMap("a", "1"), configMap("b", "1")), "unused/a.yaml": "x: y\n"})
	from := func(repo, def string) string {
		return strings.Replace(def, "source:\n", "source:\n    repo: "+repo+"\n", 1)
	}
	w.commit("Three applications", map[string]string{
		"belay/own.yaml":    application("own", "apps/own", "NS-own"),
		"belay/url.yaml":    from(other.URL(), application("by-url", "web", "NS-url")),
		"belay/name.yaml":   from("manifests", application("by-name", "web", "NS-name")),
		"belay/repo.yaml":   "apiVersion: belay.dev/v1alpha1\nkind: Repository\nmetadata: {name: manifests}\nspec: {url: \"" + other.URL() + "\"}\n",
		"apps/own/own.yaml": configMap("own", "1"),
	})
	s := w.serve()
	well := func(value string) {
		t.Helper()
		w.awaitValue(w.ns("url"), "a", value)
		w.awaitValue(w.ns("name"), "a", value)
		for _, app := range []string{"own", "by-url", "by-name"} {
			if _, err := s.Wait(t.Context(), client.WaitRequest{Applications: []string{app}, For: []client.Condition{"synced", "healthy"}}); err != nil {
				t.Fatal(err)
			}
		}
		// What was seen in the cluster may be answered later than that.
		devtest.Await(t, "the commit to be reached", func() error {
			st, commit := s.state(), other.Resolve("main")
			return errors.Join(wellAt(&st, "by-url", commit), wellAt(&st, "by-name", commit))
		})
	}
	well("1")
	w.checkInventory(s, other)
	for i, value := range []string{"2", "3", "4"} {
		mark, renders := w.cp.Mark(t), s.metric("belay_renders_total")
		other.Commit("main", "Change", map[string]string{"web/a.yaml": documents(configMap("a", value), configMap("b", "1"))})
		if _, err := s.Push(t.Context(), []string{other.URL(), "manifests", ""}[i]); err != nil {
			t.Fatal(err)
		}
		well(value)
		if r := w.writes(mark); len(r) != 2 {
			t.Errorf("requests are%s\nwant two", listing(r))
		}
		if n := s.metric("belay_renders_total") - renders; n != 2 {
			t.Errorf("%d renders, want 2", n)
		}
	}
	if _, err := s.Push(t.Context(), "https://git.example.com/unknown.git"); belay.CodeOf(err) != belay.CodeNotFound {
		t.Errorf("a hook of a repository that is not in use: %v", err)
	}
	// Its definition points elsewhere.
	elsewhere := gittest.InitRepo(t, filepath.Join(t.TempDir(), "elsewhere.git"))
	elsewhere.Commit("main", "Manifests", map[string]string{"web/a.yaml": documents(configMap("a", "9"), configMap("b", "1"))})
	s.push("Point elsewhere", map[string]string{"belay/repo.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Repository\nmetadata: {name: manifests}\nspec: {url: \"" + elsewhere.URL() + "\"}\n"})
	w.awaitValue(w.ns("name"), "a", "9")
	w.awaitValue(w.ns("url"), "a", "4")
	if p := s.state().Problems; len(p) > 0 {
		t.Errorf("problems are %v", p)
	}
}

// checkInventory asks what is used by the applications of TestOtherRepositories.
func (w *world) checkInventory(s *serveProcess, other *gittest.Repo) {
	w.t.Helper()
	all := []string{"by-name", "by-url", "own"}
	clusters, err := s.Clusters(w.t.Context())
	if err != nil || len(clusters) != 1 || clusters[0].Name != belay.LocalCluster || !clusters[0].Ready || clusters[0].Version == "" ||
		clusters[0].Place() != "" || !slices.Equal(clusters[0].Applications, all) {
		w.t.Errorf("clusters are %+v, %v", clusters, err)
	}
	projects, err := s.Projects(w.t.Context())
	if err != nil || len(projects) != 1 || projects[0].Name != belay.DefaultProject || !slices.Equal(projects[0].Spec.Kinds, []string{"*"}) ||
		!slices.Equal(projects[0].Applications, all) {
		w.t.Errorf("projects are %+v, %v", projects, err)
	}
	repositories, err := s.Repositories(w.t.Context())
	if err != nil || len(repositories) != 2 {
		w.t.Fatalf("repositories are %+v, %v", repositories, err)
	}
	for _, r := range repositories {
		want, ref, commit := []string{"by-name", "by-url"}, "HEAD", other.Resolve("main")
		if r.Definitions {
			want, ref, commit = []string{"own"}, "main", w.repo.Resolve("main")
		}
		if !slices.Equal(r.Applications, want) || r.Refs[ref] != commit || r.CheckedAt.IsZero() || r.Definitions == (r.URL == other.URL()) ||
			!r.Definitions && (!slices.Equal(r.Names, []string{"manifests"}) || len(r.Declared) != 1 || r.Declared[0].Place() != "belay/repo.yaml:1") {
			w.t.Errorf("%+v, want it at %s for %v", r, commit, want)
		}
	}
}

// One cluster may be declared under two names: what is delivered under one is no
// leftover under the other. A server may look after one cluster alone.
func TestOneClusterTwoNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cluster := func(name string) string {
		return "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: " + name + "}\nspec: {kubeconfig: {file: " + w.kubeconfig + "}}\n"
	}
	on := func(cluster, def string) string {
		return strings.Replace(def, "  destination:\n", "  destination:\n    cluster: "+cluster+"\n", 1)
	}
	w.commit("Two names", map[string]string{
		"belay/clusters.yaml": documents(cluster("first"), cluster("second")),
		"belay/a.yaml":        on("first", application("a", "apps/a", "NS-a")), "apps/a/a.yaml": configMap("a", "1"),
		"belay/b.yaml": on("second", application("b", "apps/b", "NS-b")), "apps/b/b.yaml": configMap("b", "1"),
	})
	mark := w.cp.Mark(t)
	s := w.serve()
	s.awaitSynced("a", "b")
	s.push("Move a to the other name", map[string]string{"belay/a.yaml": on("second", application("a", "apps/a", "NS-a"))})
	s.awaitSynced("a", "b")
	s.stop()
	s = w.serve()
	s.awaitSynced("a", "b")
	s.stop()
	s = w.serve("--only-cluster", "frist")
	s.awaitProblem(`there is no Cluster "frist", did you mean "first"?`, "nothing is delivered", "first, second")
	s.stop()
	s = w.serve("--only-cluster", "first")
	s.awaitMessage("b", `declared for cluster "second"`, "left alone")
	s.push("Move it back", map[string]string{"belay/a.yaml": on("first", application("a", "apps/a", "NS-a"))})
	s.awaitApps("a")
	for _, r := range w.writes(mark) {
		if r.Verb == "delete" {
			t.Errorf("deleted: %s", r)
		}
	}
	w.awaitValue(w.ns("a"), "a", "1")
	w.awaitValue(w.ns("b"), "b", "1")
}
