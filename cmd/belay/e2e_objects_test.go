package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

// What is in the way is taken over only where that is allowed, and what cannot be
// changed in place is made anew only where that is allowed, also when the process
// dies in between. A plan says both beforehand.
func TestAdoptAndRecreate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ns := w.makeNamespace("a")
	w.make(ns, "theirs", "x", nil, nil)
	w.make(ns, "refused", "x", nil, nil)
	frozen := func(name, value string, more ...string) string {
		return configMap(name, value, more...) + "immutable: true\n"
	}
	w.commit("In the way of others", map[string]string{
		"belay/a.yaml":  application("a", "apps/a", "NS-a"),
		"apps/a/a.yaml": documents(configMap("theirs", "1", annotated(belay.AnnotationAdopt, "enabled")), configMap("refused", "1"), frozen("frozen", "1"), frozen("anew", "1")),
	})
	s := w.serve()
	s.awaitMessage("a", "refused", "kubectl-create", "spec.sync.adopt")
	w.awaitValue(ns, "theirs", "1")
	w.awaitValue(ns, "refused", "x")
	for _, name := range []string{"theirs", "frozen", "anew"} { // the plan is to know of all of them
		s.awaitEvent(belay.EventApplied, "ConfigMap "+ns+"/"+name)
	}
	s.awaitEvent(belay.EventApplied, "ConfigMap "+ns+"/theirs", "adopted")
	anew := w.uid(ns, "anew")

	main := w.repo.Resolve("main")
	w.commit("Allow it", map[string]string{
		"belay/a.yaml":  application("a", "apps/a", "NS-a", "  sync: {adopt: true}\n"),
		"apps/a/a.yaml": documents(configMap("refused", "1"), frozen("frozen", "2"), frozen("anew", "2", annotated(belay.AnnotationRecreate, "enabled"))),
	})
	allowed := w.repo.Resolve("main")
	w.repo.Branch("allowed", allowed)
	w.repo.Branch("main", main)
	stdout, stderr, _ := s.cli("plan", "--revision", "allowed", "a")
	for _, want := range []string{"adopt ConfigMap " + ns + "/refused", "recreate ConfigMap " + ns + "/anew", "delete ConfigMap " + ns + "/theirs",
		"update ConfigMap " + ns + "/frozen", "belay.dev/recreate: enabled, or set spec.sync.recreate"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the plan does not say %q:\n%s%s", want, stdout, stderr)
		}
	}
	s.crashAt("recreate", 1)
	w.repo.Branch("main", allowed)
	s.hookIfAlive() // it may be dead before it answers
	devtest.Await(t, "the server to die", func() error {
		if !s.ended() {
			return errors.New("it lives")
		}
		return nil
	})
	if _, there := w.value(ns, "anew"); there {
		t.Error("it died before the deletion, and this test shows nothing")
	}
	s = w.serve()
	w.awaitValue(ns, "anew", "2")
	w.awaitValue(ns, "refused", "1")
	s.awaitMessage("a", "frozen", "spec.sync.recreate")
	w.awaitValue(ns, "frozen", "1")
	if w.uid(ns, "anew") == anew {
		t.Error("it was not made anew")
	}
	// What was taken over is removed by removing it from Git, as a whole and in part.
	s.push("Mend it", map[string]string{"apps/a/a.yaml": documents(configMap("refused", "2"), frozen("frozen", "1"))})
	s.awaitSynced("a")
	w.awaitValue(ns, "anew", "")
	w.awaitValue(ns, "theirs", "")
}

