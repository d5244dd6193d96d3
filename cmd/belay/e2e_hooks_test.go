package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

// hookJob is a Job that is a hook; does says what its pod does: "" for success,
// fail, or hold for one that never ends.
func hookJob(name, phases, does string, annotations ...string) string {
	return fmt.Sprintf(`apiVersion: batch/v1
kind: Job
metadata:
  name: %s
%sspec:
  backoffLimit: 0
  template:
    metadata:
      annotations: {devcluster.belay.dev/pod: %q}
    spec:
      restartPolicy: Never
      containers:
        - {name: main, image: "main:1"}
`, name, annotated(append([]string{belay.AnnotationHook, phases}, annotations...)...), does)
}

// order are the successful writes since a mark, as "verb resource/name".
func (w *world) order(since devtest.Mark) []string {
	w.t.Helper()
	var out []string
	for _, r := range w.writes(since) {
		if r.Code < 300 && r.Resource != "namespaces" {
			out = append(out, r.Verb+" "+r.Resource+"/"+r.Name)
		}
	}
	return out
}

// started counts how often a Job was made since a mark. One that a process was making
// as it died counts only where the next one found it.
func (w *world) started(since devtest.Mark, name string) int {
	w.t.Helper()
	n, interrupted := 0, 0
	for _, r := range w.writes(since) {
		switch {
		case r.Code >= 300 || r.Verb != "patch" || r.Resource != "jobs" || r.Name != name:
		case w.interrupted(r):
			interrupted = 1
		default:
			n++
		}
	}
	return max(n, interrupted)
}

func (w *world) jobGone(ns, name string) bool {
	w.t.Helper()
	_, err := w.kube.BatchV1().Jobs(ns).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
	return err != nil
}

// Hooks run before, among and after the objects, once for each state that Git
// declares: not for heals, not for commits that change nothing, not after a restart.
func TestHooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files := map[string]string{
		"belay/a.yaml":    application("a", "apps/a", "NS-a"),
		"apps/a/web.yaml": documents(configMap("early", "1"), configMap("late", "1", annotated(belay.AnnotationWave, "5")), deployment("web", 1, "web:1")),
		"apps/a/hooks.yaml": documents(
			"apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: migrator\n"+annotated(belay.AnnotationHook, "PreSync", belay.AnnotationWave, "-1"),
			hookJob("migrate", "PreSync", ""), hookJob("between", "Sync", "", belay.AnnotationWave, "2"), hookJob("smoke", "PostSync", "")),
	}
	w.commit("With hooks", files)
	mark := w.cp.Mark(t)
	s := w.serve()
	s.awaitSynced("a")
	want := []string{"patch serviceaccounts/migrator", "patch jobs/migrate", "patch configmaps/early", "patch deployments/web", "patch jobs/between",
		"patch configmaps/late", "patch jobs/smoke"}
	if got := w.order(mark); !slices.Equal(got, want) {
		t.Errorf("the order is %q, want %q", got, want)
	}
	for _, name := range []string{"migrate", "between", "smoke"} {
		s.awaitEvent(belay.EventHook, name, "started")
		s.awaitEvent(belay.EventHook, name, "succeeded")
	}
	out, _, _ := s.cli("get", "app", "a")
	for _, text := range []string{"PreSync hook", "PostSync hook", "Succeeded"} {
		if !strings.Contains(out, text) {
			t.Errorf("%q is not in\n%s", text, out)
		}
	}
	out, _, _ = s.cli("plan", "--revision", "main")
	if strings.Contains(out, "hook") {
		t.Errorf("the plan of what is there has hooks:\n%s", out)
	}

	mark = w.cp.Mark(t)
	s.push("Nothing of it", map[string]string{"apps/README.md": "x", "belay/a.yaml": application("a", "apps/a", "NS-a", "  sync: {pruneLimit: {percent: 60}}\n")})
	s.awaitSynced("a")
	w.patch(w.ns("a"), "early", "kubectl-edit", `{"data":{"value":"2"}}`)
	w.awaitValue(w.ns("a"), "early", "1")
	if err := w.kube.CoreV1().ConfigMaps(w.ns("a")).Delete(t.Context(), "late", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.awaitValue(w.ns("a"), "late", "1")
	s.awaitSynced("a")
	if got := strings.Join(w.order(mark), " "); strings.Contains(got, "jobs/") {
		t.Errorf("a hook ran again: %s", got)
	}

	// A commit that changes an object runs them again.
	mark = w.cp.Mark(t)
	change := map[string]string{"apps/a/web.yaml": documents(configMap("early", "3"), configMap("late", "1", annotated(belay.AnnotationWave, "5")), deployment("web", 1, "web:1"))}
	s.push("Change it", change)
	s.awaitSynced("a")
	want = []string{"patch serviceaccounts/migrator", "delete jobs/migrate", "patch jobs/migrate", "patch configmaps/early", "delete jobs/between",
		"patch jobs/between", "delete jobs/smoke", "patch jobs/smoke"}
	if got := w.order(mark); !slices.Equal(got, want) {
		t.Errorf("the order of a change is %q, want %q", got, want)
	}

	// With or without a memory: what is right is left alone.
	for _, lost := range []bool{false, true} {
		s.stop()
		if lost {
			w.removeData()
		}
		mark = w.cp.Mark(t)
		s = w.serve()
		s.awaitSynced("a")
		if got := w.order(mark); len(got) > 0 {
			t.Errorf("a restart (data lost: %v) wrote %q", lost, got)
		}
	}
	// Hooks that Git no longer declares are cleared away.
	s.push("Without hooks", map[string]string{"apps/a/hooks.yaml": ""})
	s.awaitSynced("a")
	devtest.Await(t, "the hooks to go", func() error {
		for _, name := range []string{"migrate", "between", "smoke"} {
			if !w.jobGone(w.ns("a"), name) {
				return errors.New(name + " is there")
			}
		}
		return nil
	})
}

