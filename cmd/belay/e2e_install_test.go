package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// deployFiles are the files below deploy/ that install Belay, by their paths there.
func deployFiles(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	root := filepath.Join("..", "..", "deploy")
	err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		out[filepath.ToSlash(name)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// restricted makes a namespace in which only harmless pods are admitted.
func (w *world) restricted(name string) string {
	w.t.Helper()
	ns := w.ns(name)
	if _, err := w.kube.CoreV1().Namespaces().Create(w.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns,
		Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	w.awaitRestricted(ns)
	return ns
}

// awaitRestricted waits until a plain pod would be refused in a namespace.
func (w *world) awaitRestricted(ns string) {
	w.t.Helper()
	devtest.Await(w.t, "pods to be refused there", func() error {
		_, err := w.kube.CoreV1().Pods(ns).Create(w.t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "plain"},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.org/main:1"}}}}, metav1.CreateOptions{DryRun: []string{"All"}})
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "restricted") {
			return errors.Join(errors.New("it is not refused"), err)
		}
		return nil
	})
}

// clearRoles has what is not in a namespace deleted at the end of the test.
func (w *world) clearRoles() {
	w.t.Cleanup(func() {
		ours := metav1.ListOptions{LabelSelector: belay.LabelInstance + "=" + w.instance}
		w.ignore(w.kube.RbacV1().ClusterRoles().DeleteCollection(w.cleanUp(), metav1.DeleteOptions{}, ours))
		w.ignore(w.kube.RbacV1().ClusterRoleBindings().DeleteCollection(w.cleanUp(), metav1.DeleteOptions{}, ours))
	})
}

// installed is a Deployment of Belay as a pod of it would run it: with the rights of
// its ServiceAccount, and its arguments as far as they fit this machine.
func (w *world) installed(ns, name string) (args []string, kubeconfig string) {
	w.t.Helper()
	ctx := w.t.Context()
	var d *appsv1.Deployment
	devtest.Await(w.t, "its pods to run", func() (err error) {
		d, err = w.kube.AppsV1().Deployments(ns).Get(ctx, name, metav1.GetOptions{})
		if err == nil && d.Status.ReadyReplicas != *d.Spec.Replicas {
			err = errors.New("they do not all")
		}
		return err
	})
	for _, arg := range d.Spec.Template.Spec.Containers[0].Args[1:] {
		arg = strings.ReplaceAll(arg, "$(POD_NAMESPACE)", ns)
		flag, _, _ := strings.Cut(arg, "=")
		if !slices.Contains([]string{"--repo", "--ref", "--path", "--data", "--health-listen", "--log-format"}, flag) {
			args = append(args, arg)
		}
	}
	hours := int64(3600)
	account := d.Spec.Template.Spec.ServiceAccountName
	token, err := w.kube.CoreV1().ServiceAccounts(ns).CreateToken(ctx, account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hours}}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := rest.AnonymousClientConfig(w.cp.RESTConfig())
	cfg.BearerToken = token.Status.Token
	kubeconfig = filepath.Join(w.t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(kubeconfigOf(cfg), kubeconfig); err != nil {
		w.t.Fatal(err)
	}
	return append(args, "--lease-namespace", ns, "--lease-duration", "5m"), kubeconfig // which a slow disk does not cost it
}

// install delivers an installation, and returns a world whose servers run as it does.
func (w *world) install(files map[string]string, app, ns, deployment string) (inner *world, args []string) {
	w.t.Helper()
	w.commit("Install Belay", files)
	s := w.serve()
	s.awaitSynced(app)
	args, kubeconfig := w.installed(ns, deployment)
	s.stop()
	copied := *w
	inner = &copied
	inner.repo, inner.kubeconfig, inner.data, inner.instance = gittest.NewRepo(w.t), kubeconfig, filepath.Join(w.t.TempDir(), "inner"), w.instance+"-inner"
	inner.url = inner.repo.URL()
	return inner, args
}

const installedLease = "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: one}\n"

func workloads() string {
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n"
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n"
	return documents(configMap("a", "1"), secret, service, deployment("web", 1, "example.org/web:1"))
}

// The manifests for a whole cluster install Belay under the strictest pod security,
// and with the rights that they give it delivers what they say, and nothing else
// until it is given more.
func TestInstallByManifests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.clearRoles()
	ns := w.ns("belay")
	files := deployFiles(t, "manifests")
	overlay := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: " + ns + "\nresources: [../manifests/cluster]\n" +
		"components: [../manifests/components/hook, ../manifests/components/digest-key]\n"
	files["install/kustomization.yaml"] = overlay
	files["belay/belay.yaml"] = application("belay", "install", ns)
	inner, args := w.install(files, "belay", ns, "belay")
	w.awaitRestricted(ns)
	key := filepath.Join(t.TempDir(), "key")
	write(t, key, strings.Repeat("k", 32))
	hook := filepath.Join(t.TempDir(), "hook")
	write(t, hook, strings.Repeat("h", 32))
	for i, a := range args {
		a = strings.ReplaceAll(a, "/run/secrets/belay-digest-key/key", key)
		a = strings.ReplaceAll(a, "/run/secrets/belay-hook/secret", hook)
		args[i] = strings.ReplaceAll(a, "$(POD_IP):8182", "127.0.0.1:0")
	}
	inner.commit("A fleet", map[string]string{
		"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": workloads(),
		"belay/lease.yaml": application("lease", "apps/lease", "NS-a"), "apps/lease/a.yaml": installedLease,
		"belay/role.yaml":  application("role", "apps/role", "NS-a"),
		"apps/role/a.yaml": "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: " + w.home + "}\nrules: []\n",
	})
	s := inner.serve(args...)
	s.awaitApps("a")
	s.awaitMessage("lease", "cannot patch", "leases", "grant it to Belay's user")
	s.awaitMessage("role", "cannot patch", "clusterroles")
	for _, c := range s.state().Clusters {
		for line := range strings.SplitSeq(c.Message, ";") {
			if strings.Contains(line, "cannot") && !strings.Contains(line, "ClusterRole.rbac.authorization.k8s.io") && !strings.Contains(line, "Lease.coordination.k8s.io") {
				t.Errorf("it complains of what nobody declares: %q", line)
			}
		}
	}
	w.patch(w.ns("a"), "a", "kubectl-edit", `{"data":{"value":"x"}}`)
	w.awaitValue(w.ns("a"), "a", "1")

	// Somebody gives it more by a label alone.
	more := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: w.home, Labels: map[string]string{"belay.dev/aggregate-to-deliver": "true"}},
		Rules: []rbacv1.PolicyRule{{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "list", "watch", "create", "patch", "delete"}}}}
	if _, err := w.kube.RbacV1().ClusterRoles().Create(t.Context(), more, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.ignore(w.kube.RbacV1().ClusterRoles().Delete(w.cleanUp(), w.home, metav1.DeleteOptions{}))
	})
	devtest.Await(t, "the lease to be delivered", func() error {
		s.cli("sync", "lease")
		_, err := w.kube.CoordinationV1().Leases(w.ns("a")).Get(t.Context(), "one", metav1.GetOptions{})
		return err
	})
	s.awaitApps("a", "lease")
	inner.commit("Take it away", map[string]string{"belay/a.yaml": "", "belay/lease.yaml": ""})
	s.hook()
	w.awaitValue(w.ns("a"), "a", "")
}

