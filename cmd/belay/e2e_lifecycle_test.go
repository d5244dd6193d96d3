package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// An application that is renamed hands its objects over; one that is moved to
// another file stays what it is; an object that moves to another application is
// taken over. Nothing of it is deleted or made anew.
func TestRenamesAndMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Two applications", map[string]string{
		"belay/a.yaml": application("first", "apps/first", "NS-shared"), "apps/first/objects.yaml": documents(configMap("a", "1"), configMap("b", "1"), configMap("c", "1")),
		"belay/z.yaml": application("zebra", "apps/zebra", "NS-shared"), "apps/zebra/objects.yaml": documents(configMap("z", "1")),
	})
	s := w.serve()
	s.awaitSynced("first", "zebra")
	ns := w.ns("shared")
	uids := func() string {
		return fmt.Sprint(w.uid(ns, "a"), w.uid(ns, "b"), w.uid(ns, "c"), w.uid(ns, "z"))
	}
	before := uids()
	mark := w.cp.Mark(t)
	same := func(what string) {
		t.Helper()
		if now := uids(); now != before {
			t.Errorf("%s: objects were made anew", what)
		}
		for _, r := range w.writes(mark) {
			if r.Verb != "patch" || r.Code >= 300 {
				t.Errorf("%s: %s", what, r)
			}
		}
		for _, e := range s.events() {
			if e.Type == belay.EventSyncFailed || e.Type == belay.EventError || e.Type == belay.EventPruned {
				t.Errorf("%s: event %s of %s: %s", what, e.Type, e.Application, e.Message)
			}
		}
	}

	s.push("Rename the application", map[string]string{"belay/a.yaml": application("second", "apps/first", "NS-shared")})
	s.awaitSynced("second", "zebra")
	same("renamed")
	s.push("Move its definition and its files", map[string]string{"belay/a.yaml": "", "belay/sub/b.yaml": application("second", "apps/second", "NS-shared"),
		"apps/first/objects.yaml": "", "apps/second/objects.yaml": documents(configMap("a", "1"), configMap("b", "1"), configMap("c", "1"))})
	s.awaitSynced("second", "zebra")
	same("moved")
	for i, to := range []string{"zebra", "second", "zebra"} {
		files := map[string]string{"apps/second/objects.yaml": documents(configMap("b", "1"), configMap("c", "1")), "apps/zebra/objects.yaml": documents(configMap("z", "1"), configMap("a", "1"))}
		if to == "second" {
			files = map[string]string{"apps/second/objects.yaml": documents(configMap("a", "1"), configMap("b", "1"), configMap("c", "1")), "apps/zebra/objects.yaml": configMap("z", "1")}
		}
		s.push(fmt.Sprintf("Move an object to %s, %d", to, i), files)
		s.awaitSynced("second", "zebra")
		same("object moved to " + to)
	}
	// While nobody watched.
	s.stop()
	w.commit("Rename it again", map[string]string{"belay/sub/b.yaml": application("third", "apps/second", "NS-shared")})
	s = w.serve()
	s.awaitSynced("third", "zebra")
	same("renamed while no server ran")
}

