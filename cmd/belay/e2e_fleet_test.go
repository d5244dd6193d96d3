package main

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay/internal/devtest"
)

// mixedFleet is n applications, by turns plain, Kustomize and Helm, each with
// three objects in a namespace of its own.
func mixedFleet(n int) (files map[string]string, names []string) {
	files = map[string]string{
		"base/kustomization.yaml": "resources: [objects.yaml]\n",
		"base/objects.yaml": documents(configMap("config", "base"), deployment("web", 1, "web:1"),
			"apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n"),
		"charts/web/Chart.yaml":  "apiVersion: v2\nname: web\nversion: 1.0.0\n",
		"charts/web/values.yaml": "greeting: hello\nsecret: \"\"\n",
		"charts/web/templates/objects.yaml": `apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {value: {{ .Values.greeting | quote }}}
---
apiVersion: v1
kind: Secret
metadata: {name: token}
stringData: {token: {{ default "none" .Values.secret | quote }}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web}
`,
	}
	for i := range n {
		name := fmt.Sprintf("app-%02d", i)
		names = append(names, name)
		path := "apps/" + name
		switch i % 3 {
		case 0:
			files[path+"/config.yaml"] = documents(configMap("config", "one"), configMap("other", "one"))
			files[path+"/sub/account.yaml"] = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}\n"
		case 1:
			files[path+"/kustomization.yaml"] = "resources: [../../base]\npatches:\n  - path: patch.yaml\n"
			files[path+"/patch.yaml"] = configMap("config", "one")
		case 2:
			files["values/"+name+".yaml"] = "greeting: one\n"
		}
		def := application(name, path, "NS-"+name)
		if i%3 == 2 {
			def = fmt.Sprintf("apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: %s}\nspec:\n  source:\n    path: charts/web\n    helm:\n      valuesFiles: [/values/%s.yaml]\n  destination: {namespace: %s}\n",
				name, name, "NS-"+name)
		}
		files["belay/"+name+".yaml"] = def
	}
	return files, names
}

// A push of one file is one render and one PATCH, and a fleet at rest sends
// nothing. The control plane is the test's own: definitions of kinds that others
// make are a reason to look at what it serves.
func TestOnePushAndRest(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, devtest.Dedicated(t, devtest.Options{}))
	files, names := mixedFleet(30)
	w.commit("Thirty applications", files)
	begin := w.cp.Mark(t)
	s := w.serve()
	s.awaitSynced(names...)
	w.awaitQuiet(s)

	passes := s.metric("belay_passes_total")
	pushes := []struct{ app, file, content string }{
		{"app-00", "apps/app-00/config.yaml", documents(configMap("config", "two"), configMap("other", "one"))},
		{"app-01", "apps/app-01/patch.yaml", configMap("config", "two")},
		{"app-02", "values/app-02.yaml", "greeting: two\n"},
	}
	for _, push := range pushes {
		renders, applies := s.metric("belay_renders_total"), s.metric("belay_applies_total")
		mark := w.cp.Mark(t)
		s.push("Change one file of "+push.app, map[string]string{push.file: push.content})
		w.awaitValue(w.ns(push.app), "config", "two")
		s.awaitSynced(names...)
		requests := w.requests(mark)
		if len(requests) != 1 || requests[0].Verb != "patch" || requests[0].Namespace != w.ns(push.app) || requests[0].Name != "config" {
			t.Errorf("%s: requests are%s\nwant one PATCH of ConfigMap %s/config", push.app, listing(requests), w.ns(push.app))
		}
		if n := s.metric("belay_renders_total") - renders; n != 1 {
			t.Errorf("%s: %d renders, want 1", push.app, n)
		}
		if n := s.metric("belay_applies_total") - applies; n != 1 {
			t.Errorf("%s: %d applies, want 1", push.app, n)
		}
	}
	// The last of each, that of its own write, may come after the next push.
	if n := s.metric("belay_passes_total") - passes; n > 3*len(pushes) {
		t.Errorf("%d comparisons of %d pushes, want those of one application each", n, len(pushes))
	}

	mark := w.cp.Mark(t)
	s.push("A file that nothing is made of", map[string]string{"README.md": "Read me.\n"})
	s.awaitSynced(names...)
	if r := w.requests(mark); len(r) > 0 {
		t.Errorf("after a push that concerns nobody: requests are%s", listing(r))
	}

	mark = w.cp.Mark(t)
	select {
	case <-time.After(time.Minute): // the promise is about time passing
	case <-s.exited:
		t.Fatal("the server ended")
	}
	if r := slices.Concat(w.requests(mark), w.opened(begin, mark)); len(r) > 0 {
		t.Errorf("a minute at rest: requests are%s", listing(r))
	}
	s.stop()
}

// opened are the watches since a mark that do not only take the place of one, since
// the begin, that ended when it was to end, as any does after some minutes.
func (w *world) opened(begin, since devtest.Mark) []devtest.Request {
	w.t.Helper()
	watches := w.watches(since)
	all := w.watches(begin)
	return slices.DeleteFunc(watches, func(r devtest.Request) bool {
		path, _, _ := strings.Cut(r.URI, "?")
		var ended time.Time
		for _, before := range all {
			u, err := url.Parse(before.URI)
			if err != nil || u.Path != path || !before.Time.Before(r.Time) {
				continue
			}
			ended = time.Time{}
			if seconds, err := strconv.Atoi(u.Query().Get("timeoutSeconds")); err == nil {
				ended = before.Time.Add(time.Duration(seconds) * time.Second)
			}
		}
		return !ended.IsZero() && r.Time.After(ended.Add(-time.Second))
	})
}

// awaitQuiet waits until the server has looked at what the cluster serves for
// the last time, which it does for some seconds after a start, and for more where it
// stalls.
func (w *world) awaitQuiet(s *serveProcess) {
	w.t.Helper()
	mark, since := w.cp.Mark(w.t), time.Now()
	devtest.Await(w.t, "the server to be quiet", func() error {
		if r := w.requests(mark); len(r) > 0 {
			mark, since = w.cp.Mark(w.t), time.Now()
			return fmt.Errorf("it asked%s", listing(r))
		}
		if quiet := time.Since(since); quiet < 20*time.Second {
			return fmt.Errorf("quiet for %v", quiet)
		}
		return nil
	})
}
