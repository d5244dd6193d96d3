package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// serveOverHTTP has the world's repository served over HTTP.
func (w *world) serveOverHTTP() *gittest.HTTP {
	w.t.Helper()
	root := w.t.TempDir()
	w.repo = gittest.InitRepo(w.t, filepath.Join(root, "fleet.git"))
	h := gittest.ServeHTTP(w.t, root, gittest.HTTPOptions{})
	w.url = h.URL + "/fleet.git"
	return h
}

// While the repository is away, what it said last is kept up; when it is back,
// that is noticed without help.
func TestRepositoryAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.serveOverHTTP()
	w.commit("One application", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": documents(configMap("a", "1"), configMap("b", "1"))})
	s := w.serve("--interval", "1s")
	s.awaitSynced("a")
	healed := func() {
		t.Helper()
		w.patch(w.ns("a"), "a", "kubectl-edit", `{"data":{"value":"x"}}`)
		w.awaitValue(w.ns("a"), "a", "1")
	}
	away := func(texts ...string) {
		t.Helper()
		devtest.Await(t, "the repository to be away", func() error {
			for _, r := range s.state().Repositories {
				if r.URL == w.url && r.Message != "" && strings.Contains(r.Message, texts[0]) {
					return nil
				}
			}
			return fmt.Errorf("repositories are %+v", s.state().Repositories)
		})
	}
	h.Stop()
	away("fleet.git")
	s.awaitProblem("fleet.git")
	healed()
	s.stop()
	s = w.serve("--interval", "1s")
	away("fleet.git")
	healed()
	s.awaitEvent(belay.EventHealed, "a | ") // by this process: the answer arrived, and is in the log
	devtest.Await(t, "it to be as it was", func() error {
		if a, _ := s.app("a"); a.Sync != belay.Synced || a.Health != belay.Healthy {
			return fmt.Errorf("it is %s %s: %q", a.Sync, a.Health, a.Message)
		}
		return nil
	})
	s.kill()
	// Nothing on disk and nobody to ask: nothing is known, and nothing is done.
	data := w.data
	w.data = t.TempDir()
	mark := w.cp.Mark(t)
	s = w.serve("--interval", "1s")
	s.awaitProblem("fleet.git")
	h.Start()
	w.commit("Change it", map[string]string{"apps/a/a.yaml": documents(configMap("a", "2"), configMap("b", "1"))})
	s.awaitSynced("a")
	if r := w.writes(mark); len(r) != 1 {
		t.Errorf("requests are%s", listing(r))
	}
	s.stop()
	w.data = data
	s = w.serve("--interval", "1s")
	s.awaitSynced("a")
	w.awaitValue(w.ns("a"), "a", "2")
}

