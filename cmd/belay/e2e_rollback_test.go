package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// kustomized are the files of an application made of a shared base: a ConfigMap
// "shared" of the base and one "own" of the application.
func kustomized(app, base, own string) map[string]string {
	return map[string]string{
		"belay/" + app + ".yaml":              application(app, "apps/"+app, "NS-"+app, "  sync: {pruneLimit: {percent: 100}}\n"),
		"apps/" + app + "/kustomization.yaml": "resources: [../../" + base + ", own.yaml]\n",
		"apps/" + app + "/own.yaml":           configMap("own", own),
		"apps/" + app + "/README.md":          "not read: " + own + "\n",
		base + "/kustomization.yaml":          "resources: [shared.yaml]\n",
	}
}

// rollback runs the command, which has to succeed.
func (s *serveProcess) rollback(args ...string) string {
	s.w.t.Helper()
	out, errOut, code := s.cli(append([]string{"rollback"}, args...)...)
	if code != 0 {
		s.w.t.Fatalf("belay rollback %v ended with %d:\n%s%s", args, code, out, errOut)
	}
	return out
}

// A rollback is a commit: what the application was made of comes back, whoever
// shares it is told before, nothing else changes, and automatic sync stays on.
func TestRollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v1 := w.commit("One", merge(kustomized("web", "base", "web-1"), kustomized("api", "base", "api-1"), map[string]string{"base/shared.yaml": configMap("shared", "1")}))
	s := w.serve()
	s.awaitSynced("web", "api")
	moved := strings.Replace(kustomized("web", "base", "")["belay/web.yaml"], "path: apps/web", "path: apps/web-new", 1)
	s.push("Two", map[string]string{
		"base/shared.yaml": configMap("shared", "2"), "belay/web.yaml": "# the shop\n" + moved + "  variables: {values: {A: b}}\n", "apps/web/own.yaml": "", "apps/web/kustomization.yaml": "",
		"apps/web-new/kustomization.yaml": "resources: [../../base, own.yaml]\n", "apps/web-new/own.yaml": configMap("own", "web-2"), "apps/web-new/notes.txt": "n",
	})
	s.awaitSynced("web", "api")
	w.awaitValue(w.ns("web"), "own", "web-2")

	// What can be gone back to is listed.
	devtest.Await(t, "both deployments to be listed", func() error { // an end may be on the record later than it shows
		if out := s.rollback("web"); !strings.Contains(out, v1[:10]) || !strings.Contains(out, "(now) succeeded: Two") || !strings.Contains(out, "Ada Tester") {
			return fmt.Errorf("the list is\n%s", out)
		}
		return nil
	})
	// A dry run shows it all and does nothing.
	head := w.repo.Resolve("main")
	out := s.rollback("web", "--to", v1[:9], "--dry-run")
	for _, want := range []string{"web goes back to " + v1[:10], "changed  belay/web.yaml", "changed  base/shared.yaml", "added    apps/web/own.yaml",
		"api: ConfigMap ", "own", "-  value: web-2"} {
		if !strings.Contains(out, want) {
			t.Errorf("the dry run lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "apps/web-new") {
		t.Errorf("a file that the application will not read is touched:\n%s", out)
	}
	if w.repo.Resolve("main") != head {
		t.Fatal("a dry run pushed")
	}
	// What was never merged is nothing to go back to.
	stray := w.repo.Commit("feature", "Never merged", map[string]string{"x": "y"})
	if _, errOut, code := s.cli("rollback", "web", "--to", stray, "--now", "--hold-only", "--yes", "--reason", "x"); code != exitError || !strings.Contains(errOut, "is not in the history") {
		t.Errorf("what was never merged ended with %d: %s", code, errOut)
	}
	// Nobody is asked in a script, so nothing is done.
	if _, errOut, code := s.cli("rollback", "web", "--to", v1); code != exitUsage || !strings.Contains(errOut, "--yes") {
		t.Errorf("without --yes it ended with %d: %s", code, errOut)
	}
	// Who shares the files has to be agreed to.
	_, err := s.Rollback(t.Context(), "web", belay.RollbackRequest{To: v1})
	if belay.CodeOf(err) != belay.CodeHeld || !strings.Contains(err.Error(), "api") || w.repo.Resolve("main") != head {
		t.Errorf("the other application was not asked about: %v", err)
	}
	// The commit can be had as a patch.
	patch := filepath.Join(t.TempDir(), "back.patch")
	s.rollback("web", "--to", v1, "--patch", patch)
	if b, err := os.ReadFile(patch); err != nil || !strings.Contains(string(b), "Rolls-Back-To: "+v1) {
		t.Errorf("patch: %v\n%s", err, b)
	}

	out = s.rollback("web", "--to", v1, "--yes", "--reason", "breaks the\ncheckout")
	if !strings.Contains(out, "was pushed to main") {
		t.Errorf("it says\n%s", out)
	}
	s.awaitSynced("web", "api")
	w.awaitValue(w.ns("web"), "own", "web-1")
	w.awaitValue(w.ns("web"), "shared", "1")
	w.awaitValue(w.ns("api"), "shared", "1")
	w.awaitValue(w.ns("api"), "own", "api-1")
	if got, want := w.repo.Git("show", "main:belay/web.yaml"), strings.TrimSpace(w.expand("# the shop\n"+kustomized("web", "base", "")["belay/web.yaml"])); got != want {
		t.Errorf("the definition is\n%s\nwant\n%s", got, want)
	}
	message := w.repo.Git("log", "-1", "--format=%B", "main")
	for _, want := range []string{"Roll back web to " + v1[:10], "Why: breaks the checkout", "Belay-Rollback: web", "Rolls-Back-To: " + v1} {
		if !strings.Contains(message, want) {
			t.Errorf("the message lacks %q:\n%s", want, message)
		}
	}
	s.awaitEvent(belay.EventRollback, "web", "puts back what it was made of at "+v1[:10])
	if w.repo.Git("show", "main:apps/web/README.md") != "not read: web-1" {
		t.Error("a file that nobody reads was touched")
	}

	// Again there is nothing to do, and forward is a rollback like any other.
	if out := s.rollback("web", "--to", v1, "--yes"); !strings.Contains(out, "there is nothing to commit") {
		t.Errorf("the second time it says\n%s", out)
	}
	// A deployment on record is named by its ID.
	targets, err := s.RollbackTargets(t.Context(), "web")
	i := slices.IndexFunc(targets, func(r belay.RollbackTarget) bool { return r.Revision == head })
	if err != nil || i < 0 || targets[i].Deployment == "" {
		t.Fatalf("the deployment of %s is not listed: %+v, %v", head, targets, err)
	}
	s.rollback("web", "--to", targets[i].Deployment, "--yes")
	w.awaitValue(w.ns("web"), "own", "web-2")
	if message := w.repo.Git("log", "-1", "--format=%B", "main"); !strings.Contains(message, "Deployment: "+targets[i].Deployment) {
		t.Errorf("the message is\n%s", message)
	}

	// All that a commit changed goes back together, in one commit.
	before := w.repo.Git("rev-list", "--count", "main")
	bad := w.commit("Bad", map[string]string{"base/shared.yaml": configMap("shared", "bad"), "apps/api/own.yaml": configMap("own", "api-bad")})
	s.hook()
	w.awaitValue(w.ns("api"), "own", "api-bad")
	// HEAD is where the application stands in Git, and what came after is named.
	if out := s.rollback("--change", "HEAD", "--dry-run"); !strings.Contains(out, "changed  base/shared.yaml") || strings.Contains(out, "taken back as well") {
		t.Errorf("to take back the newest commit it says\n%s", out)
	}
	worse := w.commit("Worse", map[string]string{"apps/api/own.yaml": configMap("own", "api-worse")})
	s.hook()
	w.awaitValue(w.ns("api"), "own", "api-worse")
	s.awaitSynced("web", "api")
	if out := s.rollback("api", "--to", "HEAD~1", "--dry-run"); !strings.Contains(out, "api goes back to "+bad[:10]) {
		t.Errorf("one back from the newest is\n%s", out)
	}
	devtest.Await(t, "the later commit to be named", func() error { // an end may be on the record later than it shows
		if out := s.rollback("--change", bad[:10], "--dry-run"); !strings.Contains(out, "note: api: commits that came with it or after it are taken back as well: "+worse[:10]+" Worse\n") {
			return fmt.Errorf("to take back the one before it says\n%s", out)
		}
		return nil
	})
	for _, to := range []string{"HEAD^2", "main@{1}", "main/99999", "nosuch"} {
		if _, errOut, code := s.cli("rollback", "api", "--to", to, "--dry-run"); code != exitError || !strings.Contains(errOut, "has no deployment \""+to) || !strings.Contains(errOut, "HEAD~1") {
			t.Errorf("back to %s ended with %d: %s", to, code, errOut)
		}
	}
	// Together they are held, all or none; each is told.
	out = s.rollback("--change", bad[:10], "--now", "--hold-only", "--reason", "both are down", "--dry-run")
	if !strings.Contains(out, "api and web are held there at once") {
		t.Errorf("to hold both it says\n%s", out)
	}
	s.rollback("--change", bad[:10], "--yes")
	w.awaitValue(w.ns("api"), "own", "api-1")
	w.awaitValue(w.ns("web"), "shared", "2")
	w.awaitValue(w.ns("web"), "own", "web-2")
	if after := w.repo.Git("rev-list", "--count", "main"); after == before {
		t.Error("there is no commit")
	}
	s.awaitSynced("web", "api")

	// What left Git has nothing to be compared with; what to do instead is said.
	gone := w.commit("Remove it", map[string]string{"belay/api.yaml": ""})
	s.hook()
	s.awaitGone("api")
	for _, args := range [][]string{{"api", "--to", v1, "--yes"}, {"--change", gone, "--yes"}} {
		if _, stderr, code := s.cli(append([]string{"rollback"}, args...)...); code != 1 || !strings.Contains(stderr, "git revert COMMIT") {
			t.Errorf("rollback %v: exit code %d: %s", args, code, stderr)
		}
	}
}

// A Project may want pull requests; a repository elsewhere gets a commit of its own;
// what a moving tag hid is written out.
func TestRollbackElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code := gittest.NewRepo(t)
	put := func(v string) string {
		c := code.Commit("main", "Code "+v, map[string]string{"deploy/all.yaml": w.expand(configMap("code", v)), "other": v})
		code.Tag("stable", c)
		return c
	}
	c1 := put("1")
	source := func(repo, ref string) string {
		return fmt.Sprintf("apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: app}\nspec:\n  source: {repo: %q, ref: %s, path: deploy}\n  destination: {namespace: NS-app}\n", repo, ref)
	}
	w.commit("One", map[string]string{"belay/app.yaml": source(code.URL(), "main")})
	s := w.serve()
	w.awaitValue(w.ns("app"), "code", "1")
	put("2")
	s.hook()
	if _, err := s.Push(t.Context(), code.URL()); err != nil {
		t.Fatal(err)
	}
	w.awaitValue(w.ns("app"), "code", "2")
	config := w.repo.Resolve("main")
	s.rollback("app", "--to", c1, "--yes")
	w.awaitValue(w.ns("app"), "code", "1")
	if w.repo.Resolve("main") != config || code.Git("show", "main:other") != "2" {
		t.Error("more was committed than the files that were read")
	}

	// A tag cannot be committed to: the definition names the commit.
	tag := code.Resolve("stable")
	s.push("Follow a tag", map[string]string{"belay/app.yaml": source(code.URL(), "stable")})
	w.awaitValue(w.ns("app"), "code", "2")
	put("3")
	if _, err := s.Push(t.Context(), code.URL()); err != nil {
		t.Fatal(err)
	}
	w.awaitValue(w.ns("app"), "code", "3")
	out := s.rollback("app", "--to", tag, "--yes")
	w.awaitValue(w.ns("app"), "code", "2")
	if got := w.repo.Git("show", "main:belay/app.yaml"); !strings.Contains(got, `ref: "`+tag+`"`) {
		t.Errorf("the definition is\n%s\nafter\n%s", got, out)
	}

	// With pull requests the branch that is followed stays as it is.
	s.push("Want pull requests", map[string]string{
		"belay/project.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: default}\nspec:\n  sources: [{repo: \"**\"}]\n  destinations: [{}]\n  clusterKinds: [\"*\"]\n  rollback: {push: pullRequest}\n",
		"belay/app.yaml":     source(code.URL(), "main")})
	w.awaitValue(w.ns("app"), "code", "3")
	head := code.Resolve("main")
	out = s.rollback("app", "--to", c1, "--yes")
	branch := "belay/rollback-app-" + c1[:10]
	if !strings.Contains(out, "merge it: git merge "+branch) || code.Resolve("main") != head {
		t.Errorf("it says\n%s", out)
	}
	if got := code.Git("show", branch+":deploy/all.yaml"); !strings.Contains(got, `value: "1"`) {
		t.Errorf("on the branch stands\n%s", got)
	}
	w.awaitValue(w.ns("app"), "code", "3")
	if out := s.rollback("app", "--to", c1, "--yes", "--reason", "another"); !strings.Contains(out, branch+"-2") {
		t.Errorf("a second branch is not made:\n%s", out)
	}
}

