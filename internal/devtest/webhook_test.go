package devtest_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay/internal/devtest"
)

// contextOf is for a clean-up, when the test's own context has ended.
func contextOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), devtest.Patience)
	t.Cleanup(cancel)
	return ctx
}

func TestAdmissionWebhooks(t *testing.T) {
	t.Parallel()
	cp := devtest.Cluster(t)
	ns, c := cp.Namespace(t), client(t, cp)

	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		response := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		switch {
		case r.URL.Path == "/mutate":
			patch := admissionv1.PatchTypeJSONPatch
			response.PatchType = &patch
			response.Patch = []byte(`[{"op":"add","path":"/data","value":{"added":"by webhook"}}]`)
		case review.Request.Name == "refused":
			response.Allowed = false
			response.Result = &metav1.Status{Message: "not this one"}
		}
		review.Response = response
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(review); err != nil {
			t.Errorf("answer the API server: %v", err)
		}
	}))
	t.Cleanup(server.Close)

	register(t, cp, ns, server)
	configMaps := c.CoreV1().ConfigMaps(ns)
	create := func(name string) (*corev1.ConfigMap, error) {
		return configMaps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	}
	devtest.Await(t, "the webhooks to take effect", func() error {
		_, err := create("refused")
		switch {
		case err == nil:
			return errors.Join(errors.New("it is accepted"), configMaps.Delete(t.Context(), "refused", metav1.DeleteOptions{}))
		case strings.Contains(err.Error(), "not this one"):
			return nil
		}
		return err
	})
	devtest.Await(t, "a ConfigMap changed by the webhook", func() error {
		cm, err := create("a")
		if err != nil {
			return err
		}
		if cm.Data["added"] == "by webhook" {
			return nil
		}
		return errors.Join(errors.New("it is unchanged"), configMaps.Delete(t.Context(), "a", metav1.DeleteOptions{}))
	})
}

// register makes the API server ask the webhooks about a namespace's ConfigMaps.
func register(t *testing.T, cp *devtest.ControlPlane, ns string, server *httptest.Server) {
	t.Helper()
	c := client(t, cp).AdmissionregistrationV1()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	clientConfig := func(path string) admissionregistrationv1.WebhookClientConfig {
		url := server.URL + path
		return admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: ca}
	}
	rules := []admissionregistrationv1.RuleWithOperations{{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
	}}
	here := &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": ns}}
	none := admissionregistrationv1.SideEffectClassNone
	meta := metav1.ObjectMeta{Name: ns}

	_, err := c.MutatingWebhookConfigurations().Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: meta,
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "mutate.example.com", ClientConfig: clientConfig("/mutate"), Rules: rules,
			NamespaceSelector: here, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ValidatingWebhookConfigurations().Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: meta,
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "validate.example.com", ClientConfig: clientConfig("/validate"), Rules: rules,
			NamespaceSelector: here, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := contextOf(t)
		if err := c.MutatingWebhookConfigurations().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
		if err := c.ValidatingWebhookConfigurations().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

func TestRequestsAreCounted(t *testing.T) {
	t.Parallel()
	cp := devtest.Cluster(t)
	ns := cp.Namespace(t)
	began := time.Now()
	config := cp.RESTConfig()
	config.UserAgent = "counted-" + ns
	c := clientFor(t, config)
	configMaps := c.CoreV1().ConfigMaps(ns)
	create := func(name string) {
		t.Helper()
		if _, err := configMaps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create("before")
	watch, err := configMaps.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mark := cp.Mark(t)
	watch.Stop()
	create("after-1")
	create("after-2")
	if _, err := configMaps.Get(t.Context(), "missing", metav1.GetOptions{}); err == nil {
		t.Fatal("want an error")
	}
	second, err := configMaps.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Stop()
	// Somebody else's.
	if _, err := client(t, cp).CoreV1().ConfigMaps(ns).Get(t.Context(), "before", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}

	mine := devtest.Filter{UserAgent: config.UserAgent}
	var got []string
	for _, r := range cp.Requests(t, mark, mine) {
		if r.Resource != "configmaps" || r.Namespace != ns || r.User != "devcluster-admin" || r.Time.Before(began) {
			t.Errorf("request %+v", r)
		}
		got = append(got, r.Verb+" "+r.Name+" "+http.StatusText(r.Code))
	}
	want := "create after-1 Created, create after-2 Created, get missing Not Found, watch  OK"
	if strings.Join(got, ", ") != want {
		t.Errorf("requests %q, want %q", strings.Join(got, ", "), want)
	}

	creates := devtest.Filter{UserAgent: config.UserAgent, Verbs: []string{"create"}, Resource: "configmaps", Namespace: ns}
	if n := len(cp.Requests(t, 0, creates)); n != 3 {
		t.Errorf("%d creates since the beginning, want 3", n)
	}
	creates.Name = "before"
	if got := cp.Requests(t, mark, creates); len(got) != 0 {
		t.Errorf("requests %v, want none", got)
	}
}
