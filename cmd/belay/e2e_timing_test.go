package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

// pods is a Deployment whose pods are ready or not.
func pods(name, image string, ready bool) string {
	state := map[bool]string{true: "ready", false: "unready"}[ready]
	return strings.Replace(deployment(name, 1, image), "    metadata:\n      labels: {app: "+name+"}\n",
		"    metadata:\n      labels: {app: "+name+"}\n      annotations: {devcluster.belay.dev/pod: "+state+"}\n", 1)
}

// keepsSaying fails unless an application says all of the texts when the server has
// nothing left to do.
func (s *serveProcess) keepsSaying(app string, texts ...string) {
	s.w.t.Helper()
	s.awaitMessage(app, texts...)
	seen, same := -1, 0
	devtest.Await(s.w.t, "the server to have nothing to do", func() error {
		if n := s.metric("belay_passes_total"); n != seen {
			seen, same = n, 0
		}
		if same++; same < 5 {
			return fmt.Errorf("it is at pass %d", seen)
		}
		return nil
	})
	s.awaitMessage(app, texts...)
}

// An application is written only when those that it depends on are ready at the
// newest commit, also over a restart, and goes before they do.
func TestDependencies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const limit = "  sync: {pruneLimit: {percent: 100}}\n"
	w.commit("A database and its users", map[string]string{
		"belay/README.md":  "Definitions.\n",
		"belay/a.yaml":     application("a", "apps/a", "NS-a", limit, "  dependsOn: [{name: b}]\n"),
		"belay/early.yaml": application("early", "apps/early", "NS-early", "  dependsOn:\n    - name: z\n      ready: app.tree.exists(o, o.kind == 'ConfigMap' && o.sync == 'Synced')\n"),
		"belay/b.yaml":     application("b", "apps/b", "NS-b", limit, "  dependsOn: [{name: z}]\n"),
		"belay/z.yaml":     application("z", "apps/z", "NS-z", limit),
		"apps/a/a.yaml":    configMap("a", "1"), "apps/b/b.yaml": configMap("b", "1"), "apps/b/same.yaml": configMap("same", "1"), "apps/early/e.yaml": configMap("e", "1"),
		"apps/z/z.yaml": documents(configMap("z", "1"), pods("db", "db:1", false)),
	})
	s := w.serve()
	s.awaitMessage("b", "waits for z, which is Progressing")
	s.awaitMessage("a", "waits for b, which is OutOfSync: waits for z")
	s.awaitApps("early")
	s.push("Let the database run", map[string]string{"apps/z/z.yaml": documents(configMap("z", "1"), pods("db", "db:1", true))})
	s.awaitApps("a", "b", "z", "early")

	// The same commit changes all: nobody may take the database as it was for ready.
	mark := w.cp.Mark(t)
	s.crashAt("slow-rendered", 300)
	s.push("Change all of it", map[string]string{"apps/a/a.yaml": configMap("a", "2"), "apps/b/b.yaml": configMap("b", "2"),
		"apps/z/z.yaml": documents(configMap("z", "2"), pods("db", "db:2", false))})
	s.awaitMessage("b", "waits for z, which is Progressing")
	s.kill()
	s = w.serve()
	s.awaitMessage("b", "waits for z, which is Progressing")
	for _, r := range w.writes(mark) {
		if r.Name == "a" || r.Name == "b" {
			t.Errorf("written before the database was ready: %s", r)
		}
	}
	// Who waits is healed all the same.
	w.patch(w.ns("b"), "same", "kubectl-edit", `{"data":{"value":"by hand"}}`)
	w.awaitValue(w.ns("b"), "same", "1")
	s.push("Let it run", map[string]string{"apps/z/z.yaml": documents(configMap("z", "2"), pods("db", "db:2", true))})
	s.awaitApps("a", "b", "z")
	w.awaitValue(w.ns("a"), "a", "2")

	// A commit that does not concern the database makes nobody wait for it.
	mark = w.cp.Mark(t)
	s.push("Change one", map[string]string{"apps/a/a.yaml": configMap("a", "3")})
	s.awaitApps("a", "b", "z")
	if got := len(w.writes(mark)); got != 1 {
		t.Errorf("%d writes for one change%s", got, listing(w.writes(mark)))
	}

	// It does not go while somebody depends on it, and then goes last.
	s.push("Remove the database", map[string]string{"belay/z.yaml": ""})
	s.awaitMessage("z", "belay/b.yaml:", `application "b" still depends on it`)
	s.awaitMessage("b", "belay/b.yaml:", `Application "z" is not declared`)
	s.stop()
	w.commit("Remove its users", map[string]string{"belay/a.yaml": "", "belay/b.yaml": "", "belay/early.yaml": ""})
	mark = w.cp.Mark(t)
	s = w.serve()
	var order []string
	devtest.Await(t, "all to be deleted", func() error {
		order = nil
		for _, r := range w.writes(mark) {
			if r.Verb == "delete" && r.Name != "e" && r.Code < 300 {
				order = append(order, r.Name)
			}
		}
		if len(order) < 5 {
			return fmt.Errorf("deleted are %v", order)
		}
		return nil
	})
	s.awaitSynced()
	if slices.Index(order, "a") != 0 || slices.Index(order, "z") < 3 || slices.Index(order, "db") < 3 || len(order) != 5 {
		t.Errorf("deleted in the order %v", order)
	}
}