// A failed PreSync hook stops the sync before anything is written. Its SyncFail
// hook runs, once. The next commit starts anew, also while a hook never ends.
func TestFailingHook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hooks := func(does string) string {
		return documents(hookJob("migrate", "PreSync", does, belay.AnnotationHookDelete, "BeforeHookCreation,HookFailed"), hookJob("tell", "SyncFail", ""), hookJob("smoke", "PostSync", ""))
	}
	w.commit("Well", map[string]string{
		"belay/a.yaml":      application("a", "apps/a", "NS-a"),
		"apps/a/a.yaml":     configMap("a", "1"),
		"apps/a/hooks.yaml": hooks(""),
	})
	s := w.serve()
	s.awaitSynced("a")
	if !w.jobGone(w.ns("a"), "tell") {
		t.Error("the SyncFail hook ran, and nothing failed")
	}
	mark := w.cp.Mark(t)
	s.push("Fail", map[string]string{"apps/a/a.yaml": configMap("a", "2"), "apps/a/hooks.yaml": hooks("fail")})
	s.awaitMessage("a", "PreSync hook failed", "apps/a/hooks.yaml:1", "Job.batch "+w.ns("a")+"/migrate", "BackoffLimitExceeded")
	s.awaitEvent(belay.EventHook, "tell", "SyncFail hook succeeded")
	s.awaitEvent(belay.EventSyncFailed, "migrate")
	devtest.Await(t, "the failed hook to be deleted", func() error {
		if !w.jobGone(w.ns("a"), "migrate") {
			return errors.New("it is there")
		}
		return nil
	})
	devtest.Await(t, "the hook to be tried again", func() error {
		if n := w.started(mark, "migrate"); n < 2 {
			return fmt.Errorf("it was started %d times", n)
		}
		return nil
	})
	if v, _ := w.value(w.ns("a"), "a"); v != "1" {
		t.Errorf("the object is %q after a failed PreSync hook", v)
	}
	if n := w.started(mark, "tell"); n != 1 {
		t.Errorf("the SyncFail hook was started %d times", n)
	}
	if n := w.started(mark, "smoke"); n != 0 {
		t.Errorf("the PostSync hook was started %d times", n)
	}
	s.push("Never end", map[string]string{"apps/a/hooks.yaml": hooks("hold")})
	s.awaitMessage("a", "PreSync hook Job.batch "+w.ns("a")+"/migrate (apps/a/hooks.yaml:1) is running since")
	s.push("Mend", map[string]string{"apps/a/hooks.yaml": hooks("")})
	s.awaitSynced("a")
	w.awaitValue(w.ns("a"), "a", "2")

	// A Project that denies the kind stops the hook, and with it the sync.
	s.push("Deny", map[string]string{
		"belay/p.yaml":  "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: default}\nspec:\n  sources: [{repo: \"**\"}]\n  destinations: [{}]\n  deniedKinds: [batch/Job]\n",
		"apps/a/a.yaml": configMap("a", "3"),
	})
	s.awaitMessage("a", `project "default" does not allow the kind Job.batch`, "apps/a/hooks.yaml:1")
	mark = w.cp.Mark(t)
	if v, _ := w.value(w.ns("a"), "a"); v != "2" {
		t.Errorf("the object is %q although its hook is denied", v)
	}
	if r := w.order(mark); len(r) > 0 {
		t.Errorf("it wrote %q", r)
	}
}

