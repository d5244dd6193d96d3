package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// world is what one test has to itself: a repository, a data directory, an
// instance name, a prefix of namespaces, and a user of the API server, by which
// its requests are told from those of other tests.
type world struct {
	t          testing.TB
	cp         *devtest.ControlPlane
	repo       *gittest.Repo
	url        string // of the repository
	data       string
	instance   string
	home       string // a namespace; the names of all others begin with it
	user       string
	kubeconfig string
	kube       kubernetes.Interface
	dynamic    dynamic.Interface
	servers    []*serveProcess
	lost       bool // whether the disk was lost, with the key of the ledger
}

func newWorld(t testing.TB) *world { t.Helper(); return newWorldOn(t, devtest.Cluster(t)) }

func newWorldOn(t testing.TB, cp *devtest.ControlPlane) *world {
	t.Helper()
	w := &world{t: t, cp: cp, repo: gittest.NewRepo(t), data: filepath.Join(t.TempDir(), "data"), home: cp.Namespace(t)}
	w.instance, w.url = w.home, w.repo.URL()
	cfg := w.as("kubectl-edit")
	w.kube, w.dynamic = kubernetes.NewForConfigOrDie(cfg), dynamic.NewForConfigOrDie(cfg)
	w.user = "system:serviceaccount:" + w.home + ":belay"
	w.kubeconfig = w.account()
	t.Cleanup(w.leave)
	t.Cleanup(w.verifyLedger)
	t.Cleanup(w.clear)
	return w
}

// as is an administrator's configuration under a name that counts as a tool's.
func (w *world) as(agent string) *rest.Config {
	cfg := w.cp.RESTConfig()
	cfg.UserAgent = agent
	return cfg
}

// account makes a service account that may do anything, and a kubeconfig for it.
func (w *world) account() string {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.kube.CoreV1().ServiceAccounts(w.home).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "belay"}}, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	_, err := w.kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: w.home},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.home, Name: "belay"}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	hours := int64(2 * 3600)
	token, err := w.kube.CoreV1().ServiceAccounts(w.home).CreateToken(ctx, "belay",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hours}}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	admin := w.cp.RESTConfig()
	cfg := rest.AnonymousClientConfig(admin)
	cfg.BearerToken = token.Status.Token
	devtest.Await(w.t, "the account's rights", func() error {
		_, err := kubernetes.NewForConfigOrDie(cfg).CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{Limit: 1})
		return err
	})
	path := filepath.Join(w.t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(kubeconfigOf(cfg), path); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func kubeconfigOf(cfg *rest.Config) clientcmdapi.Config {
	c := clientcmdapi.NewConfig()
	c.Clusters["c"] = &clientcmdapi.Cluster{Server: cfg.Host, CertificateAuthorityData: cfg.CAData, CertificateAuthority: cfg.CAFile}
	c.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: cfg.BearerToken}
	c.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	c.CurrentContext = "x"
	return *c
}

// clear begins the deletion of what the test left in the cluster.
func (w *world) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), devtest.Patience)
	defer cancel()
	namespaces, err := w.kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return // a control plane of the test's own that has ended
	}
	for i := range namespaces.Items {
		if n := namespaces.Items[i].Name; strings.HasPrefix(n, w.home+"-") {
			w.ignore(w.kube.CoreV1().Namespaces().Delete(ctx, n, metav1.DeleteOptions{}))
		}
	}
	w.ignore(w.kube.RbacV1().ClusterRoleBindings().Delete(ctx, w.home, metav1.DeleteOptions{}))
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	w.ignore(w.dynamic.Resource(crds).DeleteCollection(ctx, metav1.DeleteOptions{},
		metav1.ListOptions{LabelSelector: belay.LabelInstance + "=" + w.instance}))
}

func (w *world) ignore(err error) {
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Logf("clean-up: %v", err)
	}
}

// ns is the name of a namespace of the test.
func (w *world) ns(name string) string { return w.home + "-" + name }

// commit puts files on main; an empty content deletes the path.
func (w *world) commit(subject string, files map[string]string) string {
	w.t.Helper()
	all := make(map[string]gittest.File, len(files))
	for p, c := range files {
		all[p] = gittest.Text(w.expand(c))
		if c == "" {
			all[p] = gittest.Delete()
		}
	}
	return w.repo.CommitFiles("main", subject, all)
}

// expand replaces NS- by the prefix of the test's namespaces.
func (w *world) expand(s string) string { return strings.ReplaceAll(s, "NS-", w.home+"-") }

// requests are those of the world's servers since a mark that are no watches.
func (w *world) requests(since devtest.Mark) []devtest.Request {
	w.t.Helper()
	all := w.cp.Requests(w.t, since, devtest.Filter{UserAgent: "belay/"})
	return slices.DeleteFunc(all, func(r devtest.Request) bool { return r.User != w.user || r.Verb == "watch" })
}

// writes are those requests that change something.
func (w *world) writes(since devtest.Mark) []devtest.Request {
	w.t.Helper()
	return slices.DeleteFunc(w.requests(since), func(r devtest.Request) bool {
		return r.Verb == "get" || r.Verb == "list" || r.Resource == "events" || strings.Contains(r.URI, "dryRun")
	})
}