// A hold takes effect at once and in spite of windows; newer commits do not touch
// what is held, drift is healed towards it, others go on, and it ends when Git
// says the same, when somebody releases it, or in time.
func TestHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := func(name, v string) map[string]string {
		return map[string]string{"belay/" + name + ".yaml": application(name, "apps/"+name, "NS-"+name, "  sync: {pruneLimit: {percent: 100}}\n"), "apps/" + name + "/a.yaml": configMap("a", v), "apps/" + name + "/c.yaml": configMap("c", v)}
	}
	v1 := w.commit("One", merge(app("web", "1"), app("api", "1")))
	s := w.serve()
	s.awaitSynced("web", "api")
	closed := "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: default}\nspec:\n  sources: [{repo: \"**\"}]\n  destinations: [{}]\n  clusterKinds: [\"*\"]\n" +
		"  windows: [{kind: deny, schedule: \"* * * * *\", duration: 24h, applications: [web], reason: frozen}]\n"
	s.push("Two", merge(app("web", "2"), map[string]string{"apps/web/b.yaml": configMap("b", "2"), "apps/web/c.yaml": ""}))
	s.awaitSynced("web", "api")
	s.push("Freeze", map[string]string{"belay/project.yaml": closed})
	s.awaitApps("api")

	if _, errOut, code := s.cli("rollback", "web", "--to", v1, "--now", "--yes"); code != exitUsage || !strings.Contains(errOut, "--reason") {
		t.Errorf("a hold without a reason ended with %d: %s", code, errOut)
	}
	s.rollback("web", "--to", v1, "--now", "--hold-only", "--yes", "--reason", "checkout is down", "--for", "4h")
	w.awaitValue(w.ns("web"), "a", "1")
	w.awaitValue(w.ns("web"), "b", "")
	w.awaitValue(w.ns("web"), "c", "1")
	held := s.awaitMessage("web", "held at "+v1[:10], "checkout is down", "belay release web")
	if held.Held == nil || held.Held.Revision != v1 || held.Sync != belay.OutOfSync {
		t.Errorf("the state is %+v", held)
	}
	s.awaitEvent(belay.EventHold, "web", "held at "+v1[:10])
	if out, _, _ := s.cli("get", "app", "web"); !strings.Contains(out, "Held at:    "+v1) {
		t.Errorf("belay get app says\n%s", out)
	}
	if _, errOut, code := s.cli("sync", "web"); code == 0 || !strings.Contains(errOut, "held at") {
		t.Errorf("a sync of what is held ended with %d: %s", code, errOut)
	}

	s.push("Three, and thaw", merge(app("web", "3"), app("api", "3"), map[string]string{"belay/project.yaml": ""}))
	s.awaitApps("api")
	w.awaitValue(w.ns("api"), "a", "3")
	w.patch(w.ns("web"), "a", "kubectl-edit", `{"data":{"value":"by hand"}}`)
	w.awaitValue(w.ns("web"), "a", "1")
	s.awaitEvent(belay.EventHealed, "web | ConfigMap "+w.ns("web")+"/a") // it was answered, and is no write of later
	if got, _ := w.value(w.ns("web"), "b"); got != "" {
		t.Error("a newer commit touched what is held")
	}

	// Git catches up: the hold ends by itself, and nothing is written.
	mark := w.cp.Mark(t)
	s.rollback("web", "--to", v1, "--yes")
	s.awaitEvent(belay.EventRelease, "web", "Git says the same now")
	s.awaitApps("web", "api")
	for _, r := range w.writes(mark) {
		if r.Namespace == w.ns("web") {
			t.Errorf("written although nothing changed: %s", r)
		}
	}

	// Released, it is what Git says.
	s.push("Four", app("web", "4"))
	s.awaitApps("web")
	s.rollback("web", "--to", v1, "--now", "--hold-only", "--yes", "--reason", "again")
	w.awaitValue(w.ns("web"), "a", "1")
	if out, errOut, code := s.cli("release", "web", "--reason", "it was the network"); code != 0 || !strings.Contains(out, "released") {
		t.Errorf("release ended with %d: %s", code, errOut)
	}
	w.awaitValue(w.ns("web"), "a", "4")
	s.awaitApps("web")
	if _, errOut, code := s.cli("release", "web"); code != exitError || !strings.Contains(errOut, "is not held") {
		t.Errorf("a second release ended with %d: %s", code, errOut)
	}

	// It ends in time, too.
	s.rollback("web", "--to", v1, "--now", "--hold-only", "--yes", "--reason", "for a moment", "--for", "3s")
	s.awaitEvent(belay.EventRelease, "web", "its time is over")
	w.awaitValue(w.ns("web"), "a", "4")
	// One that is suspended is left alone, and of several then all are.
	five := w.commit("Five", merge(app("web", "5"), app("api", "5")))
	s.hook()
	w.awaitValue(w.ns("web"), "a", "5")
	w.awaitValue(w.ns("api"), "a", "5")
	s.push("Suspend", map[string]string{"belay/web.yaml": app("web", "")["belay/web.yaml"] + "  suspend: {reason: migration}\n"})
	s.awaitMessage("web", "suspended: migration")
	if _, errOut, code := s.cli("rollback", "web", "--to", v1, "--now", "--yes", "--reason", "x"); code == 0 || !strings.Contains(errOut, "suspended: migration") {
		t.Errorf("a hold of what is suspended ended with %d: %s", code, errOut)
	}
	if _, errOut, code := s.cli("rollback", "--change", five, "--now", "--hold-only", "--yes", "--reason", "x"); code == 0 || !strings.Contains(errOut, "suspended: migration") {
		t.Errorf("a hold of several of which one is suspended ended with %d: %s", code, errOut)
	}
	if out, errOut, code := s.cli("audit", "list", "--app", "api", "--type", "hold"); code != 0 || !strings.Contains(out, "Nothing on record") {
		t.Errorf("the other one was held, or %s:\n%s", errOut, out)
	}
}

