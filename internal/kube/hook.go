package kube

import (
	"cmp"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/belaydev/belay"
)

// liveHook reads what marks the object of a hook; nil for every other.
func liveHook(m *metav1.ObjectMeta) *belay.LiveHook {
	mark, ok := m.Annotations[belay.AnnotationHookRun]
	if !ok {
		return nil
	}
	h := &belay.LiveHook{Since: m.CreationTimestamp.UTC()}
	h.Run, h.Phase = belay.ParseHookRun(mark)
	h.Run = intern(h.Run)
	return h
}

func sameHook(a, b *belay.LiveHook) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Run == b.Run && a.Phase == b.Phase
}

// hookHealth is the health of something that is to end. It is that of any object,
// which is given, but for pods: one that runs is well, and not done. Of a Job the
// reason of its failure is told.
func hookHealth(u *unstructured.Unstructured, health belay.Health, message string) (belay.Health, string) {
	gvk := u.GroupVersionKind()
	switch {
	case u.GetDeletionTimestamp() != nil:
		return health, message
	case gvk.Group == "batch" && gvk.Kind == "Job" && health == belay.Degraded:
		return health, cmp.Or(jobFailure(u), message)
	case gvk.Group != "" || gvk.Kind != "Pod":
		return health, message
	}
	phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
	why := strings.Join(containerStates(u), "; ")
	switch phase {
	case "Succeeded":
		return belay.Healthy, ""
	case "Failed":
		message, _, _ := unstructured.NestedString(u.Object, "status", "message")
		return belay.Degraded, cmp.Or(why, message, "the pod failed")
	}
	return belay.Progressing, cmp.Or(why, "the pod is "+cmp.Or(strings.ToLower(phase), "pending"))
}

// jobFailure is why a Job failed: "BackoffLimitExceeded: Job has reached …".
func jobFailure(u *unstructured.Unstructured) string {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, e := range list {
		c, _ := e.(map[string]any)
		if c["type"] != "Failed" || c["status"] != "True" {
			continue
		}
		reason, _ := c["reason"].(string)
		message, _ := c["message"].(string)
		return strings.Trim(reason+": "+message, ": ")
	}
	return ""
}

// containerStates tells of each container of a pod that waits or has failed.
func containerStates(u *unstructured.Unstructured) []string {
	var out []string
	for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
		statuses, _, _ := unstructured.NestedSlice(u.Object, "status", list)
		for _, s := range statuses {
			c, _ := s.(map[string]any)
			name, _, _ := unstructured.NestedString(c, "name")
			if reason, _, _ := unstructured.NestedString(c, "state", "waiting", "reason"); reason != "" {
				out = append(out, fmt.Sprintf("container %s waits: %s", name, reason))
				continue
			}
			code, ended, _ := unstructured.NestedInt64(c, "state", "terminated", "exitCode")
			if !ended || code == 0 {
				continue
			}
			reason, _, _ := unstructured.NestedString(c, "state", "terminated", "reason")
			// Its termination message is left out: it may be the end of its log, and a log
			// may hold a password.
			out = append(out, fmt.Sprintf("container %s ended with code %d (%s)", name, code, cmp.Or(reason, "Error")))
		}
	}
	return out
}