// Nothing of a suspended application is written until it goes on.
func TestSuspend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const suspend = "  suspend: {reason: until the database was moved}\n"
	w.commit("An application", map[string]string{"belay/README.md": "Definitions.\n", "belay/a.yaml": application("a", "apps/a", "NS-a"),
		"apps/a/a.yaml": documents(configMap("a", "1"), configMap("b", "1"), configMap("d", "1"))})
	s := w.serve()
	s.awaitSynced("a")
	s.push("Suspend it", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a", suspend)})
	a := s.awaitMessage("a", "suspended: until the database was moved")
	if a.Sync != belay.Synced || a.Health != belay.Healthy || a.Suspended != "until the database was moved" {
		t.Errorf("it is %s, %s, suspended %q", a.Sync, a.Health, a.Suspended)
	}
	s.awaitEvent(belay.EventSuspended, "a | ", "suspended: until the database was moved")
	mark := w.cp.Mark(t)
	w.patch(w.ns("a"), "a", "kubectl-edit", `{"data":{"value":"by hand"}}`)
	s.awaitEvent(belay.EventDrift, "ConfigMap "+w.ns("a")+"/a", "data.value by kubectl-edit")
	s.push("Change it", map[string]string{"apps/a/a.yaml": documents(configMap("a", "2"), configMap("c", "1"), configMap("d", "2"))})
	// What Git changed meanwhile is changed by hand, too, and deleted.
	w.patch(w.ns("a"), "a", "k9s", `{"data":{"value":"by hand again"}}`)
	s.awaitEvent(belay.EventDrift, "ConfigMap "+w.ns("a")+"/a", "data.value by k9s")
	if err := w.kube.CoreV1().ConfigMaps(w.ns("a")).Delete(t.Context(), "d", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.awaitEvent(belay.EventDrift, "ConfigMap "+w.ns("a")+"/d", "deleted by hand")
	if _, stderr, code := s.cli("sync", "a"); code == 0 || !strings.Contains(stderr, "until the database was moved") {
		t.Errorf("a sync on request ends with %d: %s", code, stderr)
	}
	if out, stderr, code := s.cli("sync", "--all"); code != 0 || !strings.Contains(stderr, "until the database was moved") || strings.Contains(out, "a:") {
		t.Errorf("a sync of all ends with %d: %s%s", code, out, stderr)
	}
	devtest.Await(t, "it to be OutOfSync at the commit", func() error {
		if a, _ := s.app("a"); a.Sync != belay.OutOfSync || a.Revision != w.repo.Resolve("main") || !strings.Contains(a.Message, "suspended: until the database was moved") {
			return fmt.Errorf("it is %s at %.10s: %q", a.Sync, a.Revision, a.Message)
		}
		return nil
	})
	s.kill()
	s = w.serve()
	s.keepsSaying("a", "suspended: until the database was moved")
	if r := w.writes(mark); len(r) > 0 {
		t.Errorf("while it was suspended%s", listing(r))
	}
	s.push("Go on", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a")})
	s.awaitSynced("a")
	s.awaitEvent(belay.EventSuspended, "a | ", "not suspended any more")
	w.awaitValue(w.ns("a"), "a", "2")
	w.awaitValue(w.ns("a"), "b", "")

	// What is removed from Git goes, suspended or not.
	s.push("Suspend it again", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a", suspend)})
	s.awaitMessage("a", "suspended")
	s.push("Remove it", map[string]string{"belay/a.yaml": ""})
	s.awaitSynced()
	w.awaitValue(w.ns("a"), "a", "")
}

// project is a Project that allows all, with windows.
func project(windows ...string) string {
	s := "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: default}\nspec:\n  sources: [{repo: '**'}]\n  destinations: [{cluster: '*'}]\n  clusterKinds: ['*']\n"
	if len(windows) > 0 {
		s += "  windows:\n"
	}
	for _, w := range windows {
		s += "    - {" + w + "}\n"
	}
	return s
}

// deny is a window that began in this minute, lasts until a moment, and says why.
func deny(lasts time.Duration, why string) (window string, end time.Time) {
	now := time.Now().UTC()
	begin, end := now.Truncate(time.Minute), now.Add(lasts)
	return fmt.Sprintf("kind: deny, schedule: '%d %d * * *', duration: %ds, reason: %s", begin.Minute(), begin.Hour(), int(end.Sub(begin).Seconds()), why), end
}

// Outside of its windows nothing is written, no commit and no heal, until a
// window opens, or somebody says on the record that one sync may run.
func TestWindows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	closed, _ := deny(6*time.Hour, "no changes now")
	files := map[string]string{"belay/README.md": "Definitions.\n", "belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1"),
		"belay/project.yaml": project(closed)}
	w.commit("A frozen application", files)
	s := w.serve()
	s.keepsSaying("a", "waits until", "because of the deny window", "no changes now")
	if _, ok := w.value(w.ns("a"), "a"); ok {
		t.Error("it was made in a deny window")
	}
	if _, stderr, code := s.cli("sync", "a"); code == 0 || !strings.Contains(stderr, "no changes now") || !strings.Contains(stderr, "--override-window") {
		t.Errorf("a sync on request ends with %d: %s", code, stderr)
	}
	if _, stderr, code := s.cli("sync", "a", "--override-window"); code == 0 || !strings.Contains(stderr, "reason") {
		t.Errorf("an override without a reason ends with %d: %s", code, stderr)
	}
	if out, stderr, code := s.cli("sync", "a", "--wait", "--override-window", "--reason", "fixes the outage"); code != 0 {
		t.Fatalf("an override ends with %d: %s%s", code, out, stderr)
	}
	w.awaitValue(w.ns("a"), "a", "1")
	var overrides []belay.Event
	for _, e := range s.events() {
		if e.Type == belay.EventOverride {
			overrides = append(overrides, e)
		}
	}
	if len(overrides) != 1 || !strings.Contains(overrides[0].Message, "fixes the outage") || overrides[0].Actor == "" || overrides[0].Application != "a" {
		t.Errorf("the record of the override is %+v", overrides)
	}

	// That was one sync. Neither the next commit nor a heal is let through by it.
	mark := w.cp.Mark(t)
	w.patch(w.ns("a"), "a", "kubectl-edit", `{"data":{"value":"by hand"}}`)
	s.push("Another change", map[string]string{"apps/a/a.yaml": configMap("a", "2")})
	s.keepsSaying("a", "waits until", "no changes now")
	if r := w.writes(mark); len(r) > 0 {
		t.Errorf("in a deny window%s", listing(r))
	}

	// A timer wakes it when the window ends. One that was over before anybody saw the
	// application wait for it shows nothing: then a longer one does.
	for n, lasts := 3, 20*time.Second; ; n, lasts = n+1, 2*lasts {
		value, waits := fmt.Sprint(n), false
		window, end := deny(lasts, "no changes for a moment")
		s.push("End it soon", map[string]string{"belay/project.yaml": project(window), "apps/a/a.yaml": configMap("a", value)})
		devtest.Await(t, "the window to be read", func() error {
			a, _ := s.app("a")
			waits = strings.Contains(a.Message, "waits until") && strings.Contains(a.Message, "no changes for a moment")
			if got, _ := w.value(w.ns("a"), "a"); !waits && got != value {
				return fmt.Errorf("it is %s %q: %q", a.Sync, got, a.Message)
			}
			return nil
		})
		passes := s.metric("belay_passes_total")
		w.awaitValue(w.ns("a"), "a", value)
		if at := time.Now(); at.Before(end.Add(-time.Second)) {
			t.Errorf("written %s before the window ended", end.Sub(at))
		}
		s.awaitSynced("a")
		if n := s.metric("belay_passes_total") - passes; n > 8 {
			t.Errorf("%d passes to wait for a window", n)
		}
		if waits {
			break
		}
	}

	// A sync that somebody asks for may be let through by a window, and what leaves
	// Git waits like all else.
	s.push("An allow window", map[string]string{"belay/project.yaml": project("kind: allow, schedule: '0 0 29 2 *', duration: 1m, manual: true"), "apps/a/a.yaml": configMap("a", "on request")})
	s.awaitMessage("a", "waits until", "for the allow window")
	if out, stderr, code := s.cli("sync", "a", "--wait"); code != 0 {
		t.Fatalf("a sync on request ends with %d: %s%s", code, out, stderr)
	}
	w.awaitValue(w.ns("a"), "a", "on request")
	s.push("Remove it", map[string]string{"belay/a.yaml": ""})
	s.keepsSaying("a", "removed from Git, but not deleted", "waits until")
	s.push("No windows", map[string]string{"belay/project.yaml": project()})
	s.awaitSynced()
	w.awaitValue(w.ns("a"), "a", "")
}

// A sync that waits for what never comes is given up after its time, and a newer
// commit takes its place at any time.
func TestTimeoutAndSupersede(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	late := func(value string) string { return configMap("late", value, annotated(belay.AnnotationWave, "1")) }
	w.commit("It never gets ready", map[string]string{
		"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": documents(pods("web", "web:1", false), late("1")),
		"belay/b.yaml": application("b", "apps/b", "NS-b"), "apps/b/b.yaml": documents(pods("web", "web:1", false), late("1")),
	})
	first := w.repo.Resolve("main")[:10]
	s := w.serve()
	// Its time begins where it waits, or the writes before might take all of it.
	s.awaitMessage("a", "wave 1 waits for Deployment.apps")
	s.push("Limit it", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a", "  sync: {timeout: 6s}\n")})
	a := s.awaitMessage("a", "was not finished within 6s", "wave 1 waits for Deployment.apps")
	if a.Sync != belay.OutOfSync {
		t.Errorf("it is %s", a.Sync)
	}
	s.awaitEvent(belay.EventSyncFailed, "a | ", "was not finished within 6s", "wave 1 waits for Deployment.apps")
	s.awaitMessage("b", "wave 1 waits for Deployment.apps")

	// What it waited for comes too late; what was applied is healed.
	w.makeAvailable(w.ns("a"), "web")
	s.keepsSaying("a", "was not finished within 6s")
	w.awaitValue(w.ns("a"), "late", "")

	// A commit that mends only the later wave does not get past the earlier one.
	s.push("Mend what comes later", map[string]string{"apps/b/b.yaml": documents(pods("web", "web:1", false), late("2"))})
	second := w.repo.Resolve("main")[:10]
	s.awaitEvent(belay.EventSuperseded, "b | ", first, second)
	s.keepsSaying("b", "wave 1 waits for Deployment.apps")
	w.awaitValue(w.ns("b"), "late", "")
	s.push("Mend both", map[string]string{
		"belay/a.yaml":  application("a", "apps/a", "NS-a"), // with time: what mends it is no race
		"apps/a/a.yaml": documents(pods("web", "web:2", true), late("2")), "apps/b/b.yaml": documents(pods("web", "web:2", true), late("2")),
	})
	third := w.repo.Resolve("main")[:10]
	s.awaitSynced("a", "b")
	s.awaitEvent(belay.EventSuperseded, "b | ", second, third)
	w.awaitValue(w.ns("a"), "late", "2")
	w.awaitValue(w.ns("b"), "late", "2")
}

// An object that is refused is tried as often as the application says.
func TestRetries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bad := "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999999}]}\n"
	w.commit("It is refused", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a", "  sync: {retry: {limit: 2, first: 100ms, most: 200ms}}\n"),
		"apps/a/a.yaml": documents(configMap("a", "1"), bad)})
	mark := w.cp.Mark(t)
	s := w.serve()
	s.keepsSaying("a", "tried 3 times, and not again before another commit")
	s.awaitEvent(belay.EventRetried, "a | Service", "retry 2 of 2")
	tries := func() int {
		n := 0
		for _, r := range w.writes(mark) {
			if r.Resource == "services" {
				n++
			}
		}
		return n
	}
	if n := tries(); n != 3 {
		t.Errorf("tried %d times", n)
	}
	s.push("Change another object", map[string]string{"apps/a/a.yaml": documents(configMap("a", "2"), bad)})
	devtest.Await(t, "three more tries", func() error {
		if n := tries(); n != 6 {
			return fmt.Errorf("tried %d times", n)
		}
		return nil
	})
	s.keepsSaying("a", "tried 3 times")
	if _, _, code := s.cli("sync", "a", "--wait"); code == 0 {
		t.Error("the sync on request succeeded")
	}
	devtest.Await(t, "three more tries", func() error {
		if n := tries(); n != 9 {
			return fmt.Errorf("tried %d times", n)
		}
		return nil
	})
}

