package stub

import "strings"

// kind is one that is served.
type kind struct {
	group, version, kind, plural string
	namespaced                   bool
}

// table has the kinds of Kubernetes: how many an API server serves decides what
// a connection to it costs. A line is a group version, then its kinds with their
// plurals where these do not follow; capital C marks what has no namespace.
const table = `
v1: ConfigMap Secret Service ServiceAccount Pod Endpoints/endpoints Event LimitRange PersistentVolumeClaim PodTemplate ReplicationController ResourceQuota ComponentStatus/componentstatuses:C Namespace:C Node:C PersistentVolume:C
apps/v1: Deployment StatefulSet DaemonSet ReplicaSet ControllerRevision
batch/v1: Job CronJob
autoscaling/v2: HorizontalPodAutoscaler
policy/v1: PodDisruptionBudget
networking.k8s.io/v1: Ingress/ingresses NetworkPolicy/networkpolicies IngressClass/ingressclasses:C IPAddress/ipaddresses:C ServiceCIDR:C
rbac.authorization.k8s.io/v1: Role RoleBinding ClusterRole:C ClusterRoleBinding:C
coordination.k8s.io/v1: Lease
discovery.k8s.io/v1: EndpointSlice
events.k8s.io/v1: Event
storage.k8s.io/v1: CSIStorageCapacity/csistoragecapacities StorageClass/storageclasses:C VolumeAttachment:C CSIDriver:C CSINode:C VolumeAttributesClass/volumeattributesclasses:C
scheduling.k8s.io/v1: PriorityClass/priorityclasses:C
node.k8s.io/v1: RuntimeClass/runtimeclasses:C
resource.k8s.io/v1: ResourceClaim ResourceClaimTemplate DeviceClass/deviceclasses:C ResourceSlice:C
admissionregistration.k8s.io/v1: MutatingWebhookConfiguration:C ValidatingWebhookConfiguration:C ValidatingAdmissionPolicy/validatingadmissionpolicies:C ValidatingAdmissionPolicyBinding:C
apiextensions.k8s.io/v1: CustomResourceDefinition:C
apiregistration.k8s.io/v1: APIService:C
certificates.k8s.io/v1: CertificateSigningRequest:C
flowcontrol.apiserver.k8s.io/v1: FlowSchema:C PriorityLevelConfiguration:C
`

var kinds = parseKinds(table)

func parseKinds(text string) []kind {
	var out []kind
	for line := range strings.Lines(text) {
		at, names, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		group, version, grouped := strings.Cut(at, "/")
		if !grouped {
			group, version = "", at
		}
		for name := range strings.FieldsSeq(names) {
			name, cluster := strings.CutSuffix(name, ":C")
			name, plural, irregular := strings.Cut(name, "/")
			if !irregular {
				plural = strings.ToLower(name) + "s"
			}
			out = append(out, kind{group: group, version: version, kind: name, plural: plural, namespaced: !cluster})
		}
	}
	return out
}

// groupList is the answer of /api or /apis in the aggregated form.
func groupList(core bool) map[string]any {
	var groups []any
	var last map[string]any
	var lastGroup string
	for _, k := range kinds {
		if (k.group == "") != core {
			continue
		}
		if last == nil || lastGroup != k.group {
			last = map[string]any{"version": k.version, "resources": []any{}, "freshness": "Current"}
			lastGroup = k.group
			groups = append(groups, map[string]any{"metadata": map[string]any{"name": k.group}, "versions": []any{last}})
		}
		scope := "Cluster"
		if k.namespaced {
			scope = "Namespaced"
		}
		last["resources"] = append(last["resources"].([]any), map[string]any{
			"resource": k.plural, "singularResource": strings.ToLower(k.kind), "scope": scope,
			"responseKind": map[string]any{"group": k.group, "version": k.version, "kind": k.kind},
			"verbs":        []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
		})
	}
	return map[string]any{"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": map[string]any{}, "items": groups}
}