// A deployment that makes the application Degraded is taken back by itself, told,
// committed, and not tried again; what was Degraded before is no reason; a
// rollback that does no better is not rolled back further.
func TestAutomaticRollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	crd := strings.Replace(w.crd("Database", "Namespaced"), "      schema:\n", "      subresources: {status: {}}\n      schema:\n", 1)
	crd += "            status: {type: object, x-kubernetes-preserve-unknown-fields: true}\n"
	shop := application("shop", "apps/shop", "NS-shop", "  sync: {rollback: {window: 3m, hold: 1h}}\n")
	w.commit("One", map[string]string{
		"belay/kinds.yaml": application("kinds", "apps/kinds", "NS-kinds"), "apps/kinds/crd.yaml": crd, "belay/rule.yaml": w.healthRule("Up"),
		"belay/shop.yaml": shop, "apps/shop/database.yaml": w.custom("Database", "main", "1"), "apps/shop/web.yaml": configMap("web", "1"),
	})
	s := w.serve()
	w.awaitDatabase("1")
	w.says(w.ns("shop"), `{"phase":"Up"}`)
	s.awaitApps("shop", "kinds")

	bad := w.commit("Two", map[string]string{"apps/shop/database.yaml": w.custom("Database", "main", "2"), "apps/shop/web.yaml": configMap("web", "2")})
	s.hook()
	w.awaitValue(w.ns("shop"), "web", "2")
	w.says(w.ns("shop"), `{"phase":"Broken"}`)
	w.awaitValue(w.ns("shop"), "web", "1")
	s.awaitEvent(belay.EventHold, "shop", "it turned Degraded")
	w.says(w.ns("shop"), `{"phase":"Up"}`)
	// The commit is made as well, and then Git says the same.
	s.awaitEvent(belay.EventRollback, "shop", "puts back what it was made of")
	s.awaitEvent(belay.EventRelease, "shop", "Git says the same now")
	s.awaitApps("shop")
	if message := w.repo.Git("log", "-1", "--format=%an%n%B", "main"); !strings.HasPrefix(message, "belay (automatic)") || !strings.Contains(message, "Belay-Rollback: shop") {
		t.Errorf("the commit is\n%s", message)
	}
	if w.repo.Git("rev-list", "--count", bad+"..main") != "1" {
		t.Error("there is not exactly one commit")
	}

	// A commit that mends it is deployed.
	s.push("Three", map[string]string{"apps/shop/database.yaml": w.custom("Database", "main", "3"), "apps/shop/web.yaml": configMap("web", "3")})
	w.awaitValue(w.ns("shop"), "web", "3")
	s.awaitApps("shop")

	// A server that is started within the window goes on watching, and knows from
	// the record what to go back to.
	s.push("Four", map[string]string{"apps/shop/web.yaml": configMap("web", "4")})
	w.awaitValue(w.ns("shop"), "web", "4")
	s.awaitApps("shop")
	s.kill()
	s = w.serve()
	s.awaitApps("shop", "kinds")
	w.says(w.ns("shop"), `{"phase":"Broken"}`)
	w.awaitValue(w.ns("shop"), "web", "3")
	s.awaitEvent(belay.EventHold, "shop", "it turned Degraded")
}

