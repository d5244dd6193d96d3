package main

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/devtest"
)

// envSeed repeats one run of TestRandomWorld.
const envSeed = "BELAY_TEST_SEED"

// randomWorld drives a server with random commits, foreign edits and crashes,
// and knows what must come of them.
type randomWorld struct {
	*world
	r *rand.Rand
	s *serveProcess
	// want is what Git declares of each application: the values of its objects. An
	// application that left Git is not in it.
	want map[string]map[string]string
	// broken are applications whose files do not parse now: what is in the cluster
	// is as it was in before.
	broken map[string]map[string]string
	// suspended are applications that must not be touched, with the versions of
	// their objects.
	suspended map[string]map[string]string
	foreign   map[string]string // "ns/name" to resourceVersion
	lost      bool              // the ledger is younger than some writes
	log       []string
	points    []string
}

const randomApps, randomObjects = 5, 6

func (w *randomWorld) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// files are those of one application as Git has it.
func (w *randomWorld) files(app string) map[string]string {
	def := application(app, "apps/"+app, "NS-"+app, "  sync: {pruneLimit: {percent: 100}}\n")
	if w.suspended[app] != nil {
		def += "  suspend: {reason: a test}\n"
	}
	objects := w.want[app]
	docs := []string{configMap("anchor", "a")} // so that no commit takes all there is
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		wave := strconv.Itoa(int(name[len(name)-1]-'0') % 3)
		docs = append(docs, configMap(name, objects[name], annotated(belay.AnnotationWave, wave)))
	}
	return map[string]string{"belay/" + app + ".yaml": def, "apps/" + app + "/all.yaml": documents(docs...)}
}

// mutate makes one random commit.
func (w *randomWorld) mutate() {
	files := map[string]string{}
	for _, i := range w.r.Perm(randomApps)[:1+w.r.IntN(3)] { // each once, or a broken file would hide what came before
		app := fmt.Sprintf("app-%d", i)
		switch kind := w.r.IntN(10); {
		case w.want[app] == nil: // comes, or comes back
			w.want[app] = map[string]string{"o-0": "first"}
			w.note("add %s", app)
		case w.broken[app] != nil:
			delete(w.broken, app)
			w.note("mend %s", app)
		case w.suspended[app] != nil && kind < 5:
			delete(w.suspended, app)
			w.note("resume %s", app)
		case w.suspended[app] != nil:
			continue // what is declared meanwhile has to wait; that is another test
		case kind == 0 && len(w.want) > 2:
			for p := range w.files(app) {
				files[p] = ""
			}
			delete(w.want, app)
			w.note("remove %s", app)
			continue
		case kind == 1 && w.known(app): // else nobody can say which commit was good last
			w.broken[app] = maps.Clone(w.want[app])
			files["apps/"+app+"/all.yaml"] = "kind: [\n"
			w.note("break %s", app)
			continue
		case kind == 2 && w.known(app):
			w.suspended[app] = map[string]string{}
			w.note("suspend %s", app)
		default:
			name := fmt.Sprintf("o-%d", w.r.IntN(randomObjects))
			if _, ok := w.want[app][name]; ok && w.r.IntN(3) == 0 {
				delete(w.want[app], name)
				w.note("remove %s/%s", app, name)
			} else {
				w.want[app][name] = fmt.Sprint(w.r.IntN(1000))
				w.note("set %s/%s to %s", app, name, w.want[app][name])
			}
		}
		maps.Copy(files, w.files(app))
	}
	if len(files) > 0 {
		w.commit(w.log[len(w.log)-1], files)
	}
}

// known says whether an application stands in the cluster as Git has it. What was
// just changed by hand the server may not have seen yet.
func (w *randomWorld) known(app string) bool {
	st, err := w.s.Status(w.t.Context(), client.Filter{})
	if err != nil || wellAt(&st, app, w.repo.Resolve("main")) != nil {
		return false // it may have died
	}
	out, err := w.differencesOf(app)
	return err == nil && len(out) == 0
}