// A branch or a tag that is not there is named, and what it meant last stays.
func TestRefAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files := map[string]string{"apps/a/a.yaml": configMap("a", "1"), "belay/README.md": "x"}
	w.commit("Manifests", files)
	release := w.repo.Resolve("main")
	w.repo.Branch("release", release)
	w.repo.Tag("v1.0.0", release)
	app := func(name, ref string) string {
		return strings.Replace(application(name, "apps/a", "NS-"+name), "source:\n", "source:\n    ref: "+ref+"\n", 1)
	}
	w.commit("Applications", map[string]string{"belay/a.yaml": app("a", "release"), "belay/v.yaml": app("v", "'>=1 <2'"), "belay/b.yaml": application("b", "apps/a", "NS-b"), "belay/no.yaml": app("no", "relaese")})
	s := w.serve()
	well := func(name, value string) {
		t.Helper()
		devtest.Await(t, name+" to be well", func() error {
			if a, _ := s.app(name); a.Sync != belay.Synced || a.Health != belay.Healthy {
				return fmt.Errorf("it is %s %s: %q", a.Sync, a.Health, a.Message)
			}
			return nil
		})
		w.awaitValue(w.ns(name), "a", value)
	}
	well("a", "1")
	well("v", "1")
	well("b", "1")
	s.awaitMessage("no", "relaese", "did you mean release")
	w.repo.DeleteBranch("release")
	s.hook()
	s.awaitMessage("a", "has no branch, tag or commit release")
	w.awaitValue(w.ns("a"), "a", "1")
	s.stop()
	s = w.serve()
	s.awaitMessage("a", "has no branch, tag or commit release")
	w.patch(w.ns("a"), "a", "kubectl-edit", `{"data":{"value":"x"}}`)
	w.awaitValue(w.ns("a"), "a", "1")
	// A new version in the range, and the branch is back with something new.
	w.commit("Two", map[string]string{"apps/a/a.yaml": configMap("a", "2")})
	w.repo.AnnotatedTag("v1.1.0", w.repo.Resolve("main"))
	w.repo.Tag("v2.0.0", release)
	w.repo.Branch("release", w.repo.Resolve("main"))
	s.hook()
	well("v", "2")
	well("a", "2")
	well("b", "2")
	// The branch with the definitions itself.
	main := w.repo.Resolve("main")
	w.repo.DeleteBranch("main")
	s.hook()
	s.awaitProblem("has no branch, tag or commit main")
	for _, name := range []string{"a", "v", "b"} {
		w.awaitValue(w.ns(name), "a", "2")
	}
	w.repo.Branch("main", main)
	s.hook()
	devtest.Await(t, "the problem to go", func() error {
		if p := s.state().Problems; len(p) > 0 {
			return fmt.Errorf("problems are %v", p)
		}
		return nil
	})
	well("b", "2")
}

// While an API server is away its applications say so, and those of others go on;
// when it is back, what changed meanwhile is done, and nothing else.
func TestClusterAway(t *testing.T) {
	t.Parallel()
	away := devtest.Dedicated(t, devtest.Options{})
	w := newWorld(t)
	far := newWorldOn(t, away)
	cluster := func(name, kubeconfig string) string {
		return "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: " + name + "}\nspec: {kubeconfig: {file: " + kubeconfig + "}}\n"
	}
	on := func(cluster, def string) string {
		return strings.Replace(def, "  destination:\n", "  destination:\n    cluster: "+cluster+"\n", 1)
	}
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	write(t, nowhere, "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{name: c, cluster: {server: \"https://127.0.0.1:1\"}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: t}}]\n")
	w.commit("Three clusters", map[string]string{
		"belay/clusters.yaml": documents(cluster("near", w.kubeconfig), cluster("far", far.kubeconfig), cluster("nowhere", nowhere)),
		"belay/near.yaml":     on("near", application("near", "apps/near", "NS-near")), "apps/near/a.yaml": configMap("a", "1"),
		"belay/far.yaml": on("far", application("far", "apps/far", far.ns("far"))), "apps/far/a.yaml": documents(configMap("a", "1"), configMap("b", "1")),
		"belay/nowhere.yaml": on("nowhere", application("nowhere", "apps/near", "NS-near")),
	})
	s := w.serve()
	s.awaitApps("near", "far")
	s.awaitMessage("nowhere", "127.0.0.1:1", "does not answer")
	if ready := s.get("/readyz"); !strings.Contains(ready, `"ready":true`) {
		t.Errorf("ready: %s", ready)
	}

	for i, down := range []func(testing.TB){away.Stop, away.Kill} {
		n := fmt.Sprint(time.Now().UnixNano())
		down(t)
		a := s.awaitMessage("far", "does not answer")
		if a.Sync != belay.SyncUnknown {
			t.Errorf("far is %s, want Unknown", a.Sync)
		}
		s.push("Change both", map[string]string{"apps/near/a.yaml": configMap("a", n), "apps/far/a.yaml": documents(configMap("a", n), configMap("b", "1"))})
		w.awaitValue(w.ns("near"), "a", n)
		s.awaitApps("near")
		mark := away.Mark(t)
		away.Start(t)
		s.awaitApps("near", "far")
		if v, _ := far.value(far.ns("far"), "a"); v != n {
			t.Errorf("far has %q, want %q", v, n)
		}
		// It has just started, and may refuse at first or not be up to it.
		r := slices.DeleteFunc(far.writes(mark), func(r devtest.Request) bool { return r.Code == 403 || r.Code == 429 || r.Code >= 500 })
		if len(r) != 1 {
			t.Errorf("when it is back, requests are%s", listing(r))
		}
		far.patch(far.ns("far"), "b", "kubectl-edit", `{"data":{"value":"x"}}`)
		far.awaitValue(far.ns("far"), "b", "1")
		// The answer to the heal arrived, or it would be tried again when the cluster is back.
		devtest.Await(t, "the heal to be told", func() error {
			if n := s.metric("belay_heals_total"); n <= i {
				return fmt.Errorf("it was healed %d times so far", n)
			}
			return nil
		})
		s.awaitApps("far")
	}
	// What is there when it is not looked at stays as it is.
	away.Stop(t)
	s.stop()
	s = w.serve()
	s.awaitMessage("far", "does not answer")
	s.awaitApps("near")
	s.push("Remove far", map[string]string{"belay/far.yaml": ""})
	s.awaitMessage("far", "removed from Git")
	away.Start(t)
	s.awaitGone("far")
	if _, ok := far.value(far.ns("far"), "a"); ok {
		t.Error("the objects of the application that was removed are there")
	}
}

