package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

// What somebody changes, adds, scales or deletes by hand is put right at once,
// and it is told who did it. What a controller adds is its own.
func TestDriftIsHealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ns := w.ns("a")
	w.commit("One application", map[string]string{
		"belay/a.yaml":    application("a", "apps/a", "NS-a"),
		"apps/a/a.yaml":   documents(configMap("changed", "1"), configMap("added", "1"), configMap("deleted", "1"), configMap("unlabelled", "1"), configMap("unnamed", "1"), configMap("controlled", "1")),
		"apps/a/web.yaml": deployment("web", 2, "web:1"),
	})
	s := w.serve()
	s.awaitSynced("a")
	maps := w.kube.CoreV1().ConfigMaps(ns)
	renders := s.metric("belay_renders_total") + s.metric("belay_render_cache_hits_total")
	for _, drift := range []struct {
		name, does string
		make       func()
		healed     func() error
		told       []string
	}{
		{"changed", "a value is edited", func() { w.patch(ns, "changed", "kubectl-edit", `{"data":{"value":"2"}}`) },
			func() error { return w.wantValue(ns, "changed", "1") }, []string{"changed", "kubectl-edit", "data.value"}},
		{"changed", "a value is removed", func() { w.patch(ns, "changed", "kubectl-edit", `{"data":{"value":null}}`) },
			func() error { return w.wantValue(ns, "changed", "1") }, []string{"changed", "data.value"}},
		{"added", "a value is added", func() {
			w.patch(ns, "added", "kubectl-edit", `{"data":{"extra":"x"},"metadata":{"labels":{"by":"hand"}}}`)
		},
			func() error {
				cm, err := maps.Get(t.Context(), "added", metav1.GetOptions{})
				if err == nil && (cm.Data["extra"] != "" || cm.Labels["by"] != "") {
					err = errors.New("what was added is there")
				}
				return err
			}, []string{"added", "kubectl-edit", "data.extra"}},
		{"web", "it is scaled", func() {
			_, err := w.kube.AppsV1().Deployments(ns).UpdateScale(t.Context(), "web", &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: ns},
				Spec: autoscalingv1.ScaleSpec{Replicas: 5}}, metav1.UpdateOptions{FieldManager: "kubectl"})
			if err != nil {
				t.Fatal(err)
			}
		}, func() error {
			d, err := w.kube.AppsV1().Deployments(ns).Get(t.Context(), "web", metav1.GetOptions{})
			if err == nil && *d.Spec.Replicas != 2 {
				err = fmt.Errorf("%d replicas", *d.Spec.Replicas)
			}
			return err
		}, []string{"web", "kubectl", "scale", "spec.replicas"}},
		{"deleted", "it is deleted", func() {
			if err := maps.Delete(t.Context(), "deleted", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}, func() error { return w.wantValue(ns, "deleted", "1") }, []string{"ConfigMap", "/deleted"}},
		{"unlabelled", "its label is removed", func() {
			w.patch(ns, "unlabelled", "kubectl-label", `{"metadata":{"labels":{"belay.dev/managed":null}}}`)
		},
			func() error {
				cm, err := maps.Get(t.Context(), "unlabelled", metav1.GetOptions{})
				if err == nil && cm.Labels[belay.LabelManaged] != "true" {
					err = errors.New("the label is not there")
				}
				return err
			}, nil},
		{"unnamed", "its annotations are removed", func() {
			w.patch(ns, "unnamed", "kubectl-annotate", `{"metadata":{"annotations":{"belay.dev/id":null,"belay.dev/digest":null}}}`)
		},
			func() error {
				cm, err := maps.Get(t.Context(), "unnamed", metav1.GetOptions{})
				if err == nil && (cm.Annotations[belay.AnnotationID] == "" || cm.Annotations[belay.AnnotationDigest] == "") {
					err = errors.New("the annotations are not there")
				}
				return err
			}, nil},
	} {
		mark := w.cp.Mark(t)
		events := len(s.events())
		drift.make()
		devtest.Await(t, drift.does+", and it is healed", drift.healed)
		s.awaitSynced("a")
		devtest.Await(t, "the write that healed it", func() error { // it is in the log once it was answered
			if len(w.writes(mark)) == 0 {
				return errors.New("there is none")
			}
			return nil
		})
		if r := w.writes(mark); len(r) > 2 || r[len(r)-1].Name != drift.name {
			t.Errorf("%s: requests are%s", drift.does, listing(r))
		}
		if drift.told == nil {
			continue
		}
		told := slices.ContainsFunc(s.events()[events:], func(e belay.Event) bool {
			line := e.Object + " " + e.Actor + " " + e.Message
			return e.Type == belay.EventDrift && !slices.ContainsFunc(drift.told, func(x string) bool { return !strings.Contains(line, x) })
		})
		if !told {
			t.Errorf("%s: events are %+v, want one of drift with %q", drift.does, s.events()[events:], drift.told)
		}
		s.awaitEvent(belay.EventHealed, drift.name)
	}
	if n := s.metric("belay_renders_total") + s.metric("belay_render_cache_hits_total") - renders; n != 0 {
		t.Errorf("%d renders for what the cluster did, want none", n)
	}

	mark := w.cp.Mark(t)
	w.patch(ns, "controlled", "some-controller", `{"data":{"injected":"x"},"metadata":{"annotations":{"seen":"yes"}}}`)
	w.patch(ns, "changed", "kubectl-edit", `{"data":{"value":"2"}}`) // to know when the one before was looked at
	w.awaitValue(ns, "changed", "1")
	s.awaitSynced("a")
	cm, err := maps.Get(t.Context(), "controlled", metav1.GetOptions{})
	if err != nil || cm.Data["injected"] != "x" {
		t.Errorf("what a controller added is gone: %v, %v", cm.Data, err)
	}
	for _, r := range w.writes(mark) {
		if r.Name == "controlled" {
			t.Errorf("what a controller added was written over: %s", r)
		}
	}

	// Who looks with other tools finds it, too.
	devtest.Await(t, "Kubernetes events", func() error {
		list, err := w.kube.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=DriftHealed,involvedObject.name=web"})
		if err != nil {
			return err
		}
		if len(list.Items) != 1 || !strings.Contains(list.Items[0].Message, "spec.replicas by kubectl") || list.Items[0].Type != "Normal" {
			return fmt.Errorf("they are %+v", list.Items)
		}
		return nil
	})

	// What was drifted while nobody watched is drift, too.
	s.kill()
	w.patch(ns, "changed", "kubectl-edit", `{"data":{"value":"3"}}`)
	w.patch(ns, "added", "kubectl-edit", `{"data":{"extra":"y"}}`)
	if err := maps.Delete(t.Context(), "deleted", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	mark = w.cp.Mark(t)
	s = w.serve()
	s.awaitSynced("a")
	w.awaitValue(ns, "changed", "1")
	w.awaitValue(ns, "deleted", "1")
	for _, r := range w.writes(mark) {
		if r.Name != "changed" && r.Name != "added" && r.Name != "deleted" {
			t.Errorf("after a restart: %s", r)
		}
	}
}

