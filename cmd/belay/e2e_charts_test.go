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
	"github.com/belaydev/belay/internal/registrytest"
)

// webChart has one ConfigMap with a value.
func webChart(value string) map[string]string {
	return map[string]string{
		"values.yaml":           "value: " + value + "\n",
		"templates/config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  value: {{ .Values.value | quote }}\n",
	}
}

// sourced is an application with a source, or sources, written as YAML of one line.
func sourced(name, sources, namespace string) string {
	return fmt.Sprintf("apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: %s}\nspec:\n  %s\n  destination: {namespace: %s}\n", name, sources, namespace)
}

func repository(name, url, more string) string {
	return fmt.Sprintf("apiVersion: belay.dev/v1alpha1\nkind: Repository\nmetadata: {name: %s}\nspec: {url: %q%s}\n", name, url, more)
}

// status is the state of an application that there is.
func (s *serveProcess) status(app string) belay.ApplicationStatus {
	s.w.t.Helper()
	got, ok := s.app(app)
	if !ok {
		s.w.t.Fatalf("there is no application %s", app)
	}
	return got
}

// Charts and artifacts of registries are followed like commits: by range, tag and
// digest, and what a registry cannot or must not give leaves the last good one.
func TestChartsAndArtifactsAreFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	charts, oci := registrytest.ServeHelm(t, "ci", "p4ssw0rd-of-the-charts"), registrytest.ServeOCI(t, "", "")
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, "p4ssw0rd-of-the-charts\n")
	charts.Publish("web", "1.0.0", webChart("one"))
	charts.Publish("web", "2.0.0", webChart("other"))
	oci.PushChart("charts/api", "1.0.0", "api", "1.0.0", webChart("one"))
	oci.PushFlux("apps/plain", "latest", map[string]string{"deploy/a.yaml": configMap("plain", "one"), "README.md": "read\n"})
	w.commit("Applications from registries", map[string]string{
		"belay/repos.yaml": documents(
			repository("charts", charts.URL, ", auth: {username: ci, password: {file: "+token+"}}"),
			repository("registry", oci.Repo("charts"), ", plainHTTP: true"), repository("artifacts", oci.Repo("apps"), ", plainHTTP: true")),
		"belay/web.yaml":   sourced("web", `source: {repo: charts, chart: web, ref: "^1"}`, "NS-web"),
		"belay/api.yaml":   sourced("api", `source: {repo: registry, chart: api, ref: "1.x"}`, "NS-api"),
		"belay/plain.yaml": sourced("plain", `source: {repo: "`+oci.Repo("apps/plain")+`", ref: latest, path: deploy}`, "NS-plain"),
	})
	s := w.serve()
	w.awaitValue(w.ns("web"), "web", "one")
	w.awaitValue(w.ns("api"), "api", "one")
	w.awaitValue(w.ns("plain"), "plain", "one")
	if _, err := s.Wait(t.Context(), client.WaitRequest{Applications: []string{"web", "api", "plain"}, For: []client.Condition{"synced", "healthy"}}); err != nil {
		t.Fatal(err)
	}

	second := charts.Publish("web", "1.1.0", webChart("two"))
	if _, err := s.Push(t.Context(), charts.URL); err != nil {
		t.Fatal(err)
	}
	w.awaitValue(w.ns("web"), "web", "two")
	devtest.Await(t, "the status of the new version", func() error {
		got := s.status("web")
		if got.Revision != second || len(got.Revisions) != 1 || got.Revisions[0].Name != "1.1.0" {
			return fmt.Errorf("it is %s, %+v", got.Revision, got.Revisions)
		}
		return nil
	})
	oci.PushChart("charts/api", "1.2.0", "api", "1.2.0", webChart("two"))
	artifact := oci.PushFlux("apps/plain", "latest", map[string]string{"deploy/a.yaml": configMap("plain", "two")})
	for _, url := range []string{oci.Repo("charts/api"), "artifacts"} {
		if n, err := s.Push(t.Context(), url); err != nil || n == 0 {
			t.Fatal(n, err)
		}
	}
	w.awaitValue(w.ns("api"), "api", "two")
	w.awaitValue(w.ns("plain"), "plain", "two")
	awaitArtifact := func() {
		t.Helper()
		devtest.Await(t, "the status of the new artifact", func() error {
			if got := s.status("plain"); got.Revision != artifact || got.Sync != belay.Synced {
				return fmt.Errorf("it is %s at %s, want %s", got.Sync, got.Revision, artifact)
			}
			return nil
		})
	}
	awaitArtifact()
	if _, err := s.Wait(t.Context(), client.WaitRequest{Applications: []string{"web", "api"}, For: []client.Condition{"synced", "healthy"}}); err != nil {
		t.Fatal(err)
	}

	// A version in which nothing of this application is another renders and writes nothing.
	mark, renders := w.cp.Mark(t), s.metric("belay_renders_total")
	artifact = oci.PushFlux("apps/plain", "latest", map[string]string{"deploy/a.yaml": configMap("plain", "two"), "README.md": "another\n"})
	if _, err := s.Push(t.Context(), "artifacts"); err != nil {
		t.Fatal(err)
	}
	awaitArtifact()
	if r := w.writes(mark); len(r) != 0 || s.metric("belay_renders_total") != renders {
		t.Errorf("%v renders, and requests are%s", s.metric("belay_renders_total")-renders, listing(r))
	}

	// One whose content is not what was promised is refused; the old one stays, and drift is healed.
	charts.Publish("web", "1.2.0", webChart("three"))
	charts.Replace("web", "1.2.0", registrytest.Chart(t, "web", "1.2.0", webChart("evil")))
	if _, err := s.Push(t.Context(), charts.URL); err != nil {
		t.Fatal(err)
	}
	s.awaitMessage("web", "digest")
	charts.SetDown(true)
	oci.SetDown(true)
	s.stop()
	s = w.serve()
	w.patch(w.ns("web"), "web", "kubectl-edit", `{"data":{"value":"edited"}}`)
	w.awaitValue(w.ns("web"), "web", "two")
	if msg := s.awaitMessage("web", "repository ").Message; strings.Contains(msg, "p4ssw0rd") {
		t.Errorf("the message has the password: %s", msg)
	}
	charts.SetDown(false)
	charts.Publish("web", "1.3.0", webChart("four"))
	if _, err := s.Push(t.Context(), "charts"); err != nil {
		t.Fatal(err)
	}
	w.awaitValue(w.ns("web"), "web", "four")

	// A process that starts at a version that does not render keeps to the one before.
	s.stop()
	broken := webChart("five")
	broken["templates/config.yaml"] = "{{ fail \"not today\" }}"
	charts.Publish("web", "1.4.0", broken)
	s = w.serve()
	s.awaitMessage("web", "not today")
	w.patch(w.ns("web"), "web", "kubectl-edit", `{"data":{"value":"edited"}}`)
	w.awaitValue(w.ns("web"), "web", "four")
}

