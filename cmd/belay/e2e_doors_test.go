package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/registrytest"
	"github.com/belaydev/belay/internal/sops/sopstest"
)

// door is an application of a project, with something that the project does not allow.
type door struct {
	name  string
	def   string            // its definition; "" for a plain one in an allowed namespace
	files map[string]string // below apps/NAME
	links map[string]string // symlinks below apps/NAME
	// says is what its message and hint must have.
	says []string
}

func declaredProject(name, spec string) string {
	return "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: " + name + "}\nspec:\n" + spec
}

const deniedSource = `project "team" does not allow the source`

// teamApp is a definition in project team. more is YAML below spec, indented by two.
func teamApp(name, more string) string {
	return application(name, "apps/"+name, "NS-ok", "  project: team\n"+more)
}

// lootIn is an object that must never be written.
func lootIn(name, namespace string) string {
	return configMap("loot-"+name, "x", "  namespace: "+namespace+"\n")
}

func doorsToClusters() []door {
	one := func(name, manifest string) map[string]string { return map[string]string{name: manifest} }
	hook := func(phases string) map[string]string { return one("a.yaml", hookJob("loot", phases, "")) }
	denied := []string{`project "team" does not allow the kind Job.batch (spec.deniedKinds)`}
	return []door{
		{name: "kind", def: teamApp("kind", "  dependsOn: [{name: free}]\n"), files: one("a.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: loot-kind}\n"),
			says: []string{"apps/kind/a.yaml:1", `project "team" does not allow the kind Secret (spec.deniedKinds)`}},
		{name: "kinds", def: strings.Replace(teamApp("kinds", ""), "project: team", "project: few", 1), files: one("a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: loot-kinds}\nspec: {ports: [{port: 80}]}\n"),
			says: []string{`project "few" does not allow the kind Service (spec.kinds)`}},
		{name: "cluster-kind", files: one("a.yaml", "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: NS-loot}\n"),
			says: []string{"ClusterRole.rbac.authorization.k8s.io (spec.clusterKinds)"}},
		{name: "namespace", def: application("namespace", "apps/namespace", "NS-no", "  project: team\n  sync: {namespaceMetadata: {labels: {loot: \"yes\"}}}\n"), files: one("a.yaml", configMap("loot-namespace", "x")),
			says: []string{`project "team" does not allow the namespace "NS-no" of cluster "local" (spec.destinations)`}},
		{name: "other-namespace", files: one("a.yaml", lootIn("other", "NS-no")), says: []string{`namespace "NS-no"`, "(spec.destinations)"}},
		{name: "making", def: strings.Replace(teamApp("making", ""), "project: team", "project: few", 1), files: one("a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: NS-no-such}\n"),
			says: []string{`project "few" does not allow the namespace "NS-no-such"`}},
		{name: "cluster", def: strings.Replace(teamApp("cluster", ""), "destination:\n", "destination:\n    cluster: second\n", 1), files: one("a.yaml", configMap("loot-cluster", "x")),
			says: []string{`of cluster "second" (spec.destinations)`}},
		{name: "adopt", def: teamApp("adopt", "  sync: {adopt: true, recreate: true, replace: true}\n"), files: one("a.yaml", configMap("theirs", "loot", "  namespace: NS-theirs\n")),
			says: []string{`namespace "NS-theirs"`, "(spec.destinations)"}},
		{name: "pre-sync", files: hook("PreSync"), says: denied},
		{name: "sync-hook", files: hook("Sync"), says: denied},
		{name: "post-sync", files: hook("PostSync"), says: denied},
		{name: "hook-namespace", files: one("a.yaml", configMap("loot-hook", "x", "  namespace: NS-no\n", annotated(belay.AnnotationHook, "PreSync"))), says: []string{`namespace "NS-no"`, "(spec.destinations)"}},
		{name: "sync-fail", files: one("a.yaml", documents("apiVersion: v1\nkind: Secret\nmetadata: {name: loot-fail}\n", hookJob("loot", "SyncFail", ""))), says: []string{"spec.deniedKinds"}},
	}
}

