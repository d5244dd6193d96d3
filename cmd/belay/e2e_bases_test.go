package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// Bases in other repositories are followed like any source, as far as the project
// allows them, and none leads into the local network unless it is declared.
func TestBasesOfOtherRepositories(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := t.TempDir()
	base := gittest.InitRepo(t, filepath.Join(root, "base.git"))
	parts := gittest.InitRepo(t, filepath.Join(root, "parts.git"))
	known, hidden := gittest.ServeHTTP(t, root, gittest.HTTPOptions{}), gittest.ServeHTTP(t, root, gittest.HTTPOptions{})
	parts.Commit("v1", "Parts", map[string]string{"cm/kustomization.yaml": "resources: [cm.yaml]\n", "cm/cm.yaml": configMap("part", "p1")})
	base.Commit("main", "Base", map[string]string{"deploy/kustomization.yaml": "resources: [cm.yaml, \"" + known.URL + "/parts.git//cm?ref=v1\"]\n",
		"deploy/cm.yaml": configMap("base", "b1"), "other/cm.yaml": "x: y\n"})
	kustomization := func(server *gittest.HTTP) string {
		return "resources: [own.yaml, " + server.URL + "/base.git//deploy]\n"
	}
	w.commit("Applications", map[string]string{
		"belay/repos.yaml":   documents(repository("base", known.URL+"/base.git", ""), repository("parts", known.URL+"/parts.git", "")),
		"belay/web.yaml":     application("web", "apps/web", "NS-web"),
		"belay/denied.yaml":  application("denied", "apps/web", "NS-denied", "  project: narrow\n"),
		"belay/hidden.yaml":  application("hidden", "apps/hidden", "NS-hidden"),
		"belay/disk.yaml":    application("disk", "apps/disk", "NS-disk"),
		"belay/project.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: narrow}\nspec: {sources: [{repo: \"" + w.repo.URL() + "\"}, {repo: base, paths: [other]}], destinations: [{}], clusterKinds: [\"*\"]}\n",
		"apps/web/own.yaml":  configMap("own", "o1"), "apps/web/kustomization.yaml": kustomization(known),
		"apps/hidden/own.yaml": configMap("own", "o1"), "apps/hidden/kustomization.yaml": strings.ReplaceAll(kustomization(hidden), "127.0.0.1", "localhost"),
		"apps/disk/kustomization.yaml": "resources: [\"file://" + base.Dir + "//deploy\"]\n",
	})
	s := w.serve()
	w.awaitValue(w.ns("web"), "base", "b1")
	w.awaitValue(w.ns("web"), "part", "p1")
	if _, err := s.Wait(t.Context(), client.WaitRequest{Applications: []string{"web"}, For: []client.Condition{"synced", "healthy"}}); err != nil {
		t.Fatal(err)
	}
	if st := s.status("web"); len(st.Revisions) != 3 {
		t.Errorf("revisions are %+v", st.Revisions)
	}
	s.awaitMessage("denied", "apps/web/kustomization.yaml:1", `project "narrow" does not allow the source`, "deploy")
	s.awaitMessage("hidden", "local network", "declare a Repository")
	s.awaitMessage("disk", "apps/disk/kustomization.yaml:1", "cannot be used from here")
	if r := hidden.Requests(); len(r) != 0 {
		t.Errorf("a server in the local network was asked for %v", r)
	}

	renders := s.metric("belay_renders_total")
	base.Commit("main", "Something else", map[string]string{"other/cm.yaml": "x: z\n"})
	parts.Commit("v1", "Another part", map[string]string{"cm/cm.yaml": configMap("part", "p2")})
	for _, repo := range []string{known.URL + "/base.git", "parts"} {
		if n, err := s.Push(t.Context(), repo); err != nil || n == 0 {
			t.Fatalf("the hook of %s: %d, %v", repo, n, err)
		}
	}
	w.awaitValue(w.ns("web"), "part", "p2")
	want := base.Resolve("main")
	devtest.Await(t, "the newest base", func() error {
		for _, r := range s.status("web").Revisions {
			if r.Revision == want {
				return nil
			}
		}
		return fmt.Errorf("revisions are %+v", s.status("web").Revisions)
	})
	if n := s.metric("belay_renders_total") - renders; n != 1 {
		t.Errorf("%d renders, want 1", n)
	}
	// What is wrong in a base is said with its repository, and the last good one stays.
	base.Commit("main", "Broken", map[string]string{"deploy/cm.yaml": "kind: [\n"})
	if _, err := s.Push(t.Context(), "base"); err != nil {
		t.Fatal(err)
	}
	st := s.awaitMessage("web", "deploy/cm.yaml")
	if strings.Contains(st.Message, ".belay") || st.Sync != belay.OutOfSync {
		t.Errorf("it is %s: %s", st.Sync, st.Message)
	}
	w.awaitValue(w.ns("web"), "base", "b1")
	// It is denied later.
	base.Commit("main", "Mended", map[string]string{"deploy/cm.yaml": configMap("base", "b2")})
	s.push("Narrow the project", map[string]string{"belay/web.yaml": application("web", "apps/web", "NS-web", "  project: narrow\n")})
	s.awaitMessage("web", "does not allow the source")
	w.awaitValue(w.ns("web"), "base", "b1")
}
