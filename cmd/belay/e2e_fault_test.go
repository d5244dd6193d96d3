package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

// The fault suite: whatever breaks around Belay, the others go on, the message
// says what is wrong, recovery is by itself, and nothing is lost. Outages of
// whole servers are in e2e_outage_test.go.

// way is a proxy between Belay and the API server that can be made bad.
type way struct {
	mu sync.Mutex
	// fault answers in the API server's place, if it returns true.
	fault func(http.ResponseWriter, *http.Request) bool
	// kubeconfig leads over the proxy, with the world's own account.
	kubeconfig string
}

func (w *world) way() *way {
	w.t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", w.kubeconfig)
	if err != nil {
		w.t.Fatal(err)
	}
	server, err := url.Parse(cfg.Host)
	if err != nil {
		w.t.Fatal(err)
	}
	anonymous := rest.AnonymousClientConfig(cfg)
	transport, err := rest.TransportFor(anonymous)
	if err != nil {
		w.t.Fatal(err)
	}
	y := &way{}
	proxy := &httputil.ReverseProxy{Transport: transport, FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(server) },
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) }}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		y.mu.Lock()
		fault := y.fault
		y.mu.Unlock()
		if fault == nil || !fault(rw, r) {
			proxy.ServeHTTP(rw, r)
		}
	}))
	front.EnableHTTP2 = true
	front.StartTLS() // without TLS no credentials would be sent
	w.t.Cleanup(func() {
		y.fail(nil)
		front.CloseClientConnections()
		front.Close()
	})
	over := &rest.Config{Host: front.URL, BearerToken: cfg.BearerToken}
	over.CAData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	y.kubeconfig = filepath.Join(w.t.TempDir(), "over")
	if err := clientcmd.WriteToFile(kubeconfigOf(over), y.kubeconfig); err != nil {
		w.t.Fatal(err)
	}
	return y
}

// fail sets the fault; nil mends.
func (y *way) fail(fault func(http.ResponseWriter, *http.Request) bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.fault = fault
}

// twoClusters is a fleet of one application near and one over a way.
func (w *world) twoClusters(y *way) map[string]string {
	cluster := func(name, kubeconfig string) string {
		return "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: " + name + "}\nspec: {kubeconfig: {file: " + kubeconfig + "}}\n"
	}
	on := func(cluster, def string) string {
		return strings.Replace(def, "  destination:\n", "  destination:\n    cluster: "+cluster+"\n", 1)
	}
	return map[string]string{
		"belay/clusters.yaml": documents(cluster("near", w.kubeconfig), cluster("far", y.kubeconfig)),
		"belay/near.yaml":     on("near", application("near", "apps/near", "NS-near")), "apps/near/a.yaml": configMap("a", "1"),
		"belay/far.yaml": on("far", application("far", "apps/far", "NS-far")), "apps/far/a.yaml": documents(configMap("a", "1"), configMap("b", "1")),
	}
}

// servedTwice is a world with that fleet, served and well.
func servedTwice(t *testing.T) (*world, *way, *serveProcess) {
	t.Helper()
	w := newWorld(t)
	y := w.way()
	w.commit("Two clusters", w.twoClusters(y))
	s := w.serve()
	s.awaitSynced("near", "far")
	return w, y, s
}

func (w *world) changeBoth(s *serveProcess, value string) {
	w.t.Helper()
	s.push("Change both to "+value, map[string]string{"apps/near/a.yaml": configMap("a", value),
		"apps/far/a.yaml": documents(configMap("a", value), configMap("b", value))})
}

// A cluster that takes its time slows down nobody but itself.
func TestSlowCluster(t *testing.T) {
	t.Parallel()
	w, y, s := servedTwice(t)
	var slow sync.Map
	looked := make(chan struct{}) // at the other, for which this test may take its time too
	y.fail(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") == "" {
			slow.Store(r.URL.Path, true)
			select {
			case <-r.Context().Done():
				return false
			case <-looked:
			}
			select {
			case <-r.Context().Done():
			case <-time.After(4 * time.Second):
			}
		}
		return false
	})
	w.changeBoth(s, "2")
	w.awaitValue(w.ns("near"), "a", "2")
	if v, _ := w.value(w.ns("far"), "a"); v == "2" {
		t.Error("the slow cluster was as fast as the other")
	}
	close(looked)
	s.awaitSynced("near", "far")
	if v, _ := w.value(w.ns("far"), "b"); v != "2" {
		t.Errorf("far has %q", v)
	}
	n := 0
	slow.Range(func(any, any) bool { n++; return true })
	if n == 0 {
		t.Error("no request was slow")
	}
}