// meddle changes something in the cluster behind Belay's back.
func (w *randomWorld) meddle() {
	app := fmt.Sprintf("app-%d", w.r.IntN(randomApps))
	ns := w.ns(app)
	list, err := w.kube.CoreV1().ConfigMaps(ns).List(w.t.Context(), metav1.ListOptions{LabelSelector: belay.LabelInstance + "=" + w.instance})
	if err != nil {
		w.t.Fatal(err)
	}
	list.Items = slices.DeleteFunc(list.Items, func(cm corev1.ConfigMap) bool { return w.foreign[ns+"/"+cm.Name] != "" })
	if len(list.Items) == 0 || w.suspended[app] != nil {
		return
	}
	cm := &list.Items[w.r.IntN(len(list.Items))]
	switch w.r.IntN(5) {
	case 0:
		w.note("edit %s/%s", app, cm.Name)
		w.patchIfThere(ns, cm.Name, `{"data":{"value":"meddled"}}`)
	case 1:
		w.note("add to %s/%s", app, cm.Name)
		w.patchIfThere(ns, cm.Name, `{"data":{"extra":"meddled"},"metadata":{"labels":{"extra":"x"}}}`)
	case 2:
		// Who takes the label from an object that Git lets go of at the same time has
		// it to himself: only declared ones are labelled again.
		w.settle()
		w.note("take the label from %s/%s", app, cm.Name)
		w.patchIfThere(ns, cm.Name, `{"metadata":{"labels":{"`+belay.LabelManaged+`":null}}}`)
		w.settle()
	case 3:
		w.note("delete %s/%s", app, cm.Name)
		if err := w.kube.CoreV1().ConfigMaps(ns).Delete(w.t.Context(), cm.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			w.t.Fatal(err)
		}
	case 4:
		name := fmt.Sprintf("foreign-%d", len(w.foreign))
		w.note("make %s/%s", app, name)
		// As close to being Belay's as it can be: a copy of its label and of another's id.
		made := w.make(ns, name, "x", map[string]string{belay.LabelManaged: "true", belay.LabelInstance: w.instance},
			map[string]string{belay.AnnotationID: cm.Annotations[belay.AnnotationID]})
		w.foreign[ns+"/"+name] = made.ResourceVersion
	}
}

// patchIfThere changes an object that Git may let go of at the same time.
func (w *randomWorld) patchIfThere(ns, name, patch string) {
	_, err := w.kube.CoreV1().ConfigMaps(ns).Patch(w.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
}

// crash kills the server now or at a checkpoint that it may or may not pass, and
// starts it again, now and then with nothing on its disk.
func (w *randomWorld) crash() {
	point := w.points[w.r.IntN(len(w.points))]
	w.note("crash at %s", point)
	w.s.crashAt(point, 1+w.r.IntN(2))
	w.mutate()
	w.s.hookIfAlive()
	end := time.After(time.Duration(w.r.IntN(400)) * time.Millisecond)
	select {
	case <-w.s.exited:
	case <-end:
	}
	w.s.kill()
	if w.r.IntN(3) == 0 {
		w.note("lose the disk")
		w.loseDisk()
		w.lost = true
	}
	w.s = w.serve()
}

// hookIfAlive tells the server of a push, unless it has died.
func (s *serveProcess) hookIfAlive() { _, _ = s.Push(s.w.t.Context(), s.w.url) } // the caller sees whether it lives

// differences are what the cluster has and must not have, has not or has with
// another value.
func (w *randomWorld) differences() error {
	var out []string
	for i := range randomApps {
		more, err := w.differencesOf(fmt.Sprintf("app-%d", i))
		if err != nil {
			return err
		}
		out = append(out, more...)
	}
	if len(out) > 0 {
		return errors.New(strings.Join(out, "; "))
	}
	return nil
}

func (w *randomWorld) differencesOf(app string) (out []string, err error) {
	list, err := w.kube.CoreV1().ConfigMaps(w.ns(app)).List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	want := maps.Clone(w.want[app])
	if before := w.broken[app]; before != nil {
		want = maps.Clone(before)
	}
	if want != nil {
		want["anchor"] = "a"
	}
	for i := range list.Items {
		cm := &list.Items[i]
		key := cm.Namespace + "/" + cm.Name
		if version, ok := w.foreign[key]; ok || cm.Name == "kube-root-ca.crt" {
			if ok && version != cm.ResourceVersion {
				w.t.Fatalf("the foreign %s was touched", key)
			}
			continue
		}
		v, ok := want[cm.Name]
		switch delete(want, cm.Name); {
		case !ok:
			out = append(out, "left over: "+app+"/"+cm.Name)
		case v != cm.Data["value"]:
			out = append(out, fmt.Sprintf("%s/%s is %q, want %q", app, cm.Name, cm.Data["value"], v))
		case cm.Data["extra"] != "" || cm.Labels["extra"] != "":
			out = append(out, app+"/"+cm.Name+" has what somebody added")
		case cm.Labels[belay.LabelManaged] != "true":
			out = append(out, app+"/"+cm.Name+" lacks its label")
		}
	}
	for name := range want {
		out = append(out, "missing: "+app+"/"+name)
	}
	return out, nil
}

// versionsOf are the resourceVersions of an application's objects.
func (w *randomWorld) versionsOf(app string) map[string]string {
	list, err := w.kube.CoreV1().ConfigMaps(w.ns(app)).List(w.t.Context(), metav1.ListOptions{LabelSelector: belay.LabelInstance + "=" + w.instance})
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]string{}
	for i := range list.Items {
		if cm := &list.Items[i]; w.foreign[cm.Namespace+"/"+cm.Name] == "" {
			out[cm.Name] = cm.ResourceVersion
		}
	}
	return out
}