// makeAvailable says in place of the kubelet that the pods of a Deployment are
// ready, and waits until it is available.
func (w *world) makeAvailable(ns, name string) {
	w.t.Helper()
	devtest.Await(w.t, name+" to be available", func() error {
		list, err := w.kube.CoreV1().Pods(ns).List(w.t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return err
		}
		for i := range list.Items {
			p := &list.Items[i]
			for j := range p.Status.Conditions {
				p.Status.Conditions[j].Status = corev1.ConditionTrue
			}
			if _, err := w.kube.CoreV1().Pods(ns).UpdateStatus(w.t.Context(), p, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
		d, err := w.kube.AppsV1().Deployments(ns).Get(w.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if d.Status.AvailableReplicas == 0 {
			return errors.New("no replica is available")
		}
		return nil
	})
}

// A sync under way when a window closes writes no more than the objects at hand.
func TestAWindowClosesDuringASync(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("In waves", map[string]string{
		"belay/a.yaml": application("a", "apps/a", "NS-a"), "belay/project.yaml": project(),
		"apps/a/a.yaml": documents(pods("web", "web:1", false), configMap("late", "1", annotated(belay.AnnotationWave, "1"))),
	})
	s := w.serve()
	s.awaitMessage("a", "wave 1 waits for Deployment.apps")
	closed, _ := deny(6*time.Hour, "no changes now")
	s.push("Close", map[string]string{"belay/project.yaml": project(closed)})
	devtest.Await(t, "the definitions to be read", func() error {
		if _, stderr, code := s.cli("sync", "a"); code == 0 || !strings.Contains(stderr, "no changes now") {
			return fmt.Errorf("a sync on request ends with %d: %s", code, stderr)
		}
		return nil
	})
	w.makeAvailable(w.ns("a"), "web")
	s.keepsSaying("a", "waits until", "no changes now")
	w.awaitValue(w.ns("a"), "late", "")
	s.push("Open", map[string]string{"belay/project.yaml": project()})
	s.awaitSynced("a")
	w.awaitValue(w.ns("a"), "late", "1")
}

// Hooks keep to the rules of their application: they do not run while it is
// suspended or waits, a failing one is tried as often as anything else, and one
// that does not end is waited for no longer than the sync may take.
func TestHooksKeepTheTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Hooks of all sorts", map[string]string{
		"belay/suspended.yaml": application("suspended", "apps/ok", "NS-suspended", "  suspend: {reason: not yet}\n"),
		"belay/waiting.yaml":   application("waiting", "apps/ok", "NS-waiting", "  dependsOn: [{name: slow}]\n"),
		"apps/ok/a.yaml":       documents(configMap("a", "1"), hookJob("before", "PreSync", "")),
		"belay/slow.yaml":      application("slow", "apps/slow", "NS-slow"),
		"apps/slow/a.yaml":     documents(configMap("a", "1"), hookJob("hangs", "PreSync", "hold"), hookJob("tell", "SyncFail", "")),
		"belay/failing.yaml":   application("failing", "apps/failing", "NS-failing", "  sync: {retry: {limit: 1, first: 100ms}}\n"),
		"apps/failing/a.yaml":  documents(configMap("a", "1"), hookJob("fails", "PreSync", "fail")),
	})
	mark := w.cp.Mark(t)
	s := w.serve()
	s.awaitMessage("slow", "hangs") // its time begins where it waits, or the writes before might take all of it
	s.push("Limit it", map[string]string{"belay/slow.yaml": application("slow", "apps/slow", "NS-slow", "  sync: {timeout: 6s}\n")})
	s.awaitMessage("slow", "was not finished within 6s", "hangs")
	s.awaitEvent(belay.EventHook, "slow | ", "tell", "SyncFail hook succeeded")
	s.awaitMessage("failing", "fails", "tried 2 times")
	s.awaitMessage("waiting", "waits for slow, which is OutOfSync")
	s.keepsSaying("suspended", "suspended: not yet")
	for name, want := range map[string]int{"before": 0, "hangs": 1, "tell": 1, "fails": 2} {
		if n := w.started(mark, name); n != want {
			t.Errorf("hook %s was started %d times, want %d", name, n, want)
		}
	}
	s.push("Mend it", map[string]string{"apps/slow/a.yaml": documents(configMap("a", "1"), hookJob("hangs", "PreSync", ""), hookJob("tell", "SyncFail", "")),
		"belay/slow.yaml":      application("slow", "apps/slow", "NS-slow"), // with time: what mends it is no race
		"belay/suspended.yaml": "", "belay/failing.yaml": ""})
	s.awaitSynced("slow", "waiting")
}