// awaitDatabase waits until the database of the shop has a size.
func (w *world) awaitDatabase(size string) {
	w.t.Helper()
	devtest.Await(w.t, "the database of size "+size, func() error {
		_, err := w.dynamic.Resource(w.databases()).Namespace(w.ns("shop")).Get(w.t.Context(), "main", metav1.GetOptions{})
		return err
	})
}

// A hold is on the record before it takes effect, and so is its end: a server that
// is killed right then, and again, goes on where it was.
func TestHoldOutlivesTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files := func(v string) map[string]string {
		return map[string]string{"belay/web.yaml": application("web", "apps/web", "NS-web"), "apps/web/a.yaml": configMap("a", v), "apps/web/b.yaml": configMap("b", "same")}
	}
	v1 := w.commit("One", files("1"))
	s := w.serve()
	s.awaitSynced("web")
	s.push("Two", files("2"))
	s.awaitSynced("web")
	s.crashAt("held", 1)
	if _, err := s.Rollback(t.Context(), "web", belay.RollbackRequest{To: v1, Now: true, HoldOnly: true, Reason: "down"}); err == nil {
		t.Fatal("the server lives")
	}
	<-s.exited
	if got, _ := w.value(w.ns("web"), "a"); got != "2" {
		t.Errorf("it was written before the server went on: %q", got)
	}
	s = w.serve()
	w.awaitValue(w.ns("web"), "a", "1")
	s.awaitMessage("web", "held at "+v1[:10])
	s.awaitEvent(belay.EventSynced, "web | ", "synced to "+v1[:10]) // the write was answered, and is none of later
	s.kill()
	w.commit("Three", files("3"))
	mark := w.cp.Mark(t)
	s = w.serve()
	s.hook()
	held := s.awaitMessage("web", "held at "+v1[:10], ": down")
	if held.Held == nil || held.Held.Reason != "down" {
		t.Errorf("the state is %+v", held)
	}
	w.patch(w.ns("web"), "b", "kubectl-edit", `{"data":{"value":"by hand"}}`)
	w.awaitValue(w.ns("web"), "b", "same")
	for _, r := range w.writes(mark) {
		if r.Resource == "configmaps" && r.Name == "a" {
			t.Errorf("what is held was written: %s", r)
		}
	}
	s.crashAt("released", 1)
	if err := s.Release(t.Context(), "web", belay.ReleaseRequest{}); err == nil {
		t.Fatal("the server lives")
	}
	<-s.exited
	s = w.serve()
	w.awaitValue(w.ns("web"), "a", "3")
	s.awaitSynced("web")
}