// A chart from a registry with values from Git: a commit of the values renders
// who reads the file, and nobody else.
func TestSeveralSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	charts := registrytest.ServeHelm(t, "", "")
	charts.Publish("web", "1.0.0", webChart("default"))
	values := gittest.NewRepo(t)
	values.Commit("main", "Values", map[string]string{"a.yaml": "value: a1\n", "b.yaml": "value: b1\n", "extra/c.yaml": configMap("extra", "x1")})
	app := func(name, file, more string) string {
		return sourced(name, fmt.Sprintf("sources: [{repo: %q, chart: web, ref: \"*\", helm: {valuesFiles: [$values/%s]}}, {name: values, repo: %q}%s]", charts.URL, file, values.URL(), more), "NS-"+name)
	}
	w.commit("Two applications", map[string]string{
		"belay/a.yaml": app("a", "a.yaml", fmt.Sprintf(", {repo: %q, path: extra}", values.URL())), "belay/b.yaml": app("b", "b.yaml", ""),
	})
	s := w.serve()
	w.awaitValue(w.ns("a"), "a", "a1")
	w.awaitValue(w.ns("a"), "extra", "x1")
	w.awaitValue(w.ns("b"), "b", "b1")
	if _, err := s.Wait(t.Context(), client.WaitRequest{Applications: []string{"a", "b"}, For: []client.Condition{"synced", "healthy"}}); err != nil {
		t.Fatal(err)
	}
	renders := s.metric("belay_renders_total")
	commit := values.Commit("main", "Another b", map[string]string{"b.yaml": "value: b2\n"})
	if _, err := s.Push(t.Context(), values.URL()); err != nil {
		t.Fatal(err)
	}
	w.awaitValue(w.ns("b"), "b", "b2")
	devtest.Await(t, "all revisions", func() error {
		for _, name := range []string{"a", "b"} {
			st := s.status(name)
			if len(st.Revisions) != 2 || st.Revisions[1].Revision != commit || st.Sync != belay.Synced {
				return fmt.Errorf("%s is %s at %+v", name, st.Sync, st.Revisions)
			}
		}
		return nil
	})
	if n := s.metric("belay_renders_total") - renders; n != 1 {
		t.Errorf("%v renders, want 1", n)
	}
	// One object in two sources is an error with both places.
	values.Commit("main", "Twice", map[string]string{"extra/c.yaml": configMap("a", "x2")})
	if _, err := s.Push(t.Context(), values.URL()); err != nil {
		t.Fatal(err)
	}
	st := s.awaitMessage("a", "declared twice")
	if !strings.Contains(st.Message, "templates/config.yaml") || !strings.Contains(st.Message, "extra/c.yaml") {
		t.Errorf("the message is %q", st.Message)
	}
	w.awaitValue(w.ns("a"), "a", "a1")

	// Another commit of the definitions is planned with all of its sources.
	next := w.repo.CommitFiles("next", "Values of its own", map[string]gittest.File{
		"belay/b.yaml": gittest.Text(w.expand(strings.Replace(app("b", "b.yaml", ""), "{valuesFiles:", "{values: {value: planned}, valuesFiles:", 1)))})
	previews, err := s.Plan(t.Context(), belay.PlanRequest{Applications: []string{"b"}, Revision: next})
	if err != nil || len(previews) != 1 || len(previews[0].Changes) != 1 || !strings.Contains(previews[0].Changes[0].Diff, "planned") {
		t.Errorf("the plan is %+v, %v", previews, err)
	}
}