// An application that leaves Git takes its own objects with it and no others,
// also when the server did not run, and only if Git once declared it.
func TestRemoval(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Three applications", map[string]string{
		"belay/a.yaml": application("a", "apps/a", "NS-shared"), "apps/a/objects.yaml": documents(configMap("a1", "1"), configMap("a2", "1"),
			configMap("kept", "1", annotated(belay.AnnotationPrune, "disabled"))),
		"belay/b.yaml": application("b", "apps/b", "NS-shared"), "apps/b/objects.yaml": configMap("b1", "1"),
		"belay/c.yaml": application("c", "apps/c", "NS-shared"), "apps/c/objects.yaml": configMap("c1", "1"),
		"belay/d.yaml": application("d", "apps/d", "NS-shared", "  sync: {prune: false}\n"), "apps/d/objects.yaml": configMap("d1", "1"),
	})
	s := w.serve()
	s.awaitSynced("a", "b", "c", "d")
	ns := w.ns("shared")
	foreign := w.make(ns, "foreign", "x", map[string]string{belay.LabelManaged: "true", belay.LabelInstance: w.instance}, nil)

	s.push("Remove a", map[string]string{"belay/a.yaml": ""})
	s.awaitSynced("b", "c", "d")
	w.awaitValue(ns, "a1", "")
	w.awaitValue(ns, "a2", "")
	s.awaitEvent(belay.EventPruned, "a |", "ConfigMap "+ns+"/a1")
	for _, name := range []string{"kept", "b1", "c1", "d1"} {
		w.awaitValue(ns, name, "1")
	}
	// A definition that is not YAML may declare anything.
	s.push("Remove b and break something", map[string]string{"belay/b.yaml": "", "belay/broken.yaml": "kind: {\n"})
	s.awaitProblem("belay/broken.yaml")
	s.push("Change c", map[string]string{"apps/c/objects.yaml": configMap("c1", "2")})
	w.awaitValue(ns, "c1", "2")
	w.awaitValue(ns, "b1", "1")
	s.stop()
	s = w.serve()
	s.awaitApps("c", "b")
	s.awaitProblem("belay/b.yaml", "is gone, but stays")
	w.awaitValue(ns, "b1", "1")
	s.push("Mend it", map[string]string{"belay/broken.yaml": ""})
	s.awaitSynced("c", "d")
	w.awaitValue(ns, "b1", "")

	s.stop()
	w.commit("Remove c and d", map[string]string{"belay/c.yaml": "", "belay/d.yaml": "", "belay/e.yaml": application("e", "apps/e", "NS-shared"), "apps/e/objects.yaml": configMap("e1", "1")})
	s = w.serve()
	s.awaitSynced("e")
	w.awaitValue(ns, "c1", "")
	w.awaitValue(ns, "d1", "1") // prune was off
	s.kill()

	// Pointed at another repository, it leaves alone what it does not know.
	other := *w
	other.repo, other.data = gittest.NewRepo(t), t.TempDir()
	other.url = other.repo.URL()
	other.commit("Another fleet", map[string]string{"belay/x.yaml": application("x", "apps/x", "NS-x"), "apps/x/objects.yaml": configMap("x", "1")})
	mark := w.cp.Mark(t)
	s = other.serve()
	s.awaitApps("x")
	s.awaitMessage("e", "never declared", "--path")
	for _, r := range w.writes(mark) {
		if r.Namespace != w.ns("x") && r.Resource != "namespaces" {
			t.Errorf("pointed at another repository: %s", r)
		}
	}
	for _, name := range []string{"e1", "kept", "d1"} {
		w.awaitValue(ns, name, "1")
	}
	cm, err := w.kube.CoreV1().ConfigMaps(ns).Get(t.Context(), "foreign", metav1.GetOptions{})
	if err != nil || cm.ResourceVersion != foreign.ResourceVersion {
		t.Errorf("the foreign object: %v", err)
	}
}

// token finds the confirmation that a hint asks for.
func token(t testing.TB, hint string) string {
	t.Helper()
	m := regexp.MustCompile(`"([a-z0-9]{4,})"`).FindStringSubmatch(hint)
	if m == nil {
		t.Fatalf("no token in %q", hint)
	}
	return m[1]
}

// A namespace that one application lets go stays while another has something in it,
// also when the first leaves Git altogether.
func TestNamespacesStayForOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	namespace := "apiVersion: v1\nkind: Namespace\nmetadata: {name: NS-shared}\n"
	w.commit("A namespace", map[string]string{
		"belay/README.md":  "Applications\n",
		"belay/owner.yaml": application("owner", "apps/owner", "NS-owner"), "apps/owner/o.yaml": documents(configMap("o", "1"), namespace),
	})
	s := w.serve()
	s.awaitSynced("owner")
	s.push("A tenant", map[string]string{"belay/tenant.yaml": application("tenant", "apps/tenant", "NS-shared"), "apps/tenant/t.yaml": configMap("t", "1")})
	s.awaitSynced("owner", "tenant")
	ns := w.ns("shared")
	before, mark := w.uid(ns, "t"), w.cp.Mark(t)
	const why = "would go with it, which application \"tenant\" declares"
	s.push("Let the namespace go", map[string]string{"apps/owner/o.yaml": configMap("o", "2")})
	s.awaitMessage("owner", "stays, because ConfigMap "+ns+"/t "+why)
	w.awaitValue(w.ns("owner"), "o", "2")
	if a, _ := s.app("owner"); a.Sync != belay.OutOfSync {
		t.Errorf("with a namespace held it is %s", a.Sync)
	}
	s.push("Remove its application", map[string]string{"belay/owner.yaml": ""})
	w.awaitValue(w.ns("owner"), "o", "")
	s.awaitMessage("owner", "removed from Git", why)
	if w.uid(ns, "t") != before {
		t.Error("the tenant's object was made anew")
	}
	for _, r := range w.writes(mark) {
		if r.Verb == "delete" && strings.Contains(r.URI, "/namespaces/"+ns) {
			t.Errorf("while the tenant was there: %s", r)
		}
	}
	s.push("The tenant leaves", map[string]string{"belay/tenant.yaml": ""})
	devtest.Await(t, "the namespace to be deleted", func() error {
		_, err := w.kube.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		return errors.New("it is there")
	})
	s.awaitApps()
}

