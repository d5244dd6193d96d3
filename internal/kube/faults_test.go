package kube_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

// At rest nothing is sent but watches, and a restarted API server is found again.
func TestRestAndRestart(t *testing.T) {
	t.Parallel()
	cp := devtest.Dedicated(t, devtest.Options{})
	ns := cp.Namespace(t)
	f := newFixture(t, cp, ns)
	f.run()
	f.awaitReady()
	f.Observe([]belay.VersionKind{{APIVersion: "apps/v1", Kind: "Deployment"}, {APIVersion: "v1", Kind: "ConfigMap"}, {APIVersion: "v1", Kind: "Secret"}})
	o := f.configMap("shop", "settings", "1")
	f.mustCreate("shop", o)
	web := f.deployment("shop", "web")
	f.mustCreate("shop", web)
	f.awaitLive(web.ID, "the Deployment to be healthy", func(l belay.Live) bool { return l.Health == belay.Healthy })

	checkRest(f)
	checkRequests(f)
	checkRestart(f, o.ID)
}

// checkRest waits until the Cluster has nothing left to find out, and then
// looks at what it sends for a while.
func checkRest(f *fixture) {
	t := f.t
	t.Helper()
	var mark devtest.Mark
	var since time.Time
	f.await("the last look at discovery", func() error {
		if mark != 0 && len(f.requests(mark)) == 0 {
			if time.Since(since) < 6*time.Second {
				return fmt.Errorf("quiet for %v", time.Since(since))
			}
			return nil
		}
		mark, since = f.cp.Mark(t), time.Now()
		return fmt.Errorf("busy")
	})
	mark = f.cp.Mark(t)
	select {
	case <-t.Context().Done():
	case <-time.After(15 * time.Second): // the silence itself is what is waited for
	}
	for _, r := range f.requests(mark) {
		if r.Verb != "watch" {
			t.Errorf("at rest: %s", r)
		}
	}
}

// checkRequests looks at all that was sent so far.
func checkRequests(f *fixture) {
	t := f.t
	t.Helper()
	var watched []string
	for _, r := range f.requests(0, "watch") {
		if !slices.Contains(watched, r.Resource) {
			watched = append(watched, r.Resource)
		}
	}
	slices.Sort(watched)
	if want := []string{"apiservices", "configmaps", "customresourcedefinitions", "deployments", "secrets"}; !slices.Equal(watched, want) {
		t.Errorf("watched %v, want %v", watched, want)
	}

	for _, r := range f.requests(0, "list") {
		if !strings.Contains(r.URI, "limit=500") {
			t.Errorf("listed where a watch could stream: %s", r)
		}
	}

}

func checkRestart(f *fixture, known belay.ObjectID) {
	t := f.t
	t.Helper()
	f.cp.Stop(t)
	f.await("the loss to be noticed", func() error {
		if f.Ready() == nil {
			return fmt.Errorf("ready")
		}
		return nil
	})
	wantError(t, f.Ready(), belay.CodeUnavailable, "does not answer", "it is tried again by itself")
	_, err := f.create("shop", f.configMap("shop", "more", "1"))
	wantError(t, err, belay.CodeUnavailable, clusterName)
	if _, ok := f.Lookup(known); !ok {
		t.Error("what was known is forgotten")
	}
	told := f.notes.countAll()
	f.cp.Start(t)
	devtest.Await(t, "the cluster to be ready again", f.Ready)
	f.await("everybody to be told", func() error {
		if f.notes.countAll() == told {
			return fmt.Errorf("nobody was told")
		}
		return nil
	})
	f.patch(configMaps, "settings", "kubectl-edit", `{"data":{"key":"9"}}`)
	f.awaitLive(known, "drift after the restart", func(l belay.Live) bool { return slices.Contains(managerNames(l), "kubectl-edit/Update") })
}

func TestBrokenAggregatedAPI(t *testing.T) {
	t.Parallel()
	cp := devtest.Dedicated(t, devtest.Options{})
	ns := cp.Namespace(t)
	f := newFixture(t, cp, ns)
	f.make(apiServices, "somebody", `{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1.away.example.org"},
		"spec":{"group":"away.example.org","version":"v1","groupPriorityMinimum":100,"versionPriority":10,"insecureSkipTLSVerify":true,
		"service":{"name":"away","namespace":"$NS"}}}`)
	f.run()
	f.awaitReady()
	f.mustCreate("shop", f.configMap("shop", "settings", "1"))
	f.await("the complaint", func() error {
		if s := f.Status(); !s.Ready || !strings.Contains(s.Message, "away.example.org") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})

	// A kind that cannot be listed is complained of, and holds nothing else up.
	k := f.widgetKind("Namespaced")
	f.make(k.gvr(), "somebody", f.widget(k, `"size":1`))
	second := strings.Replace(k.definition(), `"versions":[{"name":"v1","served":true,"storage":true,`,
		`"conversion":{"strategy":"Webhook","webhook":{"conversionReviewVersions":["v1"],"clientConfig":{"url":"https://127.0.0.1:1/"}}},
		"versions":[{"name":"v2","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}},
		{"name":"v1","served":true,"storage":true,`, 1)
	name := k.plural + "." + k.group
	if _, err := f.person.Resource(crds).Patch(t.Context(), name, types.MergePatchType, []byte(second), metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
		t.Fatal(err)
	}
	f.await("the second version", func() error {
		if _, ok := f.Facts().Kinds[belay.VersionKind{APIVersion: k.group + "/v2", Kind: k.kind}]; !ok {
			return fmt.Errorf("not served")
		}
		return nil
	})
	mine := f.object("shop", strings.Replace(f.widget(k, `"size":2`), `"one"`, `"mine"`, 1))
	f.await("the API server to know it too", func() error {
		_, err := f.create("shop", mine)
		return err
	})
	next := newFixture(t, cp, ns)
	next.SetPatience(3 * time.Second)
	next.run()
	next.awaitReady()
	if !next.Observe([]belay.VersionKind{{APIVersion: k.group + "/v2", Kind: k.kind}}) {
		next.await("the kind to be given up", func() error {
			if !next.Observe([]belay.VersionKind{{APIVersion: k.group + "/v2", Kind: k.kind}}) {
				return fmt.Errorf("still waiting")
			}
			return nil
		})
	}
	_, err := next.create("shop", f.object("shop", strings.Replace(string(mine.Raw), "/v1", "/v2", 1)))
	wantError(t, err, belay.CodeUnavailable, "conversion webhook")
	if _, err := next.create("shop", mine); err != nil { // stored as v1, it needs no conversion
		t.Error(err)
	}
	if s := next.Status(); !s.Ready || !strings.Contains(s.Message, k.kind) {
		t.Errorf("%+v", s)
	}
}