// The chart, rendered by Belay itself, for two namespaces of a team: with Roles alone
// it delivers there and nowhere else. For a whole cluster it installs too.
func TestInstallByChart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.clearRoles()
	ns := w.restricted("belay")
	for _, n := range []string{"one", "two", "other"} {
		w.makeNamespace(n)
	}
	chart := func(name, values string) string {
		return strings.Replace(application(name, "chart/belay", ns), "    path: chart/belay\n", "    path: chart/belay\n    helm:\n      releaseName: "+name+"\n      values:\n        repo: {url: \"https://git.example.com/fleet.git\"}\n"+values, 1)
	}
	files := deployFiles(t, "chart")
	files["belay/team.yaml"] = chart("team", "        scope: namespaces\n        namespaces: [NS-one, NS-two]\n        instance: "+w.instance+"-inner\n        rbac: {extraRules: [{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, list, watch, create, patch, delete]}]}\n")
	files["belay/whole.yaml"] = chart("whole", "        digestKeySecret: key\n        hook: {secret: hook}\n        onlyCluster: here\n        allowExecPlugins: [aws]\n        resources: {}\n")
	w.commit("The chart", files)
	s := w.serve()
	s.awaitSynced("team", "whole")
	s.push("A wrong value", map[string]string{"belay/wrong.yaml": chart("wrong", "        replicas: none\n")})
	s.awaitMessage("wrong", "replicas")
	s.stop()

	args, kubeconfig := w.installed(ns, "team")
	if slices.ContainsFunc(args, func(a string) bool { return a == "--only-cluster=here" }) {
		t.Errorf("arguments %q", args)
	}
	whole, _ := w.installed(ns, "whole")
	for _, want := range []string{"--only-cluster=here", "--own-credentials", "--allow-exec-plugin=aws", "--hook-listen=$(POD_IP):8182", "--digest-key-file=/run/secrets/belay-digest-key/key", "--lease-name=whole"} {
		if !slices.Contains(whole, want) {
			t.Errorf("the arguments %q lack %s", whole, want)
		}
	}
	inner := *w
	inner.repo, inner.kubeconfig, inner.data = gittest.NewRepo(t), kubeconfig, filepath.Join(t.TempDir(), "inner")
	inner.url = inner.repo.URL()
	inner.commit("A fleet", map[string]string{
		"belay/one.yaml": application("one", "apps/one", "NS-one"), "apps/one/a.yaml": workloads(),
		"belay/two.yaml": application("two", "apps/two", "NS-two"), "apps/two/a.yaml": documents(configMap("a", "1"), installedLease),
		"belay/other.yaml": application("other", "apps/other", "NS-other"), "apps/other/a.yaml": configMap("a", "1"),
	})
	mark := w.cp.Mark(t)
	in := inner.serve(args...)
	in.awaitApps("one", "two")
	in.awaitMessage("other", "does not deliver the namespace", w.ns("other"), "--namespace")
	w.patch(w.ns("two"), "a", "kubectl-edit", `{"data":{"value":"x"}}`)
	w.awaitValue(w.ns("two"), "a", "1")
	in.stop()
	in = inner.serve(args...)
	in.awaitApps("one", "two")
	inner.commit("Take one away", map[string]string{"belay/one.yaml": ""})
	in.hook()
	w.awaitValue(w.ns("one"), "a", "")
	user := "system:serviceaccount:" + ns + ":team"
	for _, r := range w.cp.Requests(t, mark, devtest.Filter{UserAgent: "belay/"}) {
		definition := r.Resource == "" || r.Resource == "customresourcedefinitions" || r.Resource == "apiservices"
		if r.User == user && r.Namespace == "" && !definition {
			t.Errorf("it asked for the whole cluster: %s", r)
		}
	}
}