// Objects of hooks are deleted as their policy says; a process that dies between
// a hook and the first write does not run it again.
func TestHooksAndCrashes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	policy := []string{belay.AnnotationHookDelete, "HookSucceeded"}
	app := func(value string, more ...string) map[string]string {
		return map[string]string{
			"belay/a.yaml":  application("a", "apps/a", "NS-a"),
			"apps/a/a.yaml": documents(configMap("a", value), configMap("b", value, annotated(belay.AnnotationWave, "1"))),
			"apps/a/hooks.yaml": documents(append([]string{hookJob("migrate", "PreSync", "", policy...), hookJob("smoke", "PostSync", "", policy...),
				"apiVersion: v1\nkind: Secret\nmetadata:\n  name: given\n" + annotated(belay.AnnotationHook, "PreSync") + "stringData: {value: hunter" + value + "}\n"}, more...)...),
		}
	}
	w.commit("First", app("0"))
	s := w.serve()
	s.awaitSynced("a")
	clean := func(what string) {
		t.Helper()
		devtest.Await(t, "the hooks to be deleted", func() error {
			if !w.jobGone(w.ns("a"), "migrate") || !w.jobGone(w.ns("a"), "smoke") {
				return errors.New("one is there: " + what)
			}
			return nil
		})
	}
	clean("first")
	for i, c := range []struct {
		point string
		n     int
	}{{"begin", 1}, {"hookStarted", 2}, {"hookSucceeded", 1}, {"write", 2}, {"group", 2}, {"group", 3}, {"hookSucceeded", 2}, {"hooksOver", 1}} {
		what := fmt.Sprintf("killed at %s %d", c.point, c.n)
		mark := w.cp.Mark(t)
		s.crashAt(c.point, c.n)
		value := fmt.Sprint(i + 1)
		w.commit("Change "+value, app(value))
		s.hook()
		s.awaitCrash(c.point)
		s = w.serve()
		s.awaitSynced("a")
		w.awaitValue(w.ns("a"), "b", value)
		clean(what)
		given, err := w.kube.CoreV1().Secrets(w.ns("a")).Get(t.Context(), "given", metav1.GetOptions{})
		if err != nil || string(given.Data["value"]) != "hunter"+value {
			t.Errorf("%s: the Secret that is a hook is %q, %v", what, given.Data["value"], err)
		}
		for _, name := range []string{"migrate", "smoke"} {
			if n := w.started(mark, name); n != 1 {
				t.Errorf("%s: %s was started %d times: %q", what, name, n, w.order(mark))
			}
		}
		if t.Failed() {
			return
		}
	}
	// A hook in Helm's words, without a name of its own, is a Pod that is done when it ends.
	pod := "apiVersion: v1\nkind: Pod\nmetadata:\n  generateName: once-\n" +
		annotated("helm.sh/hook", "pre-upgrade", "helm.sh/hook-delete-policy", "hook-succeeded", "helm.sh/hook-weight", "3") +
		"spec:\n  restartPolicy: Never\n  containers: [{name: main, image: \"main:1\"}]\n"
	s.push("A Pod", app("99", pod))
	s.awaitMessage("a", "PreSync hook Pod "+w.ns("a")+"/once-", "is running since", "the pod is")
	w.endPod(w.ns("a"), "once-", corev1.PodSucceeded)
	s.awaitSynced("a")
	w.awaitValue(w.ns("a"), "b", "99")
	devtest.Await(t, "the pod to be deleted", func() error {
		if p := w.pod(w.ns("a"), "once-"); p != nil && p.DeletionTimestamp == nil {
			return errors.New("it is there")
		}
		return nil
	})
}