// A chart in Git whose dependencies are not vendored gets them from where they
// are published, in the version of Chart.lock or, without one, the newest that fits.
func TestChartDependencies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	charts, oci := registrytest.ServeHelm(t, "", ""), registrytest.ServeOCI(t, "", "")
	charts.Publish("one", "1.0.0", map[string]string{"templates/a.yaml": configMap("one", "{{ .Chart.Version }}")})
	charts.Publish("one", "1.1.0", map[string]string{"templates/a.yaml": configMap("one", "{{ .Chart.Version }}")})
	oci.PushChart("charts/two", "1.0.0", "two", "1.0.0", map[string]string{"templates/a.yaml": configMap("two", "{{ .Chart.Version }}")})
	chart := fmt.Sprintf("apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies:\n- {name: one, version: ^1, repository: %q}\n- {name: two, version: ^1, repository: \"@registry\"}\n", charts.URL)
	w.commit("A chart", map[string]string{
		"belay/repos.yaml": documents(repository("charts", charts.URL, ""), repository("registry", oci.Repo("charts"), ", plainHTTP: true")),
		"belay/web.yaml":   application("web", "charts/web", "NS-web"), "belay/locked.yaml": application("locked", "charts/locked", "NS-locked"),
		"belay/stranger.yaml":   application("stranger", "charts/stranger", "NS-stranger"),
		"charts/web/Chart.yaml": chart, "charts/locked/Chart.yaml": chart,
		"charts/locked/Chart.lock":   "dependencies:\n- {name: one, version: 1.0.0}\n- {name: two, version: 1.0.0}\ndigest: sha256:0\ngenerated: \"2026-01-01T00:00:00Z\"\n",
		"charts/stranger/Chart.yaml": strings.ReplaceAll(chart, "127.0.0.1", "localhost"),
	})
	s := w.serve()
	for ns, value := range map[string]string{"web": "1.1.0", "locked": "1.0.0"} {
		w.awaitValue(w.ns(ns), "one", value)
		w.awaitValue(w.ns(ns), "two", "1.0.0")
	}
	s.awaitMessage("stranger", "charts/stranger/Chart.yaml", "local network")
	if _, err := s.Wait(t.Context(), client.WaitRequest{Applications: []string{"web", "locked"}, For: []client.Condition{"synced", "healthy"}}); err != nil {
		t.Fatal(err)
	}
	renders := s.metric("belay_renders_total")
	charts.Publish("one", "1.2.0", map[string]string{"templates/a.yaml": configMap("one", "{{ .Chart.Version }}")})
	if _, err := s.Push(t.Context(), "charts"); err != nil {
		t.Fatal(err)
	}
	w.awaitValue(w.ns("web"), "one", "1.2.0")
	if n := s.metric("belay_renders_total") - renders; n != 1 {
		t.Errorf("%d renders, want 1", n)
	}
	if v, _ := w.value(w.ns("locked"), "one"); v != "1.0.0" {
		t.Errorf("the locked one is at %s", v)
	}
}