// What may differ is set when an object is made, and is everybody else's then; it
// is Git's again when the rule goes.
func TestIgnoreDifferences(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ns := w.ns("a")
	rules := "  sync:\n    ignoreDifferences:\n      - kind: ConfigMap\n        name: left*\n        pointers: [/data/value]\n"
	w.commit("A field for others", map[string]string{
		"belay/a.yaml":  application("a", "apps/a", "NS-a", rules),
		"apps/a/a.yaml": documents(configMap("left", "1"), configMap("kept", "1")),
	})
	s := w.serve()
	s.awaitSynced("a")
	w.awaitValue(ns, "left", "1")
	w.patch(ns, "left", "kubectl-edit", `{"data":{"value":"theirs"}}`)
	w.patch(ns, "kept", "kubectl-edit", `{"data":{"value":"theirs"}}`)
	s.awaitEvent(belay.EventHealed, "kept")
	s.push("Change both", map[string]string{"apps/a/a.yaml": documents(configMap("left", "2", annotated("changed", "yes")), configMap("kept", "2"))})
	s.awaitSynced("a")
	w.awaitValue(ns, "kept", "2")
	w.awaitValue(ns, "left", "theirs")
	// A second one after the claim was given up.
	s.push("Change it again", map[string]string{"apps/a/a.yaml": documents(configMap("left", "3", annotated("changed", "again")), configMap("kept", "2"))})
	s.awaitSynced("a")
	w.awaitValue(ns, "left", "theirs")
	s.stop()
	mark := w.cp.Mark(t)
	s = w.serve()
	s.awaitSynced("a")
	if r := w.writes(mark); len(r) > 0 {
		t.Errorf("writes after a restart%s", listing(r))
	}
	s.push("No rule", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a")})
	s.awaitSynced("a")
	w.awaitValue(ns, "left", "3")
}

// A Project's ServiceAccount decides what its applications may touch; a namespace
// carries what Git says; what asks for a confirmation waits for it.
func TestServiceAccountNamespaceAndConfirmations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, ns := t.Context(), w.ns("a")
	_, err := w.kube.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: w.home + "-deployer"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps", "namespaces"}, Verbs: []string{"create", "patch", "delete"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: w.home + "-deployer"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: w.home + "-deployer"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: w.home, Name: "deployer"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.ignore(w.kube.RbacV1().ClusterRoleBindings().Delete(w.cleanUp(), w.home+"-deployer", metav1.DeleteOptions{}))
	})
	project := func(confirm string) string {
		return fmt.Sprintf("apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: web}\nspec:\n  sources: [{repo: \"**\"}]\n  destinations: [{}]\n"+
			"  serviceAccount: {namespace: %s, name: deployer}\n  confirm: [%q]\n", w.home, confirm)
	}
	app := func(level, more string) string {
		return application("a", "apps/a", "NS-a", "  project: web\n  sync:\n    confirmDeletion: true\n    namespaceMetadata: {labels: {level: "+level+"}}\n"+more)
	}
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: password}\nstringData: {value: x}\n"
	precious := configMap("precious", "1", annotated(belay.AnnotationDelete, "confirm"))
	w.commit("A project with an account", map[string]string{
		"belay/project.yaml": project("none"), "belay/a.yaml": app("low", ""),
		"apps/a/a.yaml": documents(configMap("a", "1"), configMap("b", "1"), precious, secret),
	})
	mark := w.cp.Mark(t)
	s := w.serve()
	s.awaitMessage("a", "system:serviceaccount:"+w.home+":deployer", `"secrets"`, "ServiceAccount "+w.home+"/deployer")
	w.awaitValue(ns, "a", "1")
	for _, r := range w.writes(mark) {
		if r.As != "system:serviceaccount:"+w.home+":deployer" {
			t.Errorf("sent as %q: %s", r.As, r)
		}
	}
	level := func(want string) {
		t.Helper()
		devtest.Await(t, "the level of the namespace to be "+want, func() error {
			n, err := w.kube.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
			if err == nil && n.Labels["level"] != want {
				err = fmt.Errorf("labels %v", n.Labels)
			}
			return err
		})
	}
	level("low")
	s.push("Another level, no Secret", map[string]string{"belay/a.yaml": app("high", ""), "apps/a/a.yaml": documents(configMap("a", "1"), configMap("b", "1"), precious)})
	s.awaitSynced("a")
	level("high")
	mark = w.cp.Mark(t)
	s.push("Nothing of a", map[string]string{"apps/other": "x"})
	s.awaitSynced("a")
	// Kinds of other tests come and go; what serves them is looked at.
	ours := slices.DeleteFunc(w.requests(mark), func(r devtest.Request) bool { return r.Resource == "" || w.foreign(r.Group) })
	if len(ours) > 0 {
		t.Errorf("requests at rest%s", listing(ours))
	}

	s.push("Take the precious one away", map[string]string{"apps/a/a.yaml": documents(configMap("a", "1"))})
	w.awaitValue(ns, "b", "")
	held := s.awaitMessage("a", "precious", "has to be confirmed")
	w.awaitValue(ns, "precious", "1")
	token := tokenOf(held.Hint)
	s.push("Confirm it", map[string]string{"belay/a.yaml": app("high", "    confirm: "+token+"\n")})
	w.awaitValue(ns, "precious", "")
	s.awaitSynced("a")

	s.push("Remove the application", map[string]string{"belay/a.yaml": ""})
	held = s.awaitMessage("a", "stay until that is confirmed", `Project "web"`)
	s.stop() // the hold outlives the process
	s = w.serve()
	s.awaitMessage("a", "stay until that is confirmed")
	w.awaitValue(ns, "a", "1")
	s.push("Confirm that too", map[string]string{"belay/project.yaml": project(tokenOf(held.Hint))})
	w.awaitValue(ns, "a", "")
	if _, err := w.kube.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{}); err != nil {
		t.Errorf("the namespace: %v", err)
	}
}

// tokenOf is the first quoted word of a hint.
func tokenOf(hint string) string {
	_, rest, _ := strings.Cut(hint, `"`)
	token, _, _ := strings.Cut(rest, `"`)
	return token
}