func (w *world) wantValue(ns, name, want string) error {
	if got, _ := w.value(ns, name); got != want {
		return fmt.Errorf("it is %q", got)
	}
	return nil
}

// Whoever changes the same thing again and again is fought ever more slowly, and named.
func TestFightIsSlow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ns := w.ns("a")
	w.commit("One application", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": documents(configMap("a", "1"), configMap("b", "1"))})
	s := w.serve()
	s.awaitSynced("a")
	mark := w.cp.Mark(t)
	for i := range 4 {
		w.patch(ns, "a", "rival", fmt.Sprintf(`{"data":{"value":"rival %d"}}`, i))
		w.awaitValue(ns, "a", "1")
	}
	// It is told until the next heal, so the rival goes on until it was seen.
	devtest.Await(t, "the fight to be told", func() error {
		if v, _ := w.value(ns, "a"); v == "1" {
			w.patch(ns, "a", "rival", `{"data":{"value":"rival at last"}}`)
		}
		if a := s.status("a"); !strings.Contains(a.Message, "rival") || !strings.Contains(a.Message, "contested") {
			return fmt.Errorf("it says %q", a.Message)
		}
		return nil
	})
	// Others are healed at once meanwhile, and commits are applied.
	w.patch(ns, "b", "kubectl-edit", `{"data":{"value":"2"}}`)
	w.awaitValue(ns, "b", "1")
	requests := slices.DeleteFunc(w.writes(mark), func(r devtest.Request) bool { return r.Name != "a" || r.Code >= 300 })
	if len(requests) < 4 {
		t.Errorf("%d heals, want 4 at least:%s", len(requests), listing(requests))
	}
	for i := 1; i < len(requests); i++ {
		gap, least := requests[i].Time.Sub(requests[i-1].Time), time.Second<<(i-1)
		if gap < least*9/10 {
			t.Errorf("heal %d came %v after the one before, want %v at least", i+1, gap, least)
		}
	}
	s.push("Change it", map[string]string{"apps/a/a.yaml": documents(configMap("a", "2"), configMap("b", "2"))})
	w.awaitValue(ns, "b", "2")
	w.awaitValue(ns, "a", "2")
	s.awaitSynced("a")
}