// A cluster that takes requests and never answers is said not to answer; it is
// served again once it does.
func TestHangingCluster(t *testing.T) {
	t.Parallel()
	w, y, s := servedTwice(t)
	mended := make(chan struct{})
	y.fail(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") != "" {
			return false
		}
		select {
		case <-r.Context().Done():
		case <-mended:
		}
		return false
	})
	w.changeBoth(s, "2")
	w.awaitValue(w.ns("near"), "a", "2")
	s.awaitApps("near")
	a := s.awaitMessage("far", "apps/far/a.yaml:1", `cluster "far"`, "timed out")
	if a.Sync == belay.Synced {
		t.Errorf("far is %s", a.Sync)
	}
	w.changeBoth(s, "3") // and again, for the near one is not held up by it
	w.awaitValue(w.ns("near"), "a", "3")
	y.fail(nil)
	close(mended)
	s.awaitSynced("near", "far")
	for _, name := range []string{"a", "b"} {
		if v, _ := w.value(w.ns("far"), name); v != "3" {
			t.Errorf("far has %s %q", name, v)
		}
	}
}

// An API server that is too busy is given the time that it asks for, and no
// object is told to have failed.
func TestBusyCluster(t *testing.T) {
	t.Parallel()
	w, y, s := servedTwice(t)
	var mu sync.Mutex
	refused := 0
	y.fail(func(rw http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.Method != http.MethodPatch || refused >= 6 {
			return false
		}
		refused++
		rw.Header().Set("Retry-After", "1")
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusTooManyRequests)
		_ = json.NewEncoder(rw).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
			Reason: metav1.StatusReasonTooManyRequests, Code: http.StatusTooManyRequests, Message: "too many requests",
			Details: &metav1.StatusDetails{RetryAfterSeconds: 1}})
		return true
	})
	w.changeBoth(s, "2")
	w.awaitValue(w.ns("near"), "a", "2")
	s.awaitSynced("near", "far")
	mu.Lock()
	n := refused
	mu.Unlock()
	if n != 6 {
		t.Errorf("%d requests were refused, want 6", n)
	}
	if f := s.metric("belay_object_failures_total"); f != 0 {
		t.Errorf("%d writes are told to have failed", f)
	}
}

