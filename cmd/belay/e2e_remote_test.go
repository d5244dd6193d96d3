package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/belaydev/belay/internal/devtest"
)

// remote is a ServiceAccount that may do anything, whose tokens can be revoked.
type remote struct {
	w    *world
	name string
	n    int
}

func (w *world) remote(name string) *remote {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.kube.CoreV1().ServiceAccounts(w.home).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	binding := w.home + "-" + name
	_, err := w.kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: binding},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.home, Name: name}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		w.ignore(w.kube.RbacV1().ClusterRoleBindings().Delete(w.cleanUp(), binding, metav1.DeleteOptions{}))
	})
	return &remote{w: w, name: name}
}

// user is how the API server knows it.
func (r *remote) user() string { return "system:serviceaccount:" + r.w.home + ":" + r.name }

// token makes a token, and what takes it away again.
func (r *remote) token() (token string, revoke func()) {
	r.w.t.Helper()
	ctx := r.w.t.Context()
	r.n++
	bound, err := r.w.kube.CoreV1().Secrets(r.w.home).Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", r.name, r.n)}}, metav1.CreateOptions{})
	if err != nil {
		r.w.t.Fatal(err)
	}
	hours := int64(3600)
	t, err := r.w.kube.CoreV1().ServiceAccounts(r.w.home).CreateToken(ctx, r.name, &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &hours, BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Secret", APIVersion: "v1", Name: bound.Name, UID: bound.UID},
	}}, metav1.CreateOptions{})
	if err != nil {
		r.w.t.Fatal(err)
	}
	return t.Status.Token, func() {
		r.w.t.Helper()
		if err := r.w.kube.CoreV1().Secrets(r.w.home).Delete(ctx, bound.Name, metav1.DeleteOptions{}); err != nil {
			r.w.t.Fatal(err)
		}
		cfg := r.config(t.Status.Token)
		devtest.Await(r.w.t, "the token to be refused", func() error {
			if _, err := kubernetes.NewForConfigOrDie(cfg).CoreV1().Namespaces().Get(ctx, r.w.home, metav1.GetOptions{}); err == nil {
				return fmt.Errorf("it is taken")
			}
			return nil
		})
	}
}

func (r *remote) config(token string) *rest.Config {
	cfg := rest.AnonymousClientConfig(r.w.cp.RESTConfig())
	cfg.BearerToken = token
	return cfg
}

// kubeconfig is one with a token, and with everything in it.
func (r *remote) kubeconfig(token string) []byte {
	r.w.t.Helper()
	cfg := r.config(token)
	if err := rest.LoadTLSFiles(cfg); err != nil {
		r.w.t.Fatal(err)
	}
	cfg.CAFile = ""
	b, err := clientcmd.Write(kubeconfigOf(cfg))
	if err != nil {
		r.w.t.Fatal(err)
	}
	return b
}

// A kubeconfig in a Secret is read again when its token is refused, and the
// observation goes on.
func TestRotatedKubeconfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.remote("remote")
	first, revoke := r.token()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "clusters"}, Data: map[string][]byte{"production": r.kubeconfig(first)}}
	if _, err := w.kube.CoreV1().Secrets(w.home).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.commit("A cluster", map[string]string{
		"belay/cluster.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: production}\nspec: {kubeconfig: {secret: {namespace: " + w.home + ", name: clusters, key: production}}}\n",
		"belay/a.yaml":       application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1"),
	})
	s := w.serve()
	s.awaitSynced("a")
	second, _ := r.token()
	secret.Data["production"] = r.kubeconfig(second)
	if _, err := w.kube.CoreV1().Secrets(w.home).Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	revoke()
	mark := w.cp.Mark(t)
	s.push("Change", map[string]string{"apps/a/a.yaml": configMap("a", "2")})
	w.awaitValue(w.ns("a"), "a", "2")
	s.awaitSynced("a")
	devtest.Await(t, "the log to say so", func() error { // its lines come through a pipe
		if !strings.Contains(s.log.String(), `"using new credentials"`) {
			return errors.New("it does not")
		}
		return nil
	})
	for _, q := range w.cp.Requests(t, mark, devtest.Filter{UserAgent: "belay/", Verbs: []string{"list"}}) {
		if q.User == r.user() && q.Resource == "configmaps" {
			t.Errorf("it began anew: %s", q)
		}
	}
	for _, token := range []string{first, second} {
		if strings.Contains(s.log.String(), token) {
			t.Error("a token is in the log")
		}
	}
}