// With pull requests the hold lasts until somebody merges, and what went wrong is
// not tried again meanwhile. A newer commit that wants something else is deployed;
// one that does no better goes back as well. What a rollback went back to is not
// left for anything else.
func TestAutomaticRollbackOnABranch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	crd := strings.Replace(w.crd("Database", "Namespaced"), "      schema:\n", "      subresources: {status: {}}\n      schema:\n", 1)
	crd += "            status: {type: object, x-kubernetes-preserve-unknown-fields: true}\n"
	project := "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: default}\nspec:\n  sources: [{repo: \"**\"}]\n  destinations: [{}]\n  clusterKinds: [\"*\"]\n  rollback: {push: pullRequest, branchPrefix: back/}\n"
	first := w.commit("One", map[string]string{
		"belay/kinds.yaml": application("kinds", "apps/kinds", "NS-kinds"), "apps/kinds/crd.yaml": crd, "belay/rule.yaml": w.healthRule("Up"), "belay/project.yaml": project,
		"belay/shop.yaml":         application("shop", "apps/shop", "NS-shop", "  dependsOn: [{name: kinds}]\n  sync: {rollback: {window: 3m}, retry: {limit: 1, first: 100ms}}\n"),
		"apps/shop/database.yaml": w.custom("Database", "main", "1"), "apps/shop/web.yaml": configMap("web", "1"),
		"belay/other.yaml": application("other", "apps/other", "NS-other"), "apps/other/a.yaml": configMap("a", "1"),
	})
	s := w.serve()
	w.awaitDatabase("1")
	w.says(w.ns("shop"), `{"phase":"Broken"}`)
	// The first deployment has nothing to go back to.
	s.awaitEvent(belay.EventRollback, "shop", "no automatic rollback", "nothing is known that was well before")
	w.says(w.ns("shop"), `{"phase":"Up"}`)
	s.awaitApps("shop", "kinds", "other")

	// One that cannot be written goes back as well.
	mark := w.cp.Mark(t)
	s.push("Two", map[string]string{"apps/shop/web.yaml": configMap("web", "2"), "apps/shop/wrong.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: wrong}\nspec: {ports: [{port: 99999999}]}\n"})
	s.awaitEvent(belay.EventHold, "shop", "its deployment failed")
	w.awaitValue(w.ns("shop"), "web", "1")
	devtest.Await(t, "the other object to be written, and written back", func() error {
		if n := len(slices.DeleteFunc(w.order(mark), func(o string) bool { return o != "patch configmaps/web" })); n != 2 {
			return fmt.Errorf("it was written %d times", n)
		}
		return nil
	})
	s.awaitEvent(belay.EventRollback, "shop", "it waits on branch back/shop-"+first[:10])
	if got := w.repo.Git("show", "back/shop-"+first[:10]+":apps/shop/web.yaml"); !strings.Contains(got, `value: "1"`) {
		t.Errorf("on the branch stands\n%s", got)
	}
	a := s.awaitMessage("shop", "held at "+first[:10]+" by belay (automatic)")
	if a.Held == nil || !a.Held.Automatic {
		t.Errorf("the state is %+v", a.Held)
	}
	devtest.Await(t, "the branch to be shown", func() error {
		if a, _ := s.app("shop"); a.Held == nil || a.Held.Branch != "back/shop-"+first[:10] {
			return fmt.Errorf("the hold is %+v", a.Held)
		}
		return nil
	})

	// Others go on, and what went wrong is not tried again.
	mark = w.cp.Mark(t)
	s.push("Of another", map[string]string{"apps/other/a.yaml": configMap("a", "2")})
	s.awaitApps("other")
	for _, r := range w.writes(mark) {
		if r.Namespace == w.ns("shop") {
			t.Errorf("written while it is held: %s", r)
		}
	}

	// What it went back to is not left when it does no better.
	w.says(w.ns("shop"), `{"phase":"Broken"}`)
	s.awaitEvent(belay.EventRollback, "shop", "no automatic rollback: this is what it was rolled back to")
	w.says(w.ns("shop"), `{"phase":"Up"}`)

	// A commit that mends it is deployed.
	s.push("Three", map[string]string{"apps/shop/web.yaml": configMap("web", "3"), "apps/shop/wrong.yaml": ""})
	s.awaitEvent(belay.EventRelease, "shop", "a newer commit wants something else")
	w.awaitValue(w.ns("shop"), "web", "3")
	s.awaitApps("shop")

	// Released, what went wrong is deployed because somebody wants it, and stays.
	s.push("Four", map[string]string{"apps/shop/web.yaml": configMap("web", "4")})
	w.awaitValue(w.ns("shop"), "web", "4")
	w.says(w.ns("shop"), `{"phase":"Broken"}`)
	w.awaitValue(w.ns("shop"), "web", "3")
	w.says(w.ns("shop"), `{"phase":"Up"}`)
	devtest.Await(t, "the shop to be well", func() error {
		if a, _ := s.app("shop"); a.Health != belay.Healthy {
			return fmt.Errorf("it is %s", a.Health)
		}
		return nil
	})
	if _, errOut, code := s.cli("release", "shop", "--reason", "it has to be"); code != 0 {
		t.Fatalf("release ended with %d: %s", code, errOut)
	}
	w.awaitValue(w.ns("shop"), "web", "4")
	s.awaitApps("shop")
	w.says(w.ns("shop"), `{"phase":"Broken"}`)
	s.awaitEvent(belay.EventRollback, "shop", "no automatic rollback: somebody released it")
	if got, _ := w.value(w.ns("shop"), "web"); got != "4" {
		t.Errorf("web is %q, want 4", got)
	}
}