// A sync that would delete much waits for a confirmation in Git.
func TestPruneLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	many := func(n int) string {
		var docs []string
		for i := range n {
			docs = append(docs, configMap(fmt.Sprintf("m%02d", i), "1"))
		}
		return documents(docs...)
	}
	count := func(ns string) int {
		list, err := w.kube.CoreV1().ConfigMaps(w.ns(ns)).List(t.Context(), metav1.ListOptions{LabelSelector: belay.LabelManaged})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}
	w.commit("Some applications", map[string]string{
		"belay/many.yaml": application("many", "apps/many", "NS-many"), "apps/many/objects.yaml": many(12),
		"belay/few.yaml": application("few", "apps/few", "NS-few"), "apps/few/objects.yaml": many(2), "apps/few/README.md": "Manifests.\n",
		"belay/moved.yaml": application("moved", "apps/moved", "NS-here"), "apps/moved/objects.yaml": many(2),
	})
	s := w.serve()
	s.awaitSynced("many", "few", "moved")

	s.push("Remove most of many, and all of few", map[string]string{"apps/many/objects.yaml": many(4), "apps/few/objects.yaml": ""})
	a := s.awaitMessage("many", "would delete 8 of its 12 objects", "confirm")
	b := s.awaitMessage("few", "would delete all", "confirm")
	if a.Sync != belay.OutOfSync || b.Sync != belay.OutOfSync || count("many") != 12 || count("few") != 2 {
		t.Errorf("many is %s with %d objects, few %s with %d", a.Sync, count("many"), b.Sync, count("few"))
	}
	s.awaitEvent(belay.EventHeld, "many")
	confirm := func(a belay.ApplicationStatus) string {
		return application(a.Name, "apps/"+a.Name, strings.Replace(a.Namespace, w.home+"-", "NS-", 1), fmt.Sprintf("  sync: {confirm: %s}\n", token(t, a.Hint)))
	}
	s.stop()
	s = w.serve()
	s.awaitMessage("many", "would delete 8 of its 12 objects")
	s.push("Confirm", map[string]string{"belay/many.yaml": confirm(a), "belay/few.yaml": confirm(b)})
	s.awaitSynced("many", "few", "moved")
	if count("many") != 4 || count("few") != 0 {
		t.Errorf("after the confirmation many has %d objects, few %d", count("many"), count("few"))
	}
	// The same token confirms nothing else.
	s.push("Remove the rest", map[string]string{"apps/many/objects.yaml": "", "apps/many/README.md": "None.\n"})
	s.awaitMessage("many", "would delete all of its 4 objects")

	s.push("Deliver elsewhere", map[string]string{"belay/moved.yaml": application("moved", "apps/moved", "NS-there")})
	a = s.awaitMessage("moved", "would delete all of its 2 objects")
	s.push("Confirm", map[string]string{"belay/moved.yaml": confirm(a)})
	s.awaitApps("moved")
	if count("here") != 0 || count("there") != 2 {
		t.Errorf("after a change of namespace there are %d objects here, %d there", count("here"), count("there"))
	}
}