// An application that is not automatic waits to be asked; one that does not heal
// itself shows its drift, and is put right on request.
func TestSyncOnRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Two applications", map[string]string{
		"belay/m.yaml": application("manual", "apps/m", "NS-m", "  sync: {automatic: false}\n"), "apps/m/a.yaml": documents(configMap("a", "1"), configMap("b", "1")),
		"belay/d.yaml": application("drifting", "apps/d", "NS-d", "  sync: {selfHeal: false}\n"), "apps/d/a.yaml": documents(configMap("a", "1"), configMap("b", "1")),
	})
	s := w.serve()
	s.awaitApps("drifting")
	a := s.awaitMessage("manual", "automatic sync is off", "belay sync manual")
	if a.Sync != belay.OutOfSync || a.Automatic {
		t.Errorf("manual is %s, automatic %t", a.Sync, a.Automatic)
	}
	if _, err := w.kube.CoreV1().Namespaces().Get(t.Context(), w.ns("m"), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("its namespace: %v, want none", err)
	}
	sync := func(app string) {
		t.Helper()
		if _, stderr, code := s.cli("sync", app, "--wait", "--timeout", "3m"); code != 0 {
			t.Errorf("sync %s: %s", app, stderr)
		}
	}
	sync("manual")
	s.awaitSynced("manual", "drifting")
	w.awaitValue(w.ns("m"), "a", "1")

	w.patch(w.ns("d"), "a", "kubectl-edit", `{"data":{"value":"x"}}`)
	if err := w.kube.CoreV1().ConfigMaps(w.ns("d")).Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.awaitMessage("drifting", "self-heal is off")
	s.awaitEvent(belay.EventDrift, "drifting", "kubectl-edit")
	// A commit is applied all the same, without what was changed by hand.
	s.push("Add an object", map[string]string{"apps/d/c.yaml": configMap("c", "1"), "apps/m/c.yaml": configMap("c", "1")})
	w.awaitValue(w.ns("d"), "c", "1")
	s.awaitMessage("manual", "automatic sync is off")
	w.awaitValue(w.ns("d"), "a", "x")
	w.awaitValue(w.ns("d"), "b", "")
	w.awaitValue(w.ns("m"), "c", "")
	sync("drifting")
	w.awaitValue(w.ns("d"), "a", "1")
	w.awaitValue(w.ns("d"), "b", "1")
	// A removal waits, too.
	s.push("Remove an object", map[string]string{"apps/m/b.yaml": "", "apps/m/a.yaml": configMap("a", "1")})
	s.awaitMessage("manual", "automatic sync is off")
	w.awaitValue(w.ns("m"), "b", "1")
	sync("manual")
	w.awaitValue(w.ns("m"), "b", "")
	w.awaitValue(w.ns("m"), "c", "1")
	s.awaitSynced("manual", "drifting")
}
