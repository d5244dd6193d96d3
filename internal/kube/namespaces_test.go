package kube_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/kube"
)

// A user with rights in two namespaces alone can deliver there, and sees all that
// it would see with rights everywhere.
func TestOnlyNamespaces(t *testing.T) {
	t.Parallel()
	cp := devtest.Cluster(t)
	here, there, elsewhere := cp.Namespace(t), cp.Namespace(t), cp.Namespace(t)
	user := "team-" + here
	client := kubernetes.NewForConfigOrDie(cp.RESTConfig())
	for _, ns := range []string{here, there} {
		if _, err := client.RbacV1().Roles(ns).Create(t.Context(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "team"}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"configmaps", "services"}, Verbs: []string{"get", "list", "watch", "create", "patch", "delete"}},
			{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: []string{"get", "list", "watch", "create", "patch", "delete"}},
		}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.RbacV1().RoleBindings(ns).Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "team"},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "team"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: user}},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	limited := func() *fixture {
		f := newFixture(t, cp, here, func(o *kube.Options) {
			o.Config.Impersonate.UserName = user
			o.Namespaces = []string{there, here}
		})
		f.GuessEvery(500 * time.Millisecond)
		f.run()
		f.awaitReady()
		return f
	}
	at := func(f *fixture, ns, name, value string) belay.Object {
		return f.object("shop", fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":%q},"data":{"key":%q}}`, name, ns, value))
	}
	mark := cp.Mark(t)
	f := limited()
	f.awaitNoComplaint() // that it may not look elsewhere is none
	kinds := []belay.VersionKind{{APIVersion: "v1", Kind: "ConfigMap"}}
	f.await("both namespaces to be watched", func() error {
		if !f.Observe(kinds) {
			return fmt.Errorf("still waiting")
		}
		return nil
	})
	one := f.mustCreate("shop", at(f, here, "a", "1"))
	f.mustCreate("shop", at(f, there, "a", "1"))
	if got := f.Live("shop"); len(got) != 2 {
		t.Errorf("of two objects it knows %d", len(got))
	}
	f.patch(configMaps, "a", "kubectl-edit", `{"data":{"key":"2"}}`)
	f.awaitLive(one.ID, "the drift", func(l belay.Live) bool { return l.Fingerprint != one.Fingerprint })

	wantError(t, second(f.create("shop", at(f, elsewhere, "a", "1"))), belay.CodeDenied, elsewhere, here, "--namespace")
	wantError(t, second(f.create("shop", f.object("shop", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"`+here+`"}}`))),
		belay.CodeDenied, "no namespace")
	id := belay.ObjectID{Kind: "Namespace", Name: elsewhere + "-2"}
	wantError(t, f.EnsureNamespace(t.Context(), f.permit("shop", id), belay.NamespaceMetadata{}), belay.CodeNoNamespace, "makes none")
	wantError(t, second(f.create("shop", f.object("shop", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"$NS"}}`))),
		belay.CodeForbidden, "secrets")

	// It may not watch the definitions, and learns of a kind nevertheless, if that is
	// waited for.
	widget := f.customKind("Namespaced")
	f.Observe([]belay.VersionKind{{APIVersion: widget.group + "/v1", Kind: widget.kind}})
	f.widgetKind("Namespaced")
	f.end()

	// A later life finds what this one applied, though nothing asks for the kind.
	f = limited()
	if got := f.Live("shop"); len(got) != 2 {
		t.Errorf("after a restart it knows %d of 2", len(got))
	}
	known, _ := f.Lookup(one.ID)
	if err := f.Delete(t.Context(), f.permit("shop", one.ID), known); err != nil {
		t.Error(err)
	}
	f.await("one to be left", func() error {
		if got := f.Live("shop"); len(got) != 1 {
			return fmt.Errorf("%d", len(got))
		}
		return nil
	})
	for _, r := range f.requests(mark, "list", "watch") {
		definition := r.Resource == "customresourcedefinitions" || r.Resource == "apiservices"
		if r.Namespace != here && r.Namespace != there && !definition {
			t.Errorf("it asked about the whole cluster: %s", r)
		}
		if strings.HasPrefix(r.Resource, "configmaps") && r.Code == 403 {
			t.Errorf("refused: %s", r)
		}
	}
}

func second[T any](_ T, err error) error { return err }