// A server that is told to end finishes what is in flight, and nothing more.
func TestStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.serveOverHTTP()
	const apps, each = 10, 120 // more than can be under way at once, and are done in half a minute
	files, names := map[string]string{}, []string{}
	for i := range apps {
		name := fmt.Sprintf("app-%02d", i)
		var docs []string
		for j := range each {
			docs = append(docs, configMap(fmt.Sprintf("%s-%02d", name, j), "1"))
		}
		names = append(names, name)
		files["belay/"+name+".yaml"], files["apps/"+name+"/a.yaml"] = application(name, "apps/"+name, "NS-shared"), documents(docs...)
	}
	w.commit("Many objects", files)
	mark := w.cp.Mark(t)
	s := w.serveCrashing("slow-write:4000")
	devtest.Await(t, "the first objects", func() error {
		if len(w.writes(mark)) < 5 {
			return errors.New("few")
		}
		return nil
	})
	s.stop()
	if log := s.log.String(); !strings.Contains(log, `"stopped"`) || strings.Contains(log, "not written") || strings.Contains(log, "canceled") {
		t.Errorf("its log does not end well: %s", log[max(0, len(log)-2000):])
	}
	if n := len(w.owned()); n == apps*each {
		t.Error("it was done before it was told to end")
	}
	s = w.serve()
	s.awaitSynced(names...)
	done := map[string]int{}
	for _, r := range w.writes(mark) {
		switch {
		case r.Verb != "patch" || r.Resource != "configmaps":
		case r.Code < 300:
			done[r.Name]++
		case r.Code >= 500:
			done[r.Name] += 0 // a busy API server gave up on it, and may have done it all the same
		}
	}
	for name, n := range done {
		if n > 1 {
			t.Errorf("%s was written %d times", name, n)
		}
	}
	if len(done) != apps*each {
		t.Errorf("%d objects were written, want %d", len(done), apps*each)
	}
	// A repository that does not answer keeps nobody from ending.
	h.Hang()
	s.hook()
	devtest.Await(t, "the repository to be asked", func() error {
		if s.ended() {
			return errors.New("it ended")
		}
		return nil
	})
	s.stop() // or the test waits for as long as a fetch may take
	h.Resume()
	list, err := w.kube.CoreV1().ConfigMaps(w.ns("shared")).List(t.Context(), metav1.ListOptions{LabelSelector: belay.LabelManaged})
	if err != nil || len(list.Items) != apps*each {
		t.Errorf("%d objects, %v", len(list.Items), err)
	}
}