// doorsToFiles are those by which an application may read. chart and base are the
// URLs of a Helm repository and of a Git repository of which the project allows
// the directory open.
func doorsToFiles(t *testing.T, own, chart, base string) []door {
	source := func(name, source string) string {
		return strings.Replace(sourced(name, source, "NS-ok"), "spec:\n", "spec:\n  project: team\n", 1)
	}
	kustomization := func(text string) map[string]string { return map[string]string{"kustomization.yaml": text + "\n"} }
	helm := func() map[string]string { return chartOf("loot-helm") }
	sealed := sopstest.Encrypt(t, "s.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: loot-sealed}\nstringData: {value: x}\n", "^stringData$", sopstest.Age(t))
	return []door{
		{name: "repository", def: source("repository", "source: {repo: "+chart+"/x.git, path: open}"), says: []string{deniedSource, "spec.sources"}},
		{name: "path", def: source("path", "source: {path: secret}"), says: []string{deniedSource, `path "secret"`}},
		{name: "second", def: source("second", "sources: [{path: apps/second}, {path: secret}]"), files: map[string]string{"a.yaml": configMap("loot-second", "x")}, says: []string{deniedSource, `path "secret"`}},
		{name: "values", def: source("values", "sources: [{path: apps/values, helm: {valuesFiles: [$shared/closed/v.yaml]}}, {name: shared, repo: shared}]"), files: helm(), says: []string{deniedSource, "closed/v.yaml"}},
		{name: "values-dots", def: source("values-dots", "sources: [{path: apps/values-dots, helm: {valuesFiles: [$shared/open/../closed/v.yaml]}}, {name: shared, repo: shared}]"), files: helm(), says: []string{"closed/v.yaml"}},
		{name: "values-link", def: source("values-link", "sources: [{path: apps/values-link, helm: {valuesFiles: [$shared/open/link.yaml]}}, {name: shared, repo: shared}]"), files: helm(), says: []string{deniedSource, "closed/v.yaml"}},
		{name: "values-own", def: source("values-own", "source: {path: apps/values-own, helm: {valuesFiles: [../../secret/v.yaml]}}"), files: helm(), says: []string{deniedSource, "secret/v.yaml"}},
		{name: "chart", def: source("chart", `source: {repo: "`+chart+`", chart: web, ref: "*"}`), says: []string{deniedSource, "web"}},
		{name: "dependency", files: map[string]string{"Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies:\n- {name: web, version: ^1, repository: \"" + chart + "\"}\n", "templates/a.yaml": configMap("loot-dep", "x")}, says: []string{deniedSource, "web"}},
		{name: "base", files: kustomization("resources: [\"" + base + "//closed\"]"), says: []string{deniedSource, "closed"}},
		{name: "base-link", files: kustomization("resources: [\"" + base + "//open\"]"), says: []string{deniedSource, "closed/cm.yaml"}},
		{name: "component", files: kustomization("components: [\"" + base + "//closed\"]"), says: []string{deniedSource, "closed"}},
		{name: "by-url", files: kustomization("resources: [\"" + own + "//secret\"]"), says: []string{"apps/by-url/kustomization.yaml:1", "cannot be used from here"}},
		{name: "dots", files: kustomization("resources: [../../secret]"), says: []string{deniedSource, `path "secret`, "apps/dots/kustomization.yaml"}},
		{name: "link", links: map[string]string{"a.yaml": "../../secret/a.yaml"}, says: []string{deniedSource, `path "secret/a.yaml"`}},
		{name: "link-dir", files: kustomization("resources: [in]"), links: map[string]string{"in": "../../secret"}, says: []string{deniedSource, `path "secret`}},
		{name: "patch", def: teamApp("patch", "  patches: [{target: {kind: ConfigMap}, file: secret/p.yaml}]\n"), files: map[string]string{"a.yaml": configMap("loot-patch", "x")}, says: []string{deniedSource, "secret/p.yaml"}},
		{name: "variables", def: teamApp("variables", "  variables: {files: [secret/v.yaml]}\n"), files: map[string]string{"a.yaml": configMap("loot-variables", "${value}")}, says: []string{deniedSource, "secret/v.yaml"}},
		{name: "variables-two", def: source("variables-two", "sources: [{path: apps/variables-two}, {path: apps/free}]\n  variables: {files: [secret/v.yaml]}"), files: map[string]string{"a.yaml": configMap("loot-variables-two", "${value}")}, says: []string{deniedSource, "secret/v.yaml"}},
		{name: "sealed", files: map[string]string{"s.yaml": sealed}, says: []string{`project "team" has no keys`}},
	}
}