// Most of a fleet does not leave Git by accident.
func TestMostApplicationsLeave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files, names := map[string]string{}, []string{}
	for i := range 12 {
		name := fmt.Sprintf("app-%02d", i)
		names = append(names, name)
		files["belay/"+name+".yaml"], files["apps/"+name+"/a.yaml"] = application(name, "apps/"+name, "NS-shared"), configMap(name, "1")
	}
	w.commit("Twelve applications", files)
	s := w.serve()
	s.awaitSynced(names...)
	gone := map[string]string{}
	for _, name := range names[2:] {
		gone["belay/"+name+".yaml"] = ""
	}
	s.push("Ten leave", gone)
	a := s.awaitMessage(names[5], "10 of 12 applications", "confirm")
	s.stop()
	s = w.serve()
	s.awaitApps(names[:2]...)
	s.awaitMessage(names[5], "10 of 12 applications", token(t, a.Hint))
	if n := len(w.owned()); n != 12 {
		t.Errorf("there are %d objects, want all 12", n)
	}
	// The directory of the definitions disappears: nothing is left Git, something is wrong.
	all := map[string]string{"belay": ""}
	s.push("The definitions are gone", all)
	s.awaitProblem("belay", "does not exist", "--path")
	s.stop()
	s = w.serve()
	s.awaitProblem("belay", "does not exist", "--path")
	if n := len(w.owned()); n != 12 {
		t.Errorf("there are %d objects, want all 12", n)
	}
	back := map[string]string{"belay/project.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: any}\nspec: {confirm: [" + token(t, a.Hint) + "]}\n"}
	for _, name := range names[:2] {
		back["belay/"+name+".yaml"] = files["belay/"+name+".yaml"]
	}
	s.push("Two are back, and ten are to go", back)
	s.awaitSynced(names[:2]...)
	if left := w.owned(); len(left) != 2 {
		t.Errorf("left are %v", left)
	}
}

// Something foreign in the way is a conflict and is never taken over; two
// applications that declare one object are told of each other.
func TestConflicts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ns := w.makeNamespace("shared")
	w.make(ns, "taken", "theirs", nil, nil)
	w.make(ns, "claimed", "theirs", map[string]string{belay.LabelManaged: "true", belay.LabelInstance: w.instance}, map[string]string{
		belay.AnnotationID: belay.FormatID("a", belay.ObjectID{Kind: "ConfigMap", Namespace: ns, Name: "claimed"})})
	w.commit("Conflicts", map[string]string{
		"belay/a.yaml": application("a", "apps/a", "NS-shared"), "apps/a/objects.yaml": documents(configMap("taken", "ours"), configMap("claimed", "ours"), configMap("free", "1")),
		"belay/b.yaml": application("b", "apps/b", "NS-shared"), "apps/b/objects.yaml": documents(configMap("twice", "b"), configMap("b", "1")),
		"belay/c.yaml": application("c", "apps/c", "NS-shared"), "apps/c/objects.yaml": configMap("c", "1"),
	})
	s := w.serve()
	s.awaitApps("b", "c")
	s.push("c declares what b has", map[string]string{"apps/c/objects.yaml": documents(configMap("c", "2"), configMap("twice", "c"))})
	s.awaitMessage("a", "apps/a/objects.yaml:", "was not applied by Belay", "kubectl-create")
	w.awaitValue(ns, "free", "1")
	for _, name := range []string{"taken", "claimed"} {
		w.awaitValue(ns, name, "theirs")
	}
	devtest.Await(t, "a Kubernetes event", func() error {
		list, err := w.kube.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=NotApplied,involvedObject.name=taken"})
		if err != nil {
			return err
		}
		if len(list.Items) != 1 || list.Items[0].Type != "Warning" {
			return fmt.Errorf("they are %+v", list.Items)
		}
		return nil
	})
	s.awaitMessage("c", "apps/c/objects.yaml:8", `application "b"`, "apps/b/objects.yaml:1")
	s.awaitApps("b")
	w.awaitValue(ns, "twice", "b")
	w.awaitValue(ns, "c", "2")
	s.stop()
	s = w.serve()
	s.awaitMessage("c", "apps/c/objects.yaml:8", `application "b"`, "apps/b/objects.yaml:1")
	s.awaitApps("b")

	// Whoever has it keeps it, until it lets go.
	uid := w.uid(ns, "twice")
	s.push("b lets go", map[string]string{"apps/b/objects.yaml": configMap("b", "1")})
	s.awaitApps("b", "c")
	w.awaitValue(ns, "twice", "c")
	if w.uid(ns, "twice") != uid {
		t.Error("the object was made anew")
	}
	// The others get out of the way.
	for _, name := range []string{"taken", "claimed"} {
		if err := w.kube.CoreV1().ConfigMaps(ns).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, stderr, code := s.cli("sync", "a", "--wait", "--timeout", "3m"); code != 0 {
		t.Errorf("sync: %s", stderr)
	}
	s.awaitSynced("a", "b", "c")
	w.awaitValue(ns, "taken", "ours")
}

