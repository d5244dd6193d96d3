package kube

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/belaydev/belay"
)

// builtInKind is a kind of Kubernetes itself whose status says more, or something
// else, than kstatus makes of it.
type builtInKind func(u *unstructured.Unstructured) (h belay.Health, message string, decided bool)

// builtInKinds leave to kstatus what they do not decide.
var builtInKinds = map[belay.Kind]builtInKind{
	{Kind: "Service"}:                              serviceHealth,
	{Kind: "Pod"}:                                  podHealth,
	{Kind: "PersistentVolumeClaim"}:                phaseHealth("Lost", "the volume that the claim was bound to is gone"),
	{Kind: "PersistentVolume"}:                     phaseHealth("Failed", "the volume could not be reclaimed"),
	{Group: "apps", Kind: "StatefulSet"}:           onDelete(statefulSetHealth),
	{Group: "apps", Kind: "DaemonSet"}:             onDelete(daemonSetHealth),
	{Group: "apps", Kind: "Deployment"}:            replicaFailure,
	{Group: "apps", Kind: "ReplicaSet"}:            replicaFailure,
	{Group: "policy", Kind: "PodDisruptionBudget"}: budgetHealth,
}

// serviceHealth waits for the address of a load balancer: what comes next is
// often a name that points at it.
func serviceHealth(u *unstructured.Unstructured) (belay.Health, string, bool) {
	if kind, _, _ := unstructured.NestedString(u.Object, "spec", "type"); kind != "LoadBalancer" {
		return "", "", false
	}
	if addresses, _, _ := unstructured.NestedSlice(u.Object, "status", "loadBalancer", "ingress"); len(addresses) > 0 {
		return "", "", false
	}
	return belay.Progressing, "the load balancer has no address yet", true
}

// hopeless are reasons of waiting containers that time alone does not mend.
var hopeless = map[string]bool{
	"ImagePullBackOff": true, "ErrImagePull": true, "InvalidImageName": true, "ErrImageNeverPull": true,
	"CrashLoopBackOff": true, "CreateContainerConfigError": true, "CreateContainerError": true,
}

// podHealth finds containers that cannot start, and pods that failed.
func podHealth(u *unstructured.Unstructured) (belay.Health, string, bool) {
	for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
		containers, _, _ := unstructured.NestedSlice(u.Object, "status", list)
		for _, e := range containers {
			c, _ := e.(map[string]any)
			name, _ := c["name"].(string)
			reason, _, _ := unstructured.NestedString(c, "state", "waiting", "reason")
			if hopeless[reason] {
				message, _, _ := unstructured.NestedString(c, "state", "waiting", "message")
				return belay.Degraded, fmt.Sprintf("container %s: %s %s", name, reason, message), true
			}
		}
	}
	if phase, _, _ := unstructured.NestedString(u.Object, "status", "phase"); phase == "Failed" {
		message, _, _ := unstructured.NestedString(u.Object, "status", "message")
		if message == "" {
			message = "the pod ended without success"
		}
		return belay.Degraded, message, true
	}
	return "", "", false
}

// phaseHealth is for kinds with a phase in which they have failed.
func phaseHealth(failed, message string) builtInKind {
	return func(u *unstructured.Unstructured) (belay.Health, string, bool) {
		phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
		return belay.Degraded, message, phase == failed
	}
}

// onDelete is for workloads whose pods somebody else replaces: those that are
// there have to be ready, however old they are.
func onDelete(of builtInKind) builtInKind {
	return func(u *unstructured.Unstructured) (belay.Health, string, bool) {
		if t, _, _ := unstructured.NestedString(u.Object, "spec", "updateStrategy", "type"); t != "OnDelete" || !observed(u) {
			return "", "", false
		}
		return of(u)
	}
}

func statefulSetHealth(u *unstructured.Unstructured) (belay.Health, string, bool) {
	want, set, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
	if !set {
		want = 1
	}
	return enough(count(u, "readyReplicas"), want)
}

func daemonSetHealth(u *unstructured.Unstructured) (belay.Health, string, bool) {
	return enough(count(u, "numberAvailable"), count(u, "desiredNumberScheduled"))
}

func enough(ready, want int64) (belay.Health, string, bool) {
	if ready < want {
		return belay.Progressing, fmt.Sprintf("Ready: %d/%d", ready, want), true
	}
	return belay.Healthy, "", true
}

func count(u *unstructured.Unstructured, field string) int64 {
	n, _, _ := unstructured.NestedInt64(u.Object, "status", field)
	return n
}

// observed reports whether a status is there and of the object as it is now.
func observed(u *unstructured.Unstructured) bool {
	n, found, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	return found && n >= u.GetGeneration()
}

// replicaFailure says why pods cannot be made, a quota or an admission rule say.
// A Deployment that does not get over it is Degraded after its deadline, by
// kstatus.
func replicaFailure(u *unstructured.Unstructured) (belay.Health, string, bool) {
	value, message := condition(u, "ReplicaFailure")
	if value != "True" || !observed(u) {
		return "", "", false
	}
	if progressing, _ := condition(u, "Progressing"); progressing == "False" {
		return belay.Degraded, message, true
	}
	return belay.Progressing, message, true
}

// budgetHealth finds budgets that cannot be worked out: they protect nothing.
func budgetHealth(u *unstructured.Unstructured) (belay.Health, string, bool) {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, e := range list {
		c, _ := e.(map[string]any)
		if c["type"] == "DisruptionAllowed" && c["reason"] == "SyncFailed" {
			message, _ := c["message"].(string)
			return belay.Degraded, message, true
		}
	}
	return "", "", false
}