// API servers that answer with errors of their own, or break off in the middle,
// are tried again until they do better.
func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	w, y, s := servedTwice(t)
	var mu sync.Mutex
	kinds := []func(http.ResponseWriter){
		func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusInternalServerError) },
		func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusServiceUnavailable) },
		func(rw http.ResponseWriter) { _, _ = io.WriteString(rw, `{"kind":"PartialObj`) },
		func(rw http.ResponseWriter) { _, _ = io.WriteString(rw, `<html>log in first</html>`) },
		func(rw http.ResponseWriter) { panic(http.ErrAbortHandler) },
	}
	y.fail(func(rw http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		if r.Method != http.MethodPatch || len(kinds) == 0 {
			mu.Unlock()
			return false
		}
		answer := kinds[0]
		kinds = kinds[1:]
		mu.Unlock()
		answer(rw)
		return true
	})
	w.changeBoth(s, "2")
	w.awaitValue(w.ns("near"), "a", "2")
	s.awaitSynced("near", "far")
	for _, name := range []string{"a", "b"} {
		if v, _ := w.value(w.ns("far"), name); v != "2" {
			t.Errorf("far has %s %q", name, v)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(kinds) > 0 {
		t.Errorf("%d kinds of broken answers were never given", len(kinds))
	}
}

// A definition that somebody deletes takes its objects along. Both are made
// again, and applications beside are left in peace.
func TestDefinitionDeletedUnderneath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("A kind, its objects, and another", map[string]string{
		"belay/kinds.yaml": application("kinds", "apps/kinds", "NS-kinds"), "apps/kinds/crd.yaml": w.crd("Gizmo", "Namespaced"),
		"belay/objects.yaml": application("objects", "apps/objects", "NS-objects"), "apps/objects/a.yaml": documents(w.custom("Gizmo", "g", "1"), configMap("c", "1")),
		"belay/other.yaml": application("other", "apps/other", "NS-other"), "apps/other/a.yaml": configMap("a", "1"),
	})
	s := w.serve()
	s.awaitSynced("kinds", "objects", "other")
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	before, err := w.dynamic.Resource(crds).Get(t.Context(), "gizmos."+w.group(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.dynamic.Resource(crds).Delete(t.Context(), before.GetName(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.push("Change another", map[string]string{"apps/other/a.yaml": configMap("a", "2")})
	w.awaitValue(w.ns("other"), "a", "2")
	devtest.Await(t, "the definition to be made again", func() error {
		now, err := w.dynamic.Resource(crds).Get(t.Context(), before.GetName(), metav1.GetOptions{})
		if err == nil && now.GetUID() == before.GetUID() {
			err = errors.New("it is still the old one")
		}
		return err
	})
	devtest.Await(t, "the object to be back", func() error {
		if v, err := w.customValue("Gizmo", w.ns("objects"), "g"); err != nil || v != "1" {
			return fmt.Errorf("it is %q, %w", v, errors.Join(err))
		}
		return nil
	})
	s.awaitSynced("kinds", "objects", "other")
}

// An admission webhook that says no to one object stops that one; what it says
// is passed on, with the place in Git.
func TestWebhookDeniesOneObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	denying := w.denying("refused")
	w.commit("Three objects", map[string]string{
		"belay/a.yaml": application("a", "apps/a", "NS-a"), "belay/b.yaml": application("b", "apps/b", "NS-b"),
		"apps/a/a.yaml": documents(configMap("good", "1"), configMap("refused", "1")), "apps/b/a.yaml": configMap("b", "1"),
	})
	w.makeNamespace("a") // the webhook is for this one
	denying(w.ns("a"))
	s := w.serve()
	s.awaitMessage("a", "apps/a/a.yaml:8", "ConfigMap "+w.ns("a")+"/refused", "not on a Friday")
	w.awaitValue(w.ns("a"), "good", "1")
	s.awaitApps("b")
	s.push("Change the others", map[string]string{"apps/a/a.yaml": documents(configMap("good", "2"), configMap("refused", "1")), "apps/b/a.yaml": configMap("b", "2")})
	w.awaitValue(w.ns("a"), "good", "2")
	w.awaitValue(w.ns("b"), "b", "2")
	denying("")
	s.awaitSynced("a", "b")
	if v, _ := w.value(w.ns("a"), "refused"); v != "1" {
		t.Errorf("the object that was refused is %q", v)
	}
}

// denying serves an admission webhook that refuses ConfigMaps of a name. The
// function switches it on for a namespace, or off.
func (w *world) denying(name string) func(ns string) {
	w.t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: review.Request.Name != name,
			Result: &metav1.Status{Message: "not on a Friday"}}
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(review)
	}))
	w.t.Cleanup(server.Close)
	configurations := w.kube.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	off := func() { w.ignore(configurations.Delete(w.t.Context(), w.home, metav1.DeleteOptions{})) }
	return func(ns string) {
		w.t.Helper()
		if ns == "" {
			off()
			return
		}
		none, fail := admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Fail
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		_, err := configurations.Create(w.t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: w.home},
			Webhooks: []admissionregistrationv1.ValidatingWebhook{{
				Name: "denies.example.com", SideEffects: &none, FailurePolicy: &fail, AdmissionReviewVersions: []string{"v1"},
				ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: &server.URL, CABundle: ca},
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": ns}},
				Rules: []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{"CREATE", "UPDATE"},
					Rule: admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}}}},
			}}}, metav1.CreateOptions{})
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = configurations.Delete(ctx, w.home, metav1.DeleteOptions{}) // it may be off
		})
		devtest.Await(w.t, "the webhook to work", func() error {
			_, err := w.kube.CoreV1().ConfigMaps(ns).Create(w.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{DryRun: []string{"All"}})
			if err == nil {
				return errors.New("it refuses nothing")
			}
			return nil
		})
	}
}

// A namespace that does not finish terminating stops what goes into it, says so,
// and is made again when it is gone.
func TestNamespaceStuckTerminating(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Two applications", map[string]string{
		"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1"),
		"belay/b.yaml": application("b", "apps/b", "NS-b"), "apps/b/a.yaml": configMap("b", "1"),
	})
	s := w.serve()
	s.awaitSynced("a", "b")
	stuck := w.make(w.ns("a"), "stuck", "x", nil, nil)
	w.patch(w.ns("a"), "stuck", "kubectl-edit", `{"metadata":{"finalizers":["example.com/stuck"]}}`)
	if err := w.kube.CoreV1().Namespaces().Delete(t.Context(), w.ns("a"), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.awaitMessage("a", "namespace", w.ns("a"), "is being deleted")
	s.push("Change both", map[string]string{"apps/a/a.yaml": configMap("a", "2"), "apps/b/a.yaml": configMap("b", "2")})
	w.awaitValue(w.ns("b"), "b", "2")
	s.awaitApps("b")
	s.awaitMessage("a", "namespace", w.ns("a"), "is being deleted")
	w.patch(w.ns("a"), stuck.Name, "kubectl-edit", `{"metadata":{"finalizers":null}}`)
	s.awaitSynced("a", "b")
	if v, _ := w.value(w.ns("a"), "a"); v != "2" {
		t.Errorf("the object in the namespace that came back is %q", v)
	}
}