// What a Project does not allow is not done, and says so.
func TestProjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	project := func(body string) string {
		return "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: team}\nspec:\n" + body
	}
	app := func(name, path, ns string) string { return application(name, path, ns, "  project: team\n") }
	limits := "  sources: [{repo: \"**\", paths: [apps/**]}]\n  destinations: [{namespaces: [NS-ok*]}]\n  deniedKinds: [Secret]\n"
	w.commit("A project", map[string]string{
		"belay/project.yaml": project(limits),
		"belay/ok.yaml":      app("ok", "apps/ok", "NS-ok"), "apps/ok/objects.yaml": configMap("a", "1"),
		"belay/path.yaml": app("path", "other/path", "NS-ok"), "other/path/objects.yaml": configMap("path", "1"),
		"belay/ns.yaml": app("ns", "apps/ns", "NS-no"), "apps/ns/objects.yaml": configMap("ns", "1"),
		"belay/kind.yaml": app("kind", "apps/kind", "NS-ok"), "apps/kind/objects.yaml": documents(configMap("kind", "1"), "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"),
		"belay/scope.yaml": app("scope", "apps/scope", "NS-ok"), "apps/scope/objects.yaml": documents(configMap("scope", "1"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: NS-ok-too}\n"),
		"belay/nowhere.yaml": application("nowhere", "apps/ok", "NS-x", "  project: nobody\n"),
	})
	s := w.serve()
	s.awaitApps("ok")
	s.awaitMessage("path", `project "team" does not allow the source`, "other/path")
	s.awaitMessage("ns", `project "team" does not allow the namespace`, w.ns("no"))
	s.awaitMessage("kind", "apps/kind/objects.yaml:8", "does not allow the kind Secret")
	s.awaitMessage("scope", "apps/scope/objects.yaml:8", "does not allow the kind Namespace")
	s.awaitMessage("nowhere", "nobody")
	if _, err := w.kube.CoreV1().Namespaces().Get(t.Context(), w.ns("no"), metav1.GetOptions{}); err == nil {
		t.Error("the namespace that is not allowed was made")
	}
	// Less is allowed than was: that is told, and what is there stays as it is.
	s.push("Allow less", map[string]string{"belay/project.yaml": project(strings.Replace(limits, "NS-ok*", "NS-ok-*", 1))})
	s.awaitMessage("ok", "apps/ok/objects.yaml:1", "does not allow the namespace")
	s.push("Allow it again", map[string]string{"belay/project.yaml": project(limits)})
	s.awaitApps("ok")
	// So it is when the same commit changes manifests, whichever is read first.
	mark := w.cp.Mark(t)
	s.push("Allow less, change much", map[string]string{"belay/project.yaml": project(strings.Replace(limits, "NS-ok*", "NS-ok-*", 1)), "apps/ok/objects.yaml": configMap("a", "2")})
	s.awaitMessage("ok", "does not allow the namespace")
	w.awaitValue(w.ns("ok"), "a", "1")
	if r := w.writes(mark); len(r) > 0 {
		t.Errorf("written%s", listing(r))
	}
	s.push("Allow more", map[string]string{"belay/project.yaml": project("  sources: [{repo: \"**\"}]\n  destinations: [{}]\n  clusterKinds: [Namespace]\n"), "belay/nowhere.yaml": ""})
	s.awaitSynced("ok", "path", "ns", "kind", "scope")
}

// A branch that was rewritten is followed, and that is told.
func TestRewrittenBranch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files := map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1")}
	first := w.commit("One", files)
	w.commit("Two", map[string]string{"apps/a/a.yaml": configMap("a", "2")})
	s := w.serve()
	s.awaitSynced("a")
	w.awaitValue(w.ns("a"), "a", "2")
	w.repo.Branch("main", first)
	s.hook()
	s.awaitSynced("a")
	w.awaitValue(w.ns("a"), "a", "1")
	s.awaitEvent(belay.EventRewritten, "main")
	for p, c := range files {
		files[p] = w.expand(c)
	}
	files["apps/a/a.yaml"] = configMap("a", "3")
	w.repo.Rewrite("main", "Without a history", files)
	s.hook()
	s.awaitSynced("a")
	w.awaitValue(w.ns("a"), "a", "3")
	if n := len(slices.DeleteFunc(s.events(), func(e belay.Event) bool { return e.Type != belay.EventRewritten })); n != 2 {
		t.Errorf("%d events of a rewritten branch, want 2", n)
	}
}