// pod finds a Pod by the beginning of its name.
func (w *world) pod(ns, prefix string) *corev1.Pod {
	w.t.Helper()
	list, err := w.kube.CoreV1().Pods(ns).List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range list.Items {
		if strings.HasPrefix(list.Items[i].Name, prefix) {
			return &list.Items[i]
		}
	}
	return nil
}

// endPod has a Pod end, as its kubelet would: not before it runs, or what starts
// it would do so afterwards.
func (w *world) endPod(ns, prefix string, phase corev1.PodPhase) {
	w.t.Helper()
	var p *corev1.Pod
	devtest.Await(w.t, "pod "+prefix+" to run", func() error {
		if p = w.pod(ns, prefix); p == nil || p.Status.Phase != corev1.PodRunning {
			return errors.New("it does not")
		}
		return nil
	})
	patch := fmt.Sprintf(`{"status":{"phase":%q}}`, phase)
	if _, err := w.kube.CoreV1().Pods(ns).Patch(w.t.Context(), p.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		w.t.Fatal(err)
	}
}

// Hooks of an application that leaves Git run before and after its objects go,
// also when nobody was there as it left.
func TestDeleteHooks(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"watched", "absent", "absent and lost"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			files := map[string]string{
				"belay/README.md":   "Definitions.\n",
				"belay/a.yaml":      application("a", "apps/a", "NS-a"),
				"apps/a/a.yaml":     documents(configMap("a", "1"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: NS-a}\n"),
				"apps/a/hooks.yaml": documents(hookJob("backup", "PreDelete", ""), hookJob("report", "PostDelete", "")),
			}
			w.commit("With hooks", files)
			s := w.serve()
			s.awaitSynced("a")
			if !w.jobGone(w.ns("a"), "backup") {
				t.Error("the PreDelete hook ran early")
			}
			mark := w.cp.Mark(t)
			gone := map[string]string{"belay/a.yaml": "", "apps/a/a.yaml": "", "apps/a/hooks.yaml": ""}
			if how != "watched" {
				s.kill()
				if how == "absent and lost" {
					w.removeData()
				}
				w.commit("Remove it", gone)
				s = w.serve()
			} else {
				s.crashAt("deleted", 1) // the ConfigMap is gone then, and the PostDelete hook has not run
				s.push("Remove it", gone)
				s.awaitCrash("the checkpoint")
				s = w.serve()
			}
			devtest.Await(t, "the namespace to go", func() error {
				if _, err := w.kube.CoreV1().Namespaces().Get(t.Context(), w.ns("a"), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
					return fmt.Errorf("it is there: %w", err)
				}
				return nil
			})
			s.awaitGone("a")
			order := strings.Join(w.order(mark), " ")
			want := "patch jobs/backup delete configmaps/a patch jobs/report delete jobs/"
			if !strings.HasPrefix(order, want) {
				t.Errorf("the order is %s, want %s…", order, want)
			}
		})
	}
}