// A program that gets credentials runs only if the operator said so, and again
// when what it got is refused.
func TestExecPlugin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.remote("remote")
	first, revoke := r.token()
	dir := t.TempDir()
	plugin, answer, ran, kubeconfig := filepath.Join(dir, "get-token"), filepath.Join(dir, "answer"), filepath.Join(dir, "ran"), filepath.Join(dir, "kubeconfig")
	give := func(token string) {
		b, err := json.Marshal(map[string]any{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": map[string]any{"token": token}})
		if err != nil {
			t.Fatal(err)
		}
		write(t, answer+".new", string(b))
		if err := os.Rename(answer+".new", answer); err != nil {
			t.Fatal(err)
		}
	}
	give(first)
	write(t, plugin, "#!/bin/sh\necho run >>"+ran+"\ncat "+answer+"\n")
	if err := os.Chmod(plugin, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, kubeconfig, strings.Replace(string(r.kubeconfig("TOKEN")), "token: TOKEN",
		"exec: {apiVersion: client.authentication.k8s.io/v1, command: "+plugin+", interactiveMode: IfAvailable}", 1))
	w.commit("A cluster", map[string]string{
		"belay/cluster.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: production}\nspec: {kubeconfig: {file: " + kubeconfig + "}}\n",
		"belay/a.yaml":       application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1"),
	})
	s := w.serve()
	s.awaitMessage("a", "runs a program to get credentials", "--allow-exec-plugin")
	s.stop()
	s = w.serve("--allow-exec-plugin", "get-token") // a name in PATH, not this file
	s.awaitMessage("a", "runs a program to get credentials")
	s.stop()
	if b, err := os.ReadFile(ran); err == nil {
		t.Fatalf("it ran: %q", b)
	}
	s = w.serve("--allow-exec-plugin", plugin)
	s.awaitSynced("a")
	second, _ := r.token()
	give(second)
	revoke()
	s.push("Change", map[string]string{"apps/a/a.yaml": configMap("a", "2")})
	w.awaitValue(w.ns("a"), "a", "2")
	s.awaitSynced("a")
}

// Two servers over one repository, each with the cluster that it stands for.
func TestPullMode(t *testing.T) {
	t.Parallel()
	east := newWorld(t)
	west := newWorldOn(t, devtest.Dedicated(t, devtest.Options{}))
	west.repo, west.url = east.repo, east.url
	definition := func(name string) string {
		// For a hub; in the cluster itself there is no such Secret.
		return "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: " + name + "}\nspec: {kubeconfig: {secret: {namespace: hub, name: clusters, key: " + name + "}}, context: elsewhere}\n"
	}
	on := func(cluster string) string {
		return strings.Replace(application(cluster, "apps/"+cluster, "NS-a"), "  destination:\n", "  destination:\n    cluster: "+cluster+"\n", 1)
	}
	east.commit("Two clusters", map[string]string{
		"belay/clusters.yaml": documents(definition("east"), definition("west")),
		"belay/apps.yaml":     documents(on("east"), on("west")),
		"apps/east/a.yaml":    configMap("a", "east"), "apps/west/a.yaml": configMap("a", "west"),
	})
	hub := east.serve("--only-cluster", "east")
	hub.awaitMessage("east", "there is no such Secret")
	hub.stop()
	atEast, atWest := east.serve("--only-cluster", "east", "--own-credentials"), west.serve("--only-cluster", "west", "--own-credentials")
	atEast.awaitSynced("east")
	atWest.awaitSynced("west")
	east.awaitValue(east.ns("a"), "a", "east")
	west.awaitValue(east.ns("a"), "a", "west")
	east.commit("Change both", map[string]string{"apps/east/a.yaml": configMap("a", "east2"), "apps/west/a.yaml": configMap("a", "west2")})
	atEast.hook()
	east.awaitValue(east.ns("a"), "a", "east2")
	if got, _ := west.value(east.ns("a"), "a"); got != "west" {
		t.Errorf("in the west it is %q before that was told", got)
	}
	atEast.stop() // the one needs nothing of the other
	atWest.hook()
	west.awaitValue(east.ns("a"), "a", "west2")
}

// cleanUp is a context for the end of a test.
func (w *world) cleanUp() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), devtest.Patience)
	w.t.Cleanup(cancel)
	return ctx
}