// settle waits until the cluster is what Git says, and looks at those who must
// not have been touched.
func (w *randomWorld) settle() {
	w.t.Helper()
	defer func() {
		if w.t.Failed() {
			w.t.Logf("the last steps: %s", strings.Join(w.log[max(0, len(w.log)-25):], "; "))
		}
	}()
	w.s.hook()
	devtest.Await(w.t, "the cluster to be what Git says", w.differences)
	for app, versions := range w.suspended {
		now := w.versionsOf(app)
		if len(versions) == 0 {
			w.suspended[app] = now
		} else if !maps.Equal(now, versions) {
			w.t.Fatalf("the suspended %s is at %v, was at %v", app, now, versions)
		}
	}
}

// Whatever is committed, changed by hand and killed, in any order: the cluster
// comes to be what Git says, nothing is deleted that Belay did not apply, nothing
// foreign is touched, and what is suspended stays as it is.
func TestRandomWorld(t *testing.T) {
	t.Parallel()
	seeds := []uint64{1, uint64(time.Now().UnixNano())}
	if s := os.Getenv(envSeed); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{n}
	}
	for i, seed := range seeds {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			t.Logf("to repeat this run, set %s=%d", envSeed, seed)
			base := newWorld(t)
			w := &randomWorld{world: base, r: rand.New(rand.NewPCG(seed, seed)), want: map[string]map[string]string{},
				broken: map[string]map[string]string{}, suspended: map[string]map[string]string{}, foreign: map[string]string{}}
			for _, p := range crashPoints {
				w.points = append(w.points, p.name)
			}
			files := map[string]string{}
			for i := range randomApps {
				app := fmt.Sprintf("app-%d", i)
				w.want[app] = map[string]string{"o-0": "0", "o-1": "1"}
				maps.Copy(files, w.files(app))
			}
			w.commit("The beginning", files)
			mark := w.cp.Mark(t)
			w.s = w.serve()
			w.settle()
			for range 25 {
				for range 1 + w.r.IntN(3) {
					switch k := w.r.IntN(10); {
					case k < 5:
						w.mutate()
						w.s.hook()
					case k < 9:
						w.meddle()
					default:
						w.crash()
					}
				}
				w.settle()
			}
			w.checkDeletes(mark)
			w.s.stop()
			w.checkRecord("after all", w.writes(mark), w.lost)
		})
	}
}

// checkDeletes makes sure that only what was applied was ever deleted.
func (w *randomWorld) checkDeletes(since devtest.Mark) {
	w.t.Helper()
	applied, deletes := map[string]bool{}, 0
	for _, r := range w.writes(since) {
		key := r.Resource + " " + r.Namespace + "/" + r.Name
		switch r.Verb {
		case "patch":
			applied[key] = true // of who died before the answer came, the outcome is not in the log
		case "delete":
			deletes++
			if !applied[key] {
				w.t.Errorf("deleted without having been applied: %s", r)
			}
		}
	}
	if deletes == 0 {
		w.t.Error("nothing was deleted at all")
	}
}
