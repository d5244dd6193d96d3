package kube

import (
	"fmt"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/belaydev/belay"
)

const terminating = "is being deleted"

// metadataOnly are the kinds whose status, if they have one, says nothing of
// whether they work. All that is watched of them is their metadata; for Secrets
// and ConfigMaps that also keeps their values out of this process.
var metadataOnly = map[belay.Kind]bool{
	{Kind: "ConfigMap"}:      true,
	{Kind: "Secret"}:         true,
	{Kind: "ServiceAccount"}: true,
	{Kind: "Namespace"}:      true,
	{Kind: "Endpoints"}:      true,
	{Kind: "LimitRange"}:     true,
	{Kind: "ResourceQuota"}:  true,
	{Kind: "PodTemplate"}:    true,
	{Kind: "Node"}:           true,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicy"}:          true,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicyBinding"}:   true,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:     true,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}:        true,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"}: true,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"}:   true,
	{Group: "apps", Kind: "ControllerRevision"}:                                       true,
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}:                           true,
	{Group: "coordination.k8s.io", Kind: "Lease"}:                                     true,
	{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:                                true,
	{Group: "flowcontrol.apiserver.k8s.io", Kind: "FlowSchema"}:                       true,
	{Group: "flowcontrol.apiserver.k8s.io", Kind: "PriorityLevelConfiguration"}:       true,
	{Group: "networking.k8s.io", Kind: "IngressClass"}:                                true,
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}:                               true,
	{Group: "node.k8s.io", Kind: "RuntimeClass"}:                                      true,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}:                         true,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}:                  true,
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}:                                true,
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}:                         true,
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:                               true,
	{Group: "storage.k8s.io", Kind: "CSIDriver"}:                                      true,
	{Group: "storage.k8s.io", Kind: "StorageClass"}:                                   true,
	{Group: "storage.k8s.io", Kind: "VolumeAttributesClass"}:                          true,
}

// metadataHealth is the health of a kind that has no status.
func metadataHealth(m *metav1.ObjectMeta) (belay.Health, string) {
	if m.DeletionTimestamp != nil {
		return belay.Progressing, terminating
	}
	return belay.Healthy, ""
}

// healthOf is the health of a whole object, by the rules of kstatus and a few
// that it leaves open. The message is empty for Healthy.
func healthOf(u *unstructured.Unstructured) (belay.Health, string) {
	if u.GetDeletionTimestamp() != nil {
		return belay.Progressing, terminating
	}
	if why, ok := suspended(u); ok {
		return belay.Suspended, why
	}
	if own := builtInKinds[belay.Kind{Group: u.GroupVersionKind().Group, Kind: u.GetKind()}]; own != nil {
		if h, why, decided := own(u); decided {
			return h, why
		}
	}
	r, err := status.Compute(u)
	if err != nil {
		return belay.Unknown, "its status cannot be read: " + err.Error()
	}
	switch r.Status {
	case status.InProgressStatus, status.TerminatingStatus:
		return belay.Progressing, r.Message
	case status.FailedStatus:
		return belay.Degraded, r.Message
	case status.CurrentStatus:
		return unfinished(u)
	}
	return belay.Unknown, r.Message
}

// suspended reports what somebody asked to stand still.
func suspended(u *unstructured.Unstructured) (string, bool) {
	gvk := u.GroupVersionKind()
	var field string
	switch gvk.Group + "/" + gvk.Kind {
	case "batch/CronJob", "batch/Job":
		field = "suspend"
	case "apps/Deployment":
		field = "paused"
	default:
		return "", false
	}
	on, _, _ := unstructured.NestedBool(u.Object, "spec", field)
	return "spec." + field + " is true", on
}

// unfinished looks again at what kstatus takes for current.
func unfinished(u *unstructured.Unstructured) (belay.Health, string) {
	gvk := u.GroupVersionKind()
	switch gvk.Group + "/" + gvk.Kind {
	case "batch/Job": // kstatus is content once it has started
		if !conditionIs(u, "Complete", "True") {
			active, _, _ := unstructured.NestedInt64(u.Object, "status", "active")
			done, _, _ := unstructured.NestedInt64(u.Object, "status", "succeeded")
			return belay.Progressing, fmt.Sprintf("%d active, %d succeeded", active, done)
		}
	case "apiregistration.k8s.io/APIService":
		if !conditionIs(u, "Available", "True") {
			_, message := condition(u, "Available")
			if message == "" {
				message = "not available yet"
			}
			return belay.Progressing, message
		}
	}
	return belay.Healthy, ""
}

// established reports whether a CustomResourceDefinition is served; every other
// kind is.
func established(u *unstructured.Unstructured) bool {
	gvk := u.GroupVersionKind()
	return gvk.Group != "apiextensions.k8s.io" || gvk.Kind != "CustomResourceDefinition" || conditionIs(u, "Established", "True")
}

func conditionIs(u *unstructured.Unstructured, name, value string) bool {
	got, _ := condition(u, name)
	return got == value
}

// condition finds an entry of status.conditions.
func condition(u *unstructured.Unstructured, name string) (value, message string) {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, e := range list {
		m, _ := e.(map[string]any)
		if t, _ := m["type"].(string); t == name {
			value, _ = m["status"].(string)
			message, _ = m["message"].(string)
			return value, message
		}
	}
	return "", ""
}