func chartOf(name string) map[string]string {
	return map[string]string{"Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\n", "templates/a.yaml": configMap(name, "{{ .Values.value }}")}
}

// No door leads around a Project: whatever an application is made of, and by
// whichever way it is asked for, what its Project does not allow is neither
// written nor read, and the message names the Project and the field.
func TestNoWayAroundAProject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := t.TempDir()
	shared := gittest.InitRepo(t, filepath.Join(root, "shared.git"))
	git := gittest.ServeHTTP(t, root, gittest.HTTPOptions{})
	base := git.URL + "/shared.git"
	shared.CommitFiles("main", "Open and closed", map[string]gittest.File{
		"open/kustomization.yaml": gittest.Text("resources: [cm.yaml]\n"), "open/cm.yaml": gittest.Link("../closed/cm.yaml"), "open/link.yaml": gittest.Link("../closed/v.yaml"),
		"closed/kustomization.yaml": gittest.Text("resources: [cm.yaml]\n"), "closed/cm.yaml": gittest.Text(configMap("loot-base", "x")), "closed/v.yaml": gittest.Text("value: x\n"),
	})
	charts := registrytest.ServeHelm(t, "", "")
	charts.Publish("web", "1.0.0", webChart("x"))
	w.makeNamespace("theirs")
	w.make(w.ns("theirs"), "theirs", "theirs", nil, nil)

	doors := append(doorsToClusters(), doorsToFiles(t, w.url, charts.URL, base)...)
	cluster := func(name string) string {
		return "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: " + name + "}\nspec: {kubeconfig: {file: " + w.kubeconfig + "}}\n"
	}
	sources := fmt.Sprintf("  sources: [{repo: %q, paths: [\"apps/**\"]}, {repo: shared, paths: [open]}]\n", w.url)
	files := map[string]gittest.File{}
	put := func(path, text string) {
		if strings.HasPrefix(path, "belay/") && !strings.Contains(text, "cluster: ") {
			text = strings.NewReplacer("destination:\n", "destination:\n    cluster: local\n", "destination: {", "destination: {cluster: local, ").Replace(text)
		}
		files[path] = gittest.Text(w.expand(text))
	}
	put("belay/clusters.yaml", documents(cluster("local"), cluster("second")))
	put("belay/repos.yaml", documents(repository("shared", base, ""), repository("charts", charts.URL, "")))
	put("belay/team.yaml", declaredProject("team", sources+"  destinations: [{cluster: local, namespaces: [\"NS-ok*\"]}]\n  deniedKinds: [Secret, batch/Job]\n"))
	put("belay/few.yaml", declaredProject("few", sources+"  destinations: [{namespaces: [\"NS-ok*\"]}]\n  kinds: [ConfigMap]\n  clusterKinds: [Namespace]\n"))
	put("belay/free.yaml", application("free", "apps/free", "NS-free"))
	put("apps/free/a.yaml", configMap("free", "1"))
	put("belay/well.yaml", teamApp("well", ""))
	put("apps/well/a.yaml", configMap("well", "1"))
	put("secret/kustomization.yaml", "resources: [a.yaml]\n")
	put("secret/a.yaml", configMap("loot-secret", "x"))
	put("secret/p.yaml", "data: {value: loot}\n")
	put("secret/v.yaml", "value: loot\n")
	// A set that finds out its project, and its namespace, from parameters.
	put("belay/set.yaml", "apiVersion: belay.dev/v1alpha1\nkind: ApplicationSet\nmetadata: {name: set}\nspec:\n  generators: [{list: {elements: [{team: team, ns: NS-no}]}}]\n"+
		"  template:\n    metadata: {name: \"set-{{ .team }}\"}\n    spec: {project: \"{{ .team }}\", source: {path: apps/well}, destination: {namespace: \"{{ .ns }}\"}}\n")
	doors = append(doors, door{name: "set-team", says: []string{`project "team" does not allow the namespace "NS-no"`}})
	for _, d := range doors {
		switch {
		case d.name == "set-team":
		case d.def == "":
			put("belay/"+d.name+".yaml", teamApp(d.name, ""))
		default:
			put("belay/"+d.name+".yaml", d.def)
		}
		for p, text := range d.files {
			put("apps/"+d.name+"/"+p, text)
		}
		for p, to := range d.links {
			files["apps/"+d.name+"/"+p] = gittest.Link(to)
		}
	}
	w.repo.CommitFiles("main", "Doors", files)
	mark := w.cp.Mark(t)
	s := w.serve()
	s.awaitApps("free", "well")
	awaitDoors(s, doors)
	// Nor do those who ask for it help.
	for _, d := range []string{"kind", "namespace", "pre-sync", "adopt"} {
		s.cli("sync", d)
		s.cli("sync", d, "--override-window", "--reason", "it is urgent")
	}
	st, _ := s.app("namespace")
	def := belay.Application{Name: "kind", Spec: belay.DefaultApplicationSpec()}
	def.Spec.Project, def.Spec.Destination = "team", belay.Destination{Cluster: st.Cluster, Namespace: w.ns("ok")}
	secret, err := belay.NewObject([]byte(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"loot-plan"}}`), belay.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	previews, err := s.Plan(t.Context(), belay.PlanRequest{Rendered: []belay.RenderedApplication{{Application: def, Objects: []belay.Object{secret}}}})
	if err != nil || len(previews) != 1 || len(previews[0].Changes) != 1 || !strings.Contains(previews[0].Changes[0].Error, "spec.deniedKinds") {
		t.Errorf("the plan of what is not allowed is %+v, %v", previews, err)
	}
	awaitDoors(s, doors) // after those syncs, too
	for _, r := range w.writes(mark) {
		ok := r.Namespace == w.ns("ok") || r.Namespace == w.ns("free") || r.Resource == "namespaces" && (r.Name == w.ns("ok") || r.Name == w.ns("free"))
		if !ok || r.Resource != "configmaps" && r.Resource != "namespaces" || strings.HasPrefix(r.Name, "loot") {
			t.Errorf("a door is open: %s", r)
		}
	}
	for _, r := range w.requests(mark) { // not even an event
		if (r.Namespace == w.ns("no") || r.Namespace == w.ns("theirs")) && r.Verb != "get" && r.Verb != "list" {
			t.Errorf("a door is open: %s", r)
		}
	}
	w.awaitValue(w.ns("theirs"), "theirs", "theirs")
	if n := len(charts.Requests()); n > 0 {
		t.Errorf("a Helm repository that is not allowed was asked %d times", n)
	}
}

// awaitDoors waits until each door says what it has to.
func awaitDoors(s *serveProcess, doors []door) {
	s.w.t.Helper()
	devtest.Await(s.w.t, "the doors to be locked", func() error {
		said := map[string]string{}
		for _, a := range s.state().Applications {
			said[a.Name] = a.Message + "\n" + a.Hint
		}
		var errs []error
		for _, d := range doors {
			for _, text := range d.says {
				if !strings.Contains(said[d.name], s.w.expand(text)) {
					errs = append(errs, fmt.Errorf("%s does not say %q: %q", d.name, text, said[d.name]))
				}
			}
		}
		return errors.Join(errs...)
	})
}

// What is there already stays as it is when the Project does not allow it any more,
// also when the application is removed, and when the Project is removed with it.
func TestNoWayAroundAProjectThatAllowsLess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	account := w.home + "-deployer"
	_, err := w.kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: account},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.home, Name: "deployer"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.ignore(w.kube.RbacV1().ClusterRoleBindings().Delete(w.cleanUp(), account, metav1.DeleteOptions{}))
	})
	team := func(namespaces, denied string) string {
		return declaredProject("team", "  sources: [{repo: \"**\"}]\n  destinations: [{namespaces: ["+namespaces+"]}]\n  deniedKinds: ["+denied+"]\n")
	}
	as := declaredProject("acting", "  sources: [{repo: \"**\"}]\n  destinations: [{}]\n  serviceAccount: {namespace: "+w.home+", name: deployer}\n")
	acting := application("acting", "apps/acting", "NS-acting", "  project: acting\n")
	ending := map[string]string{"apps/ending/a.yaml": documents(configMap("a", "1"), hookJob("loot-pre", "PreDelete", ""), hookJob("loot-post", "PostDelete", ""))}
	w.commit("Allowed", merge(ending, map[string]string{
		"belay/README.md": "Definitions.\n",
		"belay/team.yaml": team("NS-less, NS-ending", "batch/Job"), "belay/as.yaml": as, "belay/acting.yaml": acting,
		"belay/less.yaml": application("less", "apps/less", "NS-less", "  project: team\n"), "apps/less/a.yaml": documents(configMap("a", "1"), configMap("b", "1"), configMap("c", "1")),
		"belay/ending.yaml":  application("ending", "apps/ending", "NS-ending", "  project: team\n"),
		"apps/acting/a.yaml": documents(configMap("a", "1"), configMap("hook", "1", annotated(belay.AnnotationHook, "PreSync")), configMap("last", "1", annotated(belay.AnnotationHook, "PreDelete"))),
	}))
	mark := w.cp.Mark(t)
	s := w.serve()
	s.awaitApps("less", "ending", "acting")
	w.patch(w.ns("acting"), "a", "kubectl-edit", `{"data":{"value":"edited"}}`)
	w.awaitValue(w.ns("acting"), "a", "1")
	lessMark := w.cp.Mark(t)
	s.push("Allow less, and prune", map[string]string{"belay/team.yaml": team("NS-ending", "batch/Job"), "apps/less/a.yaml": documents(configMap("a", "1"), configMap("b", "1"))})
	s.awaitMessage("less", `project "team" does not allow the namespace`, "spec.destinations")
	s.push("Remove them", map[string]string{"belay/less.yaml": "", "belay/ending.yaml": ""})
	s.awaitMessage("less", `project "team" does not allow the namespace`)
	s.awaitMessage("ending", `project "team" does not allow the kind Job.batch`)
	// The Project goes, too: it still counts, as it was.
	s.push("And their Project, and another at once", map[string]string{"belay/team.yaml": "", "belay/as.yaml": "", "belay/acting.yaml": ""})
	w.awaitValue(w.ns("acting"), "a", "")
	s.awaitMessage("less", `project "team" does not allow the namespace`)
	s.awaitMessage("ending", `project "team" does not allow the kind Job.batch`)
	s.kill()
	s = w.serve()
	s.awaitMessage("less", `project "team" does not allow the namespace`)
	s.awaitMessage("ending", `project "team" does not allow the kind Job.batch`)
	for _, name := range []string{"a", "b", "c"} {
		w.awaitValue(w.ns("less"), name, "1")
	}
	for _, r := range w.writes(lessMark) {
		if r.Namespace == w.ns("less") || r.Namespace == w.ns("ending") {
			t.Errorf("a door is open: %s", r)
		}
	}
	for _, r := range w.writes(mark) {
		if (r.Namespace == w.ns("acting") || r.Name == w.ns("acting")) && r.As != "system:serviceaccount:"+w.home+":deployer" {
			t.Errorf("sent as %q: %s", r.As, r)
		}
	}
	// Declared again, and allowed, they go.
	s.push("Allow it", map[string]string{"belay/team.yaml": team(`"*"`, "")})
	devtest.Await(t, "the applications to go", func() error {
		for _, a := range s.state().Applications {
			return fmt.Errorf("%s is there: %q", a.Name, a.Message)
		}
		return nil
	})
	if _, err := w.kube.CoreV1().ConfigMaps(w.ns("less")).Get(ctx, "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what belonged to the application: %v", err)
	}
}