// watches are the watches that were opened since a mark.
func (w *world) watches(since devtest.Mark) []devtest.Request {
	w.t.Helper()
	all := w.cp.Requests(w.t, since, devtest.Filter{UserAgent: "belay/", Verbs: []string{"watch"}})
	return slices.DeleteFunc(all, func(r devtest.Request) bool { return r.User != w.user })
}

func listing(requests []devtest.Request) string {
	var b strings.Builder
	for _, r := range requests {
		fmt.Fprintf(&b, "\n  %s", r)
	}
	return b.String()
}

// application is a definition; more is YAML below spec, indented by two.
func application(name, path, namespace string, more ...string) string {
	s := fmt.Sprintf("apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata:\n  name: %s\nspec:\n  source:\n    path: %s\n  destination:\n    namespace: %s\n",
		name, path, namespace)
	return s + strings.Join(more, "")
}

// configMap is a manifest; more is YAML below metadata, indented by two.
func configMap(name, value string, more ...string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\n%sdata:\n  value: %q\n", name, strings.Join(more, ""), value)
}

// annotated is YAML for configMap.
func annotated(pairs ...string) string {
	s := "  annotations:\n"
	for i := 0; i < len(pairs); i += 2 {
		s += fmt.Sprintf("    %s: %q\n", pairs[i], pairs[i+1])
	}
	return s
}

func deployment(name string, replicas int, image string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
spec:
  replicas: %[2]d
  selector:
    matchLabels: {app: %[1]s}
  template:
    metadata:
      labels: {app: %[1]s}
    spec:
      containers:
        - name: main
          image: %[3]s
`, name, replicas, image)
}

// documents joins manifests to one file.
func documents(manifests ...string) string { return strings.Join(manifests, "---\n") }

// value is the content of a ConfigMap made by configMap; ok is false if it is not there.
func (w *world) value(ns, name string) (string, bool) {
	w.t.Helper()
	var cm *corev1.ConfigMap
	devtest.Await(w.t, fmt.Sprintf("an answer about ConfigMap %s/%s", ns, name), func() (err error) {
		if cm, err = w.kube.CoreV1().ConfigMaps(ns).Get(w.t.Context(), name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			cm, err = nil, nil
		}
		return err
	})
	if cm == nil {
		return "", false
	}
	return cm.Data["value"], true
}

// awaitValue waits until a ConfigMap has a value, "" for its absence.
func (w *world) awaitValue(ns, name, want string) {
	w.t.Helper()
	devtest.Await(w.t, fmt.Sprintf("ConfigMap %s/%s to be %q", ns, name, want), func() error {
		if got, _ := w.value(ns, name); got != want {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
}

// uid identifies a ConfigMap's life.
func (w *world) uid(ns, name string) types.UID {
	w.t.Helper()
	cm, err := w.kube.CoreV1().ConfigMaps(ns).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return cm.UID
}

// make creates a ConfigMap as somebody else would.
func (w *world) make(ns, name, value string, labels, annotations map[string]string) *corev1.ConfigMap {
	w.t.Helper()
	cm, err := w.kube.CoreV1().ConfigMaps(ns).Create(w.t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: annotations}, Data: map[string]string{"value": value},
	}, metav1.CreateOptions{FieldManager: "kubectl-create"})
	if err != nil {
		w.t.Fatal(err)
	}
	return cm
}

// patch changes a ConfigMap by a merge patch, under a field manager.
func (w *world) patch(ns, name, manager, patch string) {
	w.t.Helper()
	_, err := w.kube.CoreV1().ConfigMaps(ns).Patch(w.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: manager})
	if err != nil {
		w.t.Fatal(err)
	}
}

// makeNamespace makes a namespace of the test and returns its name.
func (w *world) makeNamespace(name string) string {
	w.t.Helper()
	_, err := w.kube.CoreV1().Namespaces().Create(w.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.ns(name)}}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.ns(name)
}

// loseDisk is removeData where a ledger that outlives it may go on with another key.
func (w *world) loseDisk() {
	w.t.Helper()
	w.lost = true
	w.removeData()
}

// removeData removes the data directory of a server that has ended. A git that it
// ran may live on for a moment.
func (w *world) removeData() {
	w.t.Helper()
	devtest.Await(w.t, "the data directory to go", func() error { return os.RemoveAll(w.data) })
}

// owned lists what in the test's namespaces carries the instance's label, as
// "kind ns/name", of the kinds that the tests use.
func (w *world) owned() []string {
	w.t.Helper()
	var out []string
	for _, gvr := range []schema.GroupVersionResource{
		{Version: "v1", Resource: "configmaps"}, {Version: "v1", Resource: "secrets"}, {Version: "v1", Resource: "services"},
		{Version: "v1", Resource: "serviceaccounts"}, {Version: "v1", Resource: "namespaces"}, {Group: "apps", Version: "v1", Resource: "deployments"},
	} {
		list, err := w.dynamic.Resource(gvr).List(w.t.Context(), metav1.ListOptions{LabelSelector: belay.LabelInstance + "=" + w.instance})
		if err != nil {
			w.t.Fatal(err)
		}
		for i := range list.Items {
			out = append(out, describe(&list.Items[i]))
		}
	}
	slices.Sort(out)
	return out
}

func describe(u *unstructured.Unstructured) string {
	return u.GetKind() + " " + u.GetNamespace() + "/" + u.GetName()
}

// merge is one map of files from several; later ones win.
func merge(files ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, f := range files {
		maps.Copy(out, f)
	}
	return out
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