// What a process does not remember it does not run, as long as all is right; but no
// commit that brings or changes a hook is passed over.
func TestHooksWithoutMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	policy := []string{belay.AnnotationHookDelete, "HookSucceeded"}
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {value: hunter2}\n"
	w.commit("Some with hooks", map[string]string{
		"belay/plain.yaml": application("plain", "apps/plain", "NS-plain"), "apps/plain/a.yaml": configMap("a", "1"),
		"belay/gone.yaml": application("gone", "apps/gone", "NS-gone"), "apps/gone/a.yaml": documents(configMap("a", "1"), secret, hookJob("migrate", "PreSync", "", policy...)),
		"belay/kept.yaml": application("kept", "apps/kept", "NS-kept"), "apps/kept/a.yaml": documents(configMap("a", "1"), secret, hookJob("smoke", "PostSync", "")),
		"belay/only.yaml": application("only", "apps/only", "NS-only"), "apps/only/a.yaml": hookJob("job", "Sync", ""),
	})
	all := []string{"plain", "gone", "kept", "only"}
	s := w.serve()
	s.awaitSynced(all...)
	for _, ns := range []string{"kept/smoke", "only/job"} {
		if space, name, _ := strings.Cut(ns, "/"); w.jobGone(w.ns(space), name) {
			t.Errorf("%s was not run", ns)
		}
	}
	// The key of the Secrets is lost too: their digests are new, and nothing else is.
	s.kill()
	w.removeData()
	mark := w.cp.Mark(t)
	s = w.serve()
	s.awaitSynced(all...)
	for _, o := range w.order(mark) {
		if !strings.Contains(o, "secrets/") {
			t.Errorf("with nothing on disk it did: %s", o)
		}
	}
	// Hooks come to an application that had none while nobody is there.
	s.kill()
	w.commit("More hooks", map[string]string{
		"apps/plain/hook.yaml": hookJob("first", "PostSync", "", policy...),
		"apps/gone/a.yaml":     documents(configMap("a", "1"), secret, hookJob("migrate", "PreSync", "", append(policy, "x", "y")...)),
	})
	mark = w.cp.Mark(t)
	s = w.serve()
	s.awaitSynced(all...)
	for name, want := range map[string]int{"first": 1, "migrate": 1, "smoke": 0, "job": 0} {
		if n := w.started(mark, name); n != want {
			t.Errorf("%s was started %d times, want %d", name, n, want)
		}
	}
	// Off, and on again as it was: that is another state each time.
	mark = w.cp.Mark(t)
	s.push("Off", map[string]string{"apps/plain/hook.yaml": ""})
	s.awaitSynced(all...)
	s.push("On", map[string]string{"apps/plain/hook.yaml": hookJob("first", "PostSync", "", policy...)})
	s.awaitSynced(all...)
	if n := w.started(mark, "first"); n != 1 {
		t.Errorf("the hook that came back was started %d times", n)
	}

	// The data is lost in the midst of a run: the objects of hooks tell how far it was.
	mark = w.cp.Mark(t)
	s.crashAt("hookStarted", 1)
	s.push("Crash", map[string]string{"apps/kept/a.yaml": documents(configMap("a", "1"), secret, hookJob("smoke", "PostSync", "", "x", "z"))})
	s.awaitCrash("the checkpoint")
	w.removeData()
	s = w.serve()
	s.awaitSynced(all...)
	if n := w.started(mark, "smoke"); n != 1 {
		t.Errorf("the hook was started %d times: %q", n, w.order(mark))
	}
}

// Syncs that wait to be asked for wait with their hooks; what somebody else has
// under the hook's name is left alone.
func TestHooksWaitToBeAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ns := w.makeNamespace("a")
	w.make(ns, "taken", "theirs", nil, nil)
	w.commit("By hand", map[string]string{
		"belay/a.yaml":  application("a", "apps/a", "NS-a", "  sync: {automatic: false}\n"),
		"apps/a/a.yaml": documents(configMap("a", "1"), hookJob("migrate", "PreSync", "", belay.AnnotationWave, "-1")),
	})
	mark := w.cp.Mark(t)
	s := w.serve()
	s.awaitMessage("a", "automatic sync is off")
	out, _, _ := s.cli("plan", "--revision", "main")
	if !strings.Contains(out, "> run PreSync hook Job.batch "+ns+"/migrate  apps/a/a.yaml:") || !strings.Contains(out, "1 hook to run") {
		t.Errorf("the plan is\n%s", out)
	}
	out, _, _ = s.cli("get", "app", "a")
	if !strings.Contains(out, "PreSync hook") || !strings.Contains(out, "Waiting") {
		t.Errorf("the application is\n%s", out)
	}
	if got := w.order(mark); len(got) > 0 {
		t.Errorf("nobody asked, and it did %q", got)
	}
	if _, errOut, code := s.cli("sync", "a"); code != 0 {
		t.Errorf("sync ended with %d: %s", code, errOut)
	}
	s.awaitSynced("a")
	if n := w.started(mark, "migrate"); n != 1 {
		t.Errorf("the hook was started %d times", n)
	}
	s.push("A hook in the way", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"),
		"apps/a/a.yaml": documents(configMap("a", "2"), configMap("taken", "ours", annotated(belay.AnnotationHook, "PreSync")))})
	s.awaitMessage("a", "PreSync hook not started", "was not applied by Belay", "apps/a/a.yaml:")
	if v, _ := w.value(ns, "taken"); v != "theirs" {
		t.Errorf("the foreign object is %q", v)
	}
	if v, _ := w.value(ns, "a"); v != "1" {
		t.Errorf("the object is %q although its hook is in conflict", v)
	}
}
