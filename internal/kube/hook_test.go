package kube

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay"
)

func TestHealthOfHooks(t *testing.T) {
	const pod, job = "apiVersion: v1\nkind: Pod\n", "apiVersion: batch/v1\nkind: Job\n"
	for _, tt := range []struct {
		name, manifest string
		health         belay.Health
		message        string
	}{
		{"a pod that runs and is ready", pod + `status: {phase: Running, conditions: [{type: Ready, status: "True"}]}`, belay.Progressing, "the pod is running"},
		{"a pod that is not scheduled", pod, belay.Progressing, "the pod is pending"},
		{"a pod without its image", pod + `status: {phase: Pending, containerStatuses: [{name: main, state: {waiting: {reason: ImagePullBackOff, message: m}}}]}`,
			belay.Progressing, "container main waits: ImagePullBackOff"},
		{"a pod that is done", pod + `status: {phase: Succeeded}`, belay.Healthy, ""},
		{"a pod that failed", pod + `status: {phase: Failed, initContainerStatuses: [{name: wait, state: {terminated: {exitCode: 0}}}], ` +
			`containerStatuses: [{name: main, state: {terminated: {exitCode: 3, reason: Error, message: "password hunter2"}}}]}`,
			belay.Degraded, "container main ended with code 3 (Error)"},
		{"a pod that was evicted", pod + `status: {phase: Failed, message: "The node was low on resource: memory."}`, belay.Degraded, "The node was low on resource: memory."},
		{"a pod that is deleted", "apiVersion: v1\nkind: Pod\nmetadata: {deletionTimestamp: \"2026-01-01T00:00:00Z\"}\nstatus: {phase: Succeeded}", belay.Progressing, terminating},
		{"a Job that runs", job + `status: {active: 1, startTime: "2026-01-01T00:00:00Z"}`, belay.Progressing, "active"},
		{"a Job that is done", job + `status: {succeeded: 1, conditions: [{type: Complete, status: "True"}]}`, belay.Healthy, ""},
		{"a Job that failed", job + `status: {failed: 1, conditions: [{type: FailureTarget, status: "True"}, {type: Failed, status: "True", reason: BackoffLimitExceeded, message: it tried}]}`,
			belay.Degraded, "BackoffLimitExceeded: it tried"},
		{"a Job that took too long", job + `status: {conditions: [{type: Failed, status: "True", reason: DeadlineExceeded}]}`, belay.Degraded, "DeadlineExceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := &unstructured.Unstructured{}
			j, err := yaml.YAMLToJSON([]byte(tt.manifest))
			if err != nil {
				t.Fatal(err)
			}
			if err := u.UnmarshalJSON(j); err != nil {
				t.Fatal(err)
			}
			health, message := healthOf(u)
			health, message = hookHealth(u, health, message)
			if health != tt.health || !strings.Contains(message, tt.message) || (tt.message == "") != (message == "") || strings.Contains(message, "hunter2") {
				t.Errorf("got %s %q, want %s %q", health, message, tt.health, tt.message)
			}
		})
	}
}

// What marks an object as a hook's survives the trimming, and a change of it is
// worth telling.
func TestObjectsOfHooksAreKnown(t *testing.T) {
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := &metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(made), Annotations: map[string]string{belay.AnnotationHookRun: "abc/PostSync"}}
	h := liveHook(m)
	if h == nil || *h != (belay.LiveHook{Run: "abc", Phase: belay.PostSync, Since: made}) {
		t.Errorf("got %+v", h)
	}
	if liveHook(&metav1.ObjectMeta{}) != nil {
		t.Error("an object without the mark is a hook's")
	}
	a, b := belay.Live{Hook: h}, belay.Live{Hook: &belay.LiveHook{Run: "abc", Phase: belay.PreSync, Since: made}}
	if !differs(&a, &b) || !differs(&a, &belay.Live{}) || differs(&a, &belay.Live{Hook: &belay.LiveHook{Run: "abc", Phase: belay.PostSync}}) {
		t.Error("changes of the mark are not told from others")
	}
}
